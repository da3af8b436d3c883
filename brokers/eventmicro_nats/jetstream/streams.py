"""Which stream keeps a subject: looked up, declared or checked, as the setting `declare` says.

A stream that covers a subject already, made by whoever runs the server, is used as it is. Every other subject goes into
one stream of ours, by its exact name: a wildcard there could capture the requests of RPC, whose callers would get the
stream's confirmation for an answer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from math import ceil
from typing import Any

from eventmicro.errors import Disconnected, UsageError
from eventmicro_nats.connection.subjects import covers
from eventmicro_nats.jetstream.api import (
    STREAM_EXISTS,
    STREAM_NOT_FOUND,
    SUBJECTS_OVERLAP,
    Api,
    ApiError,
    NotAllowed,
    Silent,
)
from eventmicro_nats.jetstream.keeping import (
    NANO,
    check_other,
    check_own,
    marked,
    placeholder,
    said,
    set_otherwise,
    stream_config,
)
from eventmicro_nats.settings import JetStreamSettings

log = logging.getLogger(__name__)

# After how many seconds the lock of a process that died with it is taken away; what it guards takes milliseconds.
LOCK_LIFETIME = 5.0
LOCK_PAUSE = 0.02
# How many subjects are remembered, so that a lookup is not needed again.
REMEMBERED = 10_000


class Streams:
    """The streams of one connection."""

    def __init__(self, api: Api, settings: JetStreamSettings) -> None:
        self._api = api
        self._settings = settings
        self._found: OrderedDict[str, str] = OrderedDict()
        self._wanted: set[str] = set()
        self._seen: set[str] = set()
        self._adding = asyncio.Lock()

    def __contains__(self, subject: str) -> bool:
        return subject in self._found

    @property
    def fixed(self) -> bool:
        """Whether nothing is looked up or made."""
        return self._settings.declare == "false"

    def forget(self, subject: str) -> None:
        """Look again next time: its stream may be gone."""
        self._found.pop(subject, None)

    async def of(self, subject: str, deadline: float) -> str:
        """The name of the stream that keeps this subject, which is made to where that is allowed.

        Raises:
            UsageError: none does, and none is to be made; or it is made otherwise than set.
        """
        stream = self._found.get(subject)
        if stream is None:
            wild = "*" in subject.split(".") or subject.endswith(">")
            find = self._find_for_wildcard if wild else self._find
            async with _bounded(subject, deadline):
                stream = self._settings.stream if self.fixed else await find(subject, deadline)
            self._found[subject] = stream
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        return stream

    async def there(self, subject: str, deadline: float) -> list[str]:
        """The streams that have this subject, or some of what matches it, by now."""
        async with _bounded(subject, deadline):
            return [] if self.fixed else await self._names(subject, deadline)

    async def remember_ids(self, stream: str, seconds: float, deadline: float) -> None:
        """Make sure that this stream knows an event's id for that long.

        Raises:
            UsageError: it forgets earlier, and may not be changed from here.
        """
        if self.fixed:
            return
        config = await self._config_of(stream, deadline)
        window, wanted = config["duplicate_window"], int(seconds * NANO)
        if window >= wanted:
            return
        if stream != self._settings.stream or self._settings.declare == "check":
            raise UsageError(
                f"stream {stream} knows ids for {window / NANO:g} s, dedupe needs {seconds:g} s: "
                f"nats stream edit {stream} --dupe-window {ceil(seconds)}s"
            )
        if 0 < config["max_age"] < wanted:
            raise UsageError(f"stream {stream} keeps events for max_age={config['max_age'] / NANO:g} s, dedupe asks")
        async with _bounded(stream, deadline), self._lock(deadline):
            config = await self._config_of(stream, deadline)  # looked at under the lock: others change it, too
            if config["duplicate_window"] < wanted:
                await self._update(config | {"duplicate_window": wanted}, deadline)

    async def _find(self, subject: str, deadline: float) -> str:
        names = await self._names(subject, deadline)
        if self._settings.stream in names:
            await self._own_config(deadline)
        elif names:
            await self._look_at(names[0], deadline)
        if names:
            return names[0]
        if self._settings.declare == "check":
            raise UsageError(f"no stream keeps {subject}: {self._how_to_make(subject)}, or set declare=true")
        return await self._add(subject, deadline)

    async def _find_for_wildcard(self, pattern: str, deadline: float) -> str:
        """The one stream that has all that matches; ours, where no other has any of it."""
        own = self._settings.stream
        others = [name for name in await self._names(pattern, deadline) if name != own]
        for name in others:
            config = await self._config_of(name, deadline)
            if any(covers(subject, pattern) for subject in config.get("subjects") or ()):
                self._check_other(config)
                return name
        if others:
            raise UsageError(
                f"what matches {pattern} is in several streams ({', '.join(others)}, and {own} for the rest): "
                "subscribe to each subject, or let one stream keep all of it"
            )
        if self._settings.declare == "check":
            if not await self._own_config(deadline):
                raise UsageError(f"there is no stream {own}: {self._how_to_make(pattern)}, or set declare=true")
            return own
        return await self._add(placeholder(own), deadline)

    async def _names(self, subject: str, deadline: float) -> list[str]:
        answer = await self._api.call("STREAM.NAMES", {"subject": subject}, deadline=deadline)
        return answer.get("streams") or []

    async def _add(self, subject: str, deadline: float) -> str:
        """Put a subject into our stream, and with it all that others here wait to put in."""
        own = self._settings.stream
        self._wanted.add(subject)
        try:
            async with self._adding:
                if subject in self._wanted:
                    wanted = sorted(self._wanted)
                    async with self._lock(deadline):
                        while missing := await self._missing(wanted, deadline):
                            await self._put_in(missing, deadline)
                    self._wanted.difference_update(wanted)
        finally:
            self._wanted.discard(subject)
        return own

    async def _missing(self, wanted: Sequence[str], deadline: float) -> list[str]:
        config = await self._own_config(deadline) or {}
        there = config.get("subjects") or ()
        return [subject for subject in wanted if not any(covers(has, subject) for has in there)]

    async def _put_in(self, subjects: Sequence[str], deadline: float) -> None:
        config = await self._own_config(deadline)
        try:
            if config is None:
                await self._create(sorted({placeholder(self._settings.stream), *subjects}), deadline)
            else:
                await self._update(marked(config) | {"subjects": [*config["subjects"], *subjects]}, deadline)
        except ApiError as error:
            if error.number == STREAM_EXISTS:
                return  # somebody else has just made it: look again
            if error.number == SUBJECTS_OVERLAP:
                raise UsageError(f"one of {', '.join(subjects)} is in another stream already: {error}") from error
            raise UsageError(f"stream {self._settings.stream} cannot be made or changed: {error}") from error

    async def _own_config(self, deadline: float) -> dict[str, Any] | None:
        """How our stream is made, if it keeps what is promised; None where it is not there yet."""
        try:
            config = await self._config_of(self._settings.stream, deadline)
        except ApiError as error:
            if error.number == STREAM_NOT_FOUND:
                return None
            raise
        check_own(config, self._settings)
        self._say_unbounded(config)
        return config

    def _say_unbounded(self, config: dict[str, Any]) -> None:
        """Say once that our stream keeps all for ever, where nobody has bounded it."""
        name = config["name"]
        if name not in self._seen and not config.get("max_age") and config.get("max_bytes", -1) <= 0:
            log.info(
                "stream %s keeps all events for ever, and takes none when the disk is full: bound it by max_age= or "
                "max_bytes= in the URL, and one that is there by `eventmicro declare --change`",
                name,
            )
        self._seen.add(name)

    async def change(self, deadline: float) -> dict[str, str]:
        """Make our stream as it is set, where it is there and made otherwise: what was changed, and to what."""
        if self.fixed or self._settings.declare == "check":
            return {}
        async with _bounded(self._settings.stream, deadline), self._lock(deadline):
            try:
                config = await self._config_of(self._settings.stream, deadline)
            except ApiError as error:
                if error.number == STREAM_NOT_FOUND:
                    return {}
                raise
            changes = set_otherwise(config, self._settings)
            if changes:
                await self._update(config | changes, deadline)
        return {f"stream {config['name']}: {said(key, config.get(key))}": said(key, changes[key]) for key in changes}

    async def _look_at(self, stream: str, deadline: float) -> None:
        """Check a stream of another name once, where that may be asked."""
        if stream not in self._seen:
            with suppress(ApiError, NotAllowed):
                self._check_other(await self._config_of(stream, deadline))

    def _check_other(self, config: dict[str, Any]) -> None:
        forgets = check_other(config, self._settings)
        if forgets and config["name"] not in self._seen:
            log.warning("stream %s does not keep all that is confirmed: %s", config["name"], forgets)
        self._seen.add(config["name"])

    async def _config_of(self, stream: str, deadline: float) -> dict[str, Any]:
        return (await self._api.call(f"STREAM.INFO.{stream}", deadline=deadline))["config"]  # type: ignore[no-any-return]

    async def _create(self, subjects: list[str], deadline: float) -> None:
        config = stream_config(self._settings, subjects)
        await self._api.call(f"STREAM.CREATE.{config['name']}", config, deadline=deadline)
        self._say_unbounded(config)

    async def _update(self, config: dict[str, Any], deadline: float) -> None:
        await self._api.call(f"STREAM.UPDATE.{config['name']}", config, deadline=deadline)

    async def _delete(self, stream: str, deadline: float) -> None:
        """It may be gone: somebody else has deleted it, or we have, and the answer was lost."""
        try:
            await self._api.call(f"STREAM.DELETE.{stream}", deadline=deadline)
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND:
                raise

    def _how_to_make(self, subject: str) -> str:
        own = self._settings.stream
        command = f"nats stream add {own} --subjects {subject!r} --discard new --defaults"
        return f"{command} (or edit it if it is there), or `eventmicro declare`"

    @asynccontextmanager
    async def _lock(self, deadline: float) -> AsyncIterator[None]:
        """Let no one else change our stream meanwhile: the server has no update that looks what it changes.

        The lock is a stream of another name: to make one that exists with another owner's name in it is refused.
        """
        name = f"{self._settings.stream}-declaring"
        config = {
            "name": name,
            "subjects": [placeholder(name)],
            "storage": "memory",
            "metadata": {"owner": secrets.token_hex(8)},
        }
        while not await self._take_lock(config, deadline):  # noqa: ASYNC110  another process has it
            await asyncio.sleep(LOCK_PAUSE)
        try:
            yield
        finally:
            await self._delete(name, deadline + 1)

    async def _take_lock(self, config: dict[str, Any], deadline: float) -> bool:
        name = config["name"]
        try:
            await self._api.call(f"STREAM.CREATE.{name}", config, deadline=deadline)
            return True
        except ApiError as error:
            if error.number != STREAM_EXISTS:
                raise UsageError(f"stream {self._settings.stream} cannot be changed: {error}") from error
        try:
            other = await self._api.call(f"STREAM.INFO.{name}", deadline=deadline)
            if read_time(other["ts"]) - read_time(other["created"]) > LOCK_LIFETIME:
                await self._delete(name, deadline)
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND:
                raise
        return False


@asynccontextmanager
async def _bounded(what: str, deadline: float) -> AsyncIterator[None]:
    """Give up at the deadline, also where another process holds the lock."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except (TimeoutError, Silent):
        raise Disconnected(
            f"{what}: JetStream is away or busy, its stream could not be looked up or changed in time"
        ) from None


def read_time(time: str) -> float:
    """The server's time, which has nanoseconds, in seconds."""
    return datetime.fromisoformat(time).timestamp()
