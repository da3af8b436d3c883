"""Objects: bodies in a bucket of JetStream's object store, as NATS's own clients read and write them (ADR-20).

A bucket is a stream. An object is its chunks, on a subject of its own, and behind them one message that describes it:
what has no description is no object, so it is there whole or not at all.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from eventmicro.errors import BodyMissing, Disconnected, NotAllPublished
from eventmicro.large import StoredObject
from eventmicro.message import Message
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.jetstream.api import MESSAGE_NOT_FOUND, STREAM_EXISTS, STREAM_NOT_FOUND, Api, ApiError
from eventmicro_nats.jetstream.keeping import NANO
from eventmicro_nats.jetstream.publishing import Publisher
from eventmicro_nats.jetstream.replies import Replies
from eventmicro_nats.settings import JetStreamSettings

# How long a chunk is, in bytes, as other clients make them, unless the server takes less; and what goes with it.
CHUNK = 128 * 1024
BESIDE = 1024
# How many chunks are on their way at a time.
AT_ONCE = 16
# How long reading one chunk may take, in seconds.
FETCH_TIMEOUT = 5.0
# For how long the server knows the id of a chunk, so that one that is sent again is stored once, in seconds.
WINDOW = 120
_ROLLUP = {"Nats-Rollup": "sub"}


class Objects:
    """What one connection does with its bucket.

    Args:
        driver: gives the connection of the moment, or raises Disconnected.
        ready_driver: gives it when it stands and can take more, for a subject and within so many seconds.
    """

    def __init__(
        self,
        api: Api,
        replies: Replies,
        driver: Callable[[], Driver],
        ready_driver: Callable[[str, float], Awaitable[Driver]],
        settings: JetStreamSettings,
    ) -> None:
        self._api = api
        self._driver = driver
        self._bucket = Bucket(api, settings)
        self._loop = asyncio.get_running_loop()
        window = min(WINDOW, settings.object_ttl or WINDOW)
        self._publisher = Publisher(driver, replies, self._bucket, ready_driver, settings.outgoing_bytes, window)

    def fits(self, message: Message) -> bool:
        """Whether an event is surely no larger than the server takes."""
        headers = sum(len(name) + len(value) + 4 for name, value in (message.headers or {}).items())
        return len(message.body) + 4 * headers + len(message.id or "") + BESIDE <= self._driver().max_payload

    async def store(self, body: bytes, digest: str, timeout: float) -> StoredObject:
        """See `eventmicro.broker.StoresObjects.store_object`."""
        deadline = self._loop.time() + timeout
        name, number = secrets.token_hex(16), secrets.token_hex(11)
        size = min(CHUNK, max(1, self._driver().max_payload - BESIDE))
        chunks, starts = self._bucket.chunks(number), range(0, len(body), size)
        for first in range(0, len(starts), AT_ONCE):
            group = [Message(chunks, body[start : start + size]) for start in starts[first : first + AT_ONCE]]
            await self._publish(group, deadline)
        about = {
            "name": name,
            "bucket": self._bucket.name,
            "nuid": number,
            "size": len(body),
            "chunks": len(starts),
            "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(digest)).decode(),
            "mtime": datetime.now(UTC).isoformat(),
            "options": {"max_chunk_size": size},
        }
        description = Message(self._bucket.description(self._bucket.name, name), json.dumps(about).encode(), _ROLLUP)
        await self._publish([description], deadline)
        return StoredObject(self._bucket.name, name, len(body), digest)

    async def _publish(self, messages: list[Message], deadline: float) -> None:
        try:
            await self._publisher.publish_many(messages, deadline - self._loop.time())
        except NotAllPublished as error:
            raise error.failed[min(error.failed)] from None

    async def fetch(self, stored: StoredObject) -> bytes:
        """See `eventmicro.broker.StoresObjects.fetch_object`."""
        if not _is_name(stored.bucket):
            raise BodyMissing("without its body: the bucket that it names is none")
        subject = self._bucket.description(stored.bucket, stored.name)
        found = await self._ask(stored, {"last_by_subj": subject})
        try:
            about = json.loads(base64.b64decode(found.get("data", "")))
            number, count = str(about["nuid"]), int(about["chunks"])
            is_gone = bool(about.get("deleted"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BodyMissing(f"without its body: object {stored.name} is described in no known way") from None
        if is_gone or not _is_name(number):
            raise self._missing(stored)
        return await self._read(stored, self._bucket.chunks(number, stored.bucket), count)

    async def _read(self, stored: StoredObject, subject: str, count: int) -> bytes:
        body, sequence = bytearray(), 0
        for _ in range(count):
            found = await self._ask(stored, {"seq": sequence + 1, "next_by_subj": subject})
            sequence = int(found["seq"])
            body += base64.b64decode(found.get("data", ""))
            if len(body) > stored.size:
                raise BodyMissing(f"without its body: object {stored.name} is longer than the event says")
        return bytes(body)

    async def _ask(self, stored: StoredObject, which: dict[str, Any]) -> dict[str, Any]:
        """A message of the bucket's stream.

        Raises:
            BodyMissing: it is not there.
            Disconnected, UsageError: it could not be read now.
        """
        what, deadline = f"STREAM.MSG.GET.OBJ_{stored.bucket}", self._loop.time() + FETCH_TIMEOUT
        try:
            answer = await self._api.call(what, which, deadline=deadline)
        except ApiError as error:
            if error.number in (MESSAGE_NOT_FOUND, STREAM_NOT_FOUND):
                raise self._missing(stored) from None
            raise Disconnected(f"bucket {stored.bucket}: {error}") from None
        return answer["message"]  # type: ignore[no-any-return]

    def _missing(self, stored: StoredObject) -> BodyMissing:
        name, bucket = stored.name[:100], stored.bucket
        return BodyMissing(f"without its body: object {name} is not there any more in bucket {bucket}")


class Bucket:
    """The stream that keeps objects, made when it is first needed."""

    def __init__(self, api: Api, settings: JetStreamSettings) -> None:
        self.name = settings.object_bucket
        self._api = api
        self._settings = settings
        self._is_there = False
        self._having = asyncio.Lock()

    def chunks(self, number: str, bucket: str = "") -> str:
        """The subject of the chunks of one object."""
        return f"$O.{bucket or self.name}.C.{number}"

    def description(self, bucket: str, name: str) -> str:
        """The subject of what describes one object."""
        return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    @property
    def fixed(self) -> bool:
        """Whether it is not to be made from here."""
        return self._settings.declare != "true"

    def __contains__(self, subject: str) -> bool:
        return self._is_there

    def forget(self, subject: str) -> None:
        """It may be gone."""
        self._is_there = False

    def id_lifetime(self, subject: str) -> float:
        """As it is made from here."""
        return self._settings.object_ttl or WINDOW

    def name_of(self, subject: str) -> str:
        """The stream that it is kept in."""
        return f"OBJ_{self.name}"

    async def of(self, subject: str, deadline: float) -> str:
        """Have it, and return the name of its stream.

        Raises:
            ApiError, NotAllowed, NoJetStream, Disconnected: it is not there, and could not be made.
        """
        stream = self.name_of(subject)
        async with self._having:
            if not self._is_there:
                await self._make(stream, deadline)
                self._is_there = True
        return stream

    async def _make(self, stream: str, deadline: float) -> None:
        try:
            await self._api.call(f"STREAM.INFO.{stream}", deadline=deadline)
            return
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND or self.fixed:
                raise
        try:
            await self._api.call(f"STREAM.CREATE.{stream}", self._config(stream), deadline=deadline)
        except ApiError as error:
            if error.number != STREAM_EXISTS:  # somebody else has made it just now
                raise

    def _config(self, stream: str) -> dict[str, Any]:
        settings = self._settings
        return {
            "name": stream,
            "description": "bodies of events that are too large, written by eventmicro",
            "subjects": [f"$O.{self.name}.C.>", f"$O.{self.name}.M.>"],
            "retention": "limits",
            "discard": "new",
            "storage": settings.storage,
            "num_replicas": settings.replicas,
            "max_age": int(settings.object_ttl * NANO),
            "duplicate_window": int(min(WINDOW, settings.object_ttl or WINDOW) * NANO),
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": settings.object_bytes,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }


def _is_name(text: str) -> bool:
    """Whether it can stand in a subject as one token."""
    return text.replace("_", "").replace("-", "").isalnum() and text.isascii()
