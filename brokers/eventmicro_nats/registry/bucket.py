"""Bucket: records in a JetStream KV bucket, one a node under `<service>.<node>`, each with a TTL.

The bucket says when a record has ended, by limit markers, so that a watch hears of it. A record is renewed by writing
it again, which is one request; whoever watches knows by its bytes that nothing has changed.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator
from math import ceil
from typing import Any

from eventmicro.errors import Disconnected, Unavailable, UsageError
from eventmicro.registry import Change, ServiceRecord
from eventmicro.roster import Key, Reader, Roster, gone, snapshot
from eventmicro_nats.connection.headers import read_headers
from eventmicro_nats.jetstream.api import (
    MESSAGE_NOT_FOUND,
    NOT_ENABLED,
    STREAM_EXISTS,
    STREAM_NOT_FOUND,
    ApiError,
    Nobody,
    NoJetStream,
    read_error,
)
from eventmicro_nats.jetstream.replies import NoAnswer, Refused
from eventmicro_nats.registry.feed import NANO, Entry, Feed
from eventmicro_nats.registry.line import Line

# How long the mark of an end stays, in seconds: who watches must have heard of it before.
MARKER = 300
# How much later than due a record is looked for that was neither renewed nor said to have ended, in seconds.
GRACE = 2.0
# How often it is looked whether a server of a cluster has told all, each time that it says nothing more.
CHECKS = 4
# The first version of the server that keeps a TTL for each message.
SINCE = (2, 11)
TTL = "Nats-TTL"
_DELETE = {"KV-Operation": "DEL", TTL: f"{MARKER}s"}
# Headers of what is no record, but says that there is none.
_MARKS = ("KV-Operation", "Nats-Marker-Reason")


class NotMade(NoJetStream):
    """There is no bucket, and the server makes none: this account has no room for a stream, as a rule."""


class Bucket:
    """What one registry does with its bucket."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._name = line.broker.settings.registry_bucket
        self._stream = f"KV_{self._name}"
        self._prefix = f"$KV.{self._name}."
        self._reader = Reader(line.url)
        self._having = asyncio.Lock()

    async def have(self) -> None:
        """Make the bucket if it is not there.

        Raises:
            NoJetStream, NotAllowed, Nobody: this server cannot keep one, or not for us.
            UsageError: there is one that cannot keep what is promised.
            Unavailable: that cannot be known now.
        """
        version = str(self._line.check().info.get("version", ""))
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < SINCE:
            raise NoJetStream(f"nats-server {version} keeps no TTL: the registry's bucket needs 2.11")
        async with self._having:
            try:
                self._check(await self._look_up())
            except ApiError as error:
                if error.number in NOT_ENABLED:
                    raise NoJetStream(str(error)) from None
                raise UsageError(f"registry bucket {self._name}: {error}") from None

    async def put(self, service: ServiceRecord, ttl: float) -> None:
        """Write the record of one node."""
        key = f"{service.name}.{service.nodes[0].id}"
        await self._write(key, service.model_dump_json().encode(), {TTL: f"{max(1, ceil(ttl))}s"})

    async def remove(self, name: str, node: str) -> None:
        """Forget a node."""
        await self._write(f"{name}.{node}", b"", _DELETE)

    async def roster(self, name: str | None) -> Roster:
        """Who is there, under one name or at all."""
        return await snapshot(self.look(name))

    async def look(self, name: str | None) -> AsyncGenerator[Change, None]:
        """See `eventmicro.roster.look_again`."""
        pattern = f"{self._prefix}{name or '*'}.*"
        feed, due, seen = Feed(self._line, self._stream, pattern), Due(), set[str]()
        try:
            await self._open(feed)
            checks = CHECKS
            while True:
                entry = await feed.next()
                if entry is not None:
                    if checks:
                        seen.add(entry.subject)
                    if (change := self._read(entry, due)) is not None:
                        yield change
                elif checks:
                    checks = await self._check_whole(pattern, seen, checks)
                    if not checks:
                        yield Change("synced")
                for key in due.overdue():
                    if await self._has_ended(key):
                        due.forget(key)
                        yield gone(*key)
                    else:
                        due.again(key)
        finally:
            feed.close()

    async def retire(self) -> None:
        """It is used no more; nothing of it is left open."""

    # -- within ------------------------------------------------------------------------------------------------

    async def _open(self, feed: Feed) -> None:
        try:
            await feed.open()
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND:
                raise Unavailable(f"registry bucket {self._name}: {error}", id=self._line.url) from None
            await self.have()
            raise Unavailable(f"registry bucket {self._name} was gone", id=self._line.url) from None
        except Disconnected as error:
            raise Unavailable(str(error), id=self._line.url) from None

    async def _check_whole(self, pattern: str, seen: set[str], checks: int) -> int:
        """How many times more it is to be looked whether all that is there has come: 0 where it has.

        In a cluster what comes may be of a server that was away and is still behind.
        """
        if "cluster" not in self._line.check().info:
            return 0
        found = await self._ask(f"STREAM.INFO.{self._stream}", {"subjects_filter": pattern})
        if found is None or seen.issuperset(found["state"].get("subjects") or ()):
            return 0
        if checks == 1:
            raise Unavailable(f"registry bucket {self._name}: a server of the cluster is behind", id=self._line.url)
        return checks - 1

    def _read(self, entry: Entry, due: Due) -> Change | None:
        """What an entry says; None where it is no record, or the same as before."""
        name, _, node = entry.subject.removeprefix(self._prefix).partition(".")
        if any(mark in entry.headers for mark in _MARKS):
            due.forget((name, node))
            return gone(name, node)
        if due.renew((name, node), entry):
            return None
        record = self._reader.read(entry.subject, entry.body)
        if record is None or record.name != name or [each.id for each in record.nodes] != [node]:
            return gone(name, node)
        return Change("create", record)

    async def _has_ended(self, key: Key) -> bool:
        """Whether a record is gone of whose end nobody has told, as after a purge."""
        what, subject = f"STREAM.MSG.GET.{self._stream}", f"{self._prefix}{'.'.join(key)}"
        found = await self._ask(what, {"last_by_subj": subject})
        if found is None:
            return True
        headers = read_headers(base64.b64decode(found["message"].get("hdrs", ""))) or {}
        return any(mark in headers for mark in _MARKS)

    async def _ask(self, what: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """What is answered; None: there is no such message."""
        try:
            return await self._line.api.call(what, arguments, deadline=self._line.deadline())
        except ApiError as error:
            if error.number == MESSAGE_NOT_FOUND:
                return None
            raise Unavailable(f"registry bucket {self._name}: {error}", id=self._line.url) from None
        except (Disconnected, UsageError) as error:
            raise Unavailable(str(error), id=self._line.url) from None

    async def _write(self, key: str, body: bytes, headers: dict[str, str]) -> None:
        subject = self._prefix + key
        answer = await self._line.ask(subject, body, headers)
        if answer is NoAnswer.NOBODY:  # the bucket is gone, or was never there
            await self.have()
            answer = await self._line.ask(subject, body, headers)
        if isinstance(answer, Refused):
            raise UsageError(f"{self._line.url}: {answer}")
        if isinstance(answer, NoAnswer):
            raise Unavailable(f"registry bucket {self._name}: {answer.value}", id=self._line.url)
        if (error := read_error(answer)) is not None:
            if error.number == NO_TTLS:  # others have made it anew: it is said what it lacks, and how to mend it
                await self.have()
            raise self._error(error)

    def _error(self, error: ApiError) -> Exception:
        text = f"registry bucket {self._name}: {error}"
        return UsageError(text) if error.number in _FAULTS else Unavailable(text, id=self._line.url)

    async def _look_up(self) -> dict[str, Any]:
        """How the bucket is made, from now on at the latest."""
        try:
            return await self._call("STREAM.INFO")
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND:
                raise
        try:
            return await self._call("STREAM.CREATE", self._config())
        except ApiError as error:
            if error.number in NOT_ENABLED:
                raise
            if error.number != STREAM_EXISTS:  # somebody else has made it just now
                raise NotMade(f"the bucket {self._name} could not be made: {error}") from None
        return await self._call("STREAM.INFO")

    async def _call(self, what: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = await self._line.api.call(f"{what}.{self._stream}", arguments, deadline=self._line.deadline())
        except Nobody:
            raise
        except Disconnected as error:
            raise Unavailable(str(error), id=self._line.url) from None
        return answer["config"]  # type: ignore[no-any-return]

    def _check(self, config: dict[str, Any]) -> None:
        """Refuse a bucket that would keep a record for ever, or not tell of its end."""
        lacking = [] if config.get("allow_msg_ttl") else ["allow_msg_ttl"]
        if config.get("subject_delete_marker_ttl", 0) < NANO:
            lacking.append("subject_delete_marker_ttl")
        if config.get("max_msgs_per_subject") != 1:  # with a history the server raises each TTL to that of its markers
            lacking.append("max_msgs_per_subject=1")
        if f"{self._prefix}>" not in (config.get("subjects") or ()):
            lacking.append(f"the subject {self._prefix}>")
        if lacking:
            raise UsageError(
                f"the bucket {self._name} was made by others and cannot keep a registry, for it lacks "
                f"{' and '.join(lacking)}: set registry_bucket to another name, or make it as "
                f"`nats kv add {self._name} --marker-ttl {MARKER}s` does"
            )

    def _config(self) -> dict[str, Any]:
        settings = self._line.broker.settings
        return {
            "name": self._stream,
            "description": "who is there, written by eventmicro",
            "subjects": [f"{self._prefix}>"],
            "retention": "limits",
            "discard": "new",
            "storage": settings.registry_storage,
            "num_replicas": settings.registry_replicas,
            "max_msgs_per_subject": 1,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": settings.registry_bytes,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": MARKER * NANO,
        }


# No TTLs here, a TTL that is none, a message that is too large: it is no better the next time.
NO_TTLS = 10166
_FAULTS = frozenset({NO_TTLS, 10165, 10054})


class Due:
    """When each record that has come ends unless it is renewed, by this process's clock."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._known: dict[Key, tuple[int, float, float]] = {}
        self._looked = self._now()

    def renew(self, key: Key, entry: Entry) -> bool:
        """It has come; whether just so as the last time."""
        ttl = entry.headers.get(TTL, "").removesuffix("s")
        seconds = float(ttl) if ttl.isdigit() else float("inf")
        content = hash(entry.body)
        former = self._known.get(key)
        self._known[key] = content, seconds, self._now() + seconds
        return former is not None and former[0] == content

    def again(self, key: Key) -> None:
        """It was looked for, and is there."""
        content, seconds, _ = self._known[key]
        self._known[key] = content, seconds, self._now() + seconds

    def forget(self, key: Key) -> None:
        """It has ended."""
        self._known.pop(key, None)

    def overdue(self) -> list[Key]:
        """Who should have been heard of since long; they are looked for once a while only."""
        now = self._now()
        if now < self._looked + GRACE / 2:
            return []
        self._looked = now
        return [key for key, (_, _, end) in self._known.items() if end + GRACE < now]
