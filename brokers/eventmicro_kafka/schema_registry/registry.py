"""SchemaRegistry: which schema has which number, asked of a registry once and kept, within a bound."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request

from eventmicro.checks import check_count, check_seconds
from eventmicro.codec import Codec, NotReady
from eventmicro.errors import DecodeError, Disconnected, UsageError
from eventmicro_kafka.connection.asking import open_url
from eventmicro_kafka.schema_registry.framing import SchemaKey

T = TypeVar("T")

# How large an answer may be, in bytes.
LONGEST = 16_000_000
# For how long what a registry does not have is not asked for again, in seconds.
ABSENT_FOR = 5.0
_TYPE = "application/vnd.schemaregistry.v1+json"


class Reference(NamedTuple):
    """A schema that another one uses, under this name."""

    name: str
    subject: str
    version: int


class Schema(NamedTuple):
    """A schema as the registry has it; `kind` is AVRO, JSON or PROTOBUF."""

    text: str
    kind: str
    references: tuple[Reference, ...]


class Missing(NotReady):
    """Something of the registry that is to be fetched first."""

    def __init__(self, fetching: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._fetching = fetching

    async def fetch(self) -> None:
        await self._fetching()


class SchemaRegistry:
    """A schema registry that speaks Confluent's HTTP interface, as Confluent's, Karapace, Redpanda and Apicurio do.

    It makes codecs, for one topic each: `Topic("orders", Order, codec=registry.avro("orders-value"))`. It is asked for
    each schema once, beside the event loop, and not at all for events whose schema is known.

    Args:
        url: where it is, `http://host:8081`; several in a list are tried in turn.
        user, password: who to log in as; or
        token: the token to show.
        timeout: how long one answer may take, in seconds.
        max_schemas: how many schemas are kept here; those that were used longest ago are asked for again.

    Raises:
        UsageError: one of these cannot be.
    """

    def __init__(
        self,
        url: str | list[str],
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        timeout: float = 5.0,
        max_schemas: int = 1000,
    ) -> None:
        self.urls = [each.rstrip("/") for each in ([url] if isinstance(url, str) else url)]
        for each in self.urls:
            parts = urlsplit(each)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise UsageError("url: write http://host:8081 or https://…; user and password are arguments beside it")
        if not self.urls:
            raise UsageError("url: write http://host:8081")
        if (user is None) != (password is None) or (user is not None and token is not None):
            raise UsageError("user and password belong together, or token is there in their place")
        check_seconds("timeout", timeout)
        check_count("max_schemas", max_schemas)
        self._timeout = timeout
        self._most = max_schemas
        self._authorization = f"Bearer {token}" if token is not None else None
        if user is not None:
            self._authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._absent: OrderedDict[Hashable, tuple[float, DecodeError]] = OrderedDict()
        self._fetching: dict[tuple[object, Hashable], asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"SchemaRegistry({', '.join(self.urls)})"

    # -- codecs ------------------------------------------------------------------------------------------------

    def avro(self, subject: str, schema: Any = None, *, register: bool = False) -> Codec:
        """A codec for events in Avro; pydantic reads and writes what is in them. Needs `eventmicro[schema-registry]`.

        Args:
            subject: the schema's subject in the registry, as other clients name it: `<topic>-value` in most.
            schema: what is written by, as a dict or as text; default: the latest of the subject.
            register: whether `schema` is put into the registry where it is not there; default: it has to be there.
        """
        from eventmicro_kafka.schema_registry.avro import AvroCodec

        return AvroCodec(self, subject, schema, register)

    def json(self, subject: str, schema: Any = None, *, register: bool = False) -> Codec:
        """The same in JSON; with `register` and no `schema` that of the topic's type is put there."""
        from eventmicro_kafka.schema_registry.json import JsonCodec

        return JsonCodec(self, subject, schema, register)

    def protobuf(self, subject: str, *, register: bool = False) -> Codec:
        """The same in protobuf; with `register` the file of the topic's message is put there."""
        from eventmicro_kafka.schema_registry.protobuf import ProtobufCodec

        return ProtobufCodec(self, subject, register)

    # -- what codecs ask ---------------------------------------------------------------------------------------

    def known(self, what: Hashable, fetch: Callable[[], Awaitable[Any]]) -> Any:
        """What was fetched before.

        Raises:
            Missing: it was not, or is not kept any more; awaiting it fetches it.
            DecodeError: it was not there, a moment ago.
        """
        if what in self._absent:
            until, error = self._absent[what]
            if time.monotonic() < until:
                raise DecodeError(str(error))
            del self._absent[what]
        try:
            self._known.move_to_end(what)
        except KeyError:
            raise Missing(lambda: self._keep(what, fetch)) from None
        return self._known[what]

    async def schema(self, key: SchemaKey) -> Schema:
        """A schema by its number, or by its id.

        Raises:
            DecodeError: the registry has none of this name.
            Disconnected: it does not answer, or not now.
        """
        path = f"/schemas/ids/{key}" if isinstance(key, int) else f"/schemas/guids/{key}"
        found = await self.ask(path)
        if found is None:
            raise DecodeError(f"written by schema {key}, which is not in {self!r}")
        return _read_schema(found)

    async def version(self, subject: str, version: int | str) -> tuple[int, Schema]:
        """The number of a version of a subject, and the schema; errors as of `ask`.

        Raises:
            UsageError: there is none.
        """
        found = await self.ask(f"/subjects/{quote(subject, safe='')}/versions/{version}")
        if found is None:
            raise UsageError(f"{self!r} has no subject {subject!r}, or not this version of it ({version}): register a "
                             "schema there, or give one with register=True")  # fmt: skip
        return int(found["id"]), _read_schema(found)

    async def number(self, subject: str, schema: Schema, *, register: bool) -> int:
        """The number of a schema under a subject, where it may be put first; errors as of `ask`.

        Raises:
            UsageError: it is not there, or the registry does not take it.
        """
        about: dict[str, Any] = {"schema": schema.text}
        if schema.kind != "AVRO":
            about["schemaType"] = schema.kind
        path = f"/subjects/{quote(subject, safe='')}" + ("/versions" if register else "")
        found = await self.ask(path, about)
        if found is None:
            raise UsageError(f"{self!r} does not have this schema under {subject!r}: register it, or say register=True")
        return int(found["id"])

    async def ask(self, path: str, body: Any = None) -> Any:
        """The registry's answer; None: there is no such thing.

        Raises:
            Disconnected: it does not answer, or not now.
            UsageError: it refuses what it was given.
        """
        trouble = ""
        for url in self.urls:
            try:
                return await asyncio.to_thread(self._ask, url + path, body)
            except (OSError, ValueError) as error:
                trouble = f"{url}: {getattr(error, 'reason', error)}"
        raise Disconnected(f"the schema registry does not answer: {trouble}")

    async def _keep(self, what: Hashable, fetch: Callable[[], Awaitable[Any]]) -> None:
        """Fetch it, once for all who wait for it on this event loop."""
        key = (asyncio.get_running_loop(), what)
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._fetch(what, fetch), name="eventmicro schema")
            task.add_done_callback(lambda done: (self._fetching.pop(key), done.cancelled() or done.exception()))
        await asyncio.shield(task)

    async def _fetch(self, what: Hashable, fetch: Callable[[], Awaitable[Any]]) -> None:
        try:
            self._known[what] = await fetch()
        except DecodeError as error:
            self._absent[what] = (time.monotonic() + ABSENT_FOR, error)
            raise
        finally:
            for kept in (self._known, self._absent):
                while len(kept) > self._most:
                    kept.popitem(last=False)

    def _ask(self, url: str, body: Any) -> Any:
        headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        data = None if body is None else json.dumps(body).encode()
        try:
            with open_url(Request(url, data, headers), timeout=self._timeout) as answer:  # noqa: S310  checked above
                return json.loads(answer.read(LONGEST))
        except HTTPError as error:
            with error:
                said = error.read(1000).decode("utf-8", "replace")
            if error.code == 404:
                return None
            if error.code in (409, 422):
                raise UsageError(f"{self!r} refuses the schema: {said[:300]}") from None
            raise URLError(f"{error.code} {error.reason}") from None


def _read_schema(found: Any) -> Schema:
    references = tuple(
        Reference(each["name"], each["subject"], each["version"]) for each in found.get("references") or ()
    )
    return Schema(found["schema"], found.get("schemaType") or "AVRO", references)
