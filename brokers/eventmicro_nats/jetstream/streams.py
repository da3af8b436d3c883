"""Which stream keeps a subject: looked up, declared or checked, as the setting `declare` says.

A stream that covers a subject already, made by whoever runs the server, is used as it is. Every other subject goes into
one stream of ours, by its exact name: a wildcard there could capture the requests of RPC, whose callers would get the
stream's confirmation for an answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from math import ceil, inf
from typing import Any

from eventmicro.errors import Disconnected, Missing, UsageError
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
from eventmicro_nats.jetstream.filled import not_taken, renames
from eventmicro_nats.jetstream.keeping import (
    EXPIRES,
    NANO,
    check_other,
    check_own,
    is_ours,
    losses,
    marked,
    placeholder,
    said,
    set_otherwise,
    stream_config,
    with_window,
)
from eventmicro_nats.jetstream.lock import changing
from eventmicro_nats.jetstream.seeking import Seeking
from eventmicro_nats.jetstream.telling import Telling
from eventmicro_nats.settings import JetStreamSettings

# How many subjects are remembered, so that a lookup is not needed again.
REMEMBERED = 10_000


class Streams:
    """The streams of one connection."""

    def __init__(self, api: Api, settings: JetStreamSettings) -> None:
        self._api = api
        self._settings = settings
        self._seeking = Seeking(api, settings.stream)
        self._found: OrderedDict[str, str] = OrderedDict()
        self._filled: dict[str, str] = {}  # the subjects that nobody publishes to the streams that hold them
        self._wanted: set[str] = set()
        self._seen: dict[str, dict[str, Any]] = {}
        self._windows: dict[str, float] = {}
        self._expiring: set[str] = set()  # those that let events expire by themselves
        self._telling = Telling(settings)
        self._adding = asyncio.Lock()

    def __contains__(self, subject: str) -> bool:
        return subject in self._found

    @property
    def fixed(self) -> bool:
        """Whether nothing is looked up or made."""
        return self._settings.declare == "false"

    def fills(self, subject: str) -> bool:
        """Whether it is in a stream that gets it from others."""
        return subject in self._filled

    def forget(self, subject: str) -> None:
        """Look again next time: its stream may be gone, or be made otherwise."""
        stream = self._found.pop(subject, "") or self._filled.pop(subject, "")
        self._seen.pop(stream, None)
        self._expiring.discard(stream)

    def name_of(self, subject: str) -> str:
        """The stream of a subject, as far as it is known here."""
        return self._found.get(subject, "")

    def id_lifetime(self, subject: str) -> float:
        """For how long its stream knows an event's id, in seconds, as far as is known here."""
        return self._windows.get(self._found.get(subject, ""), inf)

    async def of(self, subject: str, deadline: float) -> str:
        """The name of the stream that takes what is published to this subject; made to where that is allowed.

        Raises:
            UsageError: none does, and none is to be made; or it is made otherwise than set.
        """
        if subject in self._filled:
            raise UsageError(
                f"{subject}: stream {self._filled[subject]} has this from other streams or under another subject: "
                "publish there"
            )
        return await self._have(subject, deadline, to_read=False)

    async def holding(self, subject: str, deadline: float) -> str:
        """The name of the stream from which a queue of this subject gets its events; else as `of`."""
        return self._filled.get(subject) or await self._have(subject, deadline, to_read=True)

    async def _have(self, subject: str, deadline: float, to_read: bool) -> str:
        stream = self._found.get(subject)
        if stream is None:
            wild = "*" in subject.split(".") or subject.endswith(">")
            find = self._find_for_wildcard if wild else self._find
            async with _bounded(subject, deadline):
                stream = self._settings.stream if self.fixed else await find(subject, deadline, to_read)
            if subject not in self._filled:
                self._found[subject] = stream
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        return stream

    async def there(self, subject: str, deadline: float) -> list[str]:
        """The streams that have this subject, or some of what matches it, by now."""
        async with _bounded(subject, deadline):
            return [] if self.fixed else await self._names(subject, deadline)

    async def keeping(self, subject: str, deadline: float) -> list[str]:
        """The streams that keep some of this subject; none is made for it."""
        if self.fixed:
            return [self._settings.stream]
        found = await self.there(subject, deadline)
        if found:
            return found
        async with _bounded(subject, deadline):
            filled = await self._seeking.find(subject, deadline)
        return [] if filled is None else [filled["name"]]

    async def remember_ids(self, stream: str, seconds: float, deadline: float) -> None:
        """Make sure that this stream knows an event's id for that long.

        Raises:
            UsageError: it forgets earlier, and may not be changed from here.
        """
        if self.fixed:
            return
        config = await self.config_of(stream, deadline)
        window, wanted = config.get("duplicate_window", 0), int(seconds * NANO)
        if window >= wanted:
            return
        if stream != self._settings.stream or self._settings.declare == "check" or not is_ours(config):
            raise UsageError(
                f"stream {stream} knows ids for {window / NANO:g} s, dedupe needs {seconds:g} s: "
                f"nats stream edit {stream} --dupe-window {ceil(seconds)}s"
            )
        if 0 < config.get("max_age", 0) < wanted:
            raise UsageError(f"stream {stream} keeps events for max_age={config['max_age'] / NANO:g} s, dedupe asks")
        async with _bounded(stream, deadline), self._changing(deadline):
            config = await self.config_of(stream, deadline)  # looked at under the lock: others change it, too
            if config.get("duplicate_window", 0) < wanted:
                await self._update(config | {"duplicate_window": wanted}, deadline)

    async def let_expire(self, subject: str, deadline: float) -> None:
        """Make sure that the stream of a subject drops events when their time is over.

        Raises:
            UsageError: it does not, and may not be changed from here.
        """
        stream = await self.of(subject, deadline)
        if self.fixed or stream in self._expiring:
            return
        config = await self.config_of(stream, deadline)
        if not config.get(EXPIRES):
            if stream != self._settings.stream or self._settings.declare == "check" or not is_ours(config):
                raise UsageError(
                    f"{subject}: stream {stream} lets no event expire by its ttl, as its allow_msg_ttl is not set: "
                    f"nats stream edit {stream} --allow-msg-ttl, or leave ttl= out"
                )
            async with _bounded(stream, deadline), self._changing(deadline):
                config = await self.config_of(stream, deadline)  # looked at under the lock: others change it, too
                if not config.get(EXPIRES):
                    await self._update(config | {EXPIRES: True}, deadline)
        self._expiring.add(stream)

    async def _find(self, subject: str, deadline: float, to_read: bool) -> str:
        names = await self._names(subject, deadline)
        if self._settings.stream in names:
            await self._own_config(deadline)
        elif names:
            await self._look_at(names[0], subject, deadline, to_read)
        if names:
            return names[0]
        if to_read and (filled := await self._find_filled(subject, deadline)):
            return filled
        if self._settings.declare == "check":
            mend = f"{self._how_to_make(subject)}, or set declare=true"
            raise Missing(f"no stream keeps {subject}: {mend}", [f"subject {subject} in a stream"])
        return await self._add(subject, deadline)

    async def _find_for_wildcard(self, pattern: str, deadline: float, to_read: bool) -> str:
        """The one stream that has all that matches; ours, where no other has any of it."""
        own = self._settings.stream
        names = await self._names(pattern, deadline)
        others = [name for name in names if name != own]
        for name in others:
            config = await self.config_of(name, deadline)
            if any(covers(subject, pattern) for subject in config.get("subjects") or ()):
                self._check_other(config, pattern, to_read)
                return name
        if others:
            raise UsageError(
                f"what matches {pattern} is in several streams ({', '.join(others)}, and {own} for the rest): "
                "subscribe to each subject, or let one stream keep all of it"
            )
        if not names and (filled := await self._find_filled(pattern, deadline)):
            return filled
        there = await self._own_config(deadline)
        if self._settings.declare == "check" and there is None:
            mend = f"{self._how_to_make(pattern)}, or set declare=true"
            raise Missing(f"there is no stream {own}: {mend}", [f"stream {own}"])
        if self._settings.declare == "check" or (there and own in names and not is_ours(there)):
            return own
        return await self._add(placeholder(own), deadline)

    async def _find_filled(self, subject: str, deadline: float) -> str | None:
        """A stream that holds it though it does not listen to it."""
        config = await self._seeking.find(subject, deadline)
        if config is None:
            return None
        self._telling.losses(config, losses(config, self._settings))
        self._filled[subject] = config["name"]
        return str(config["name"])

    async def _names(self, subject: str, deadline: float) -> list[str]:
        """The streams that listen to it; where that may not be asked, our own, if it does."""
        try:
            answer = await self._api.call("STREAM.NAMES", {"subject": subject}, deadline=deadline)
        except NotAllowed:
            with suppress(ApiError, NotAllowed):
                config = await self.config_of(self._settings.stream, deadline)
                if any(covers(has, subject) for has in config.get("subjects") or ()):
                    return [self._settings.stream]
            raise
        return answer.get("streams") or []

    async def _add(self, subject: str, deadline: float) -> str:
        """Put a subject into our stream, and with it all that others here wait to put in."""
        own = self._settings.stream
        self._wanted.add(subject)
        try:
            async with self._adding:
                if subject in self._wanted:
                    wanted = sorted(self._wanted)
                    while not await self._own_config(deadline):
                        await self._create(sorted({placeholder(own), *wanted}), deadline)
                    if await self._missing(wanted, deadline):
                        async with self._changing(deadline):
                            while missing := await self._missing(wanted, deadline):
                                await self._put_in(missing, deadline)
                    self._wanted.difference_update(wanted)
        finally:
            self._wanted.discard(subject)
        return own

    async def _missing(self, wanted: Sequence[str], deadline: float) -> list[str]:
        config = await self._own_config(deadline) or {}
        there = config.get("subjects") or ()
        missing = [subject for subject in wanted if not any(covers(has, subject) for has in there)]
        if missing and config and not is_ours(config):
            raise UsageError(
                f"stream {config['name']} was not made by eventmicro and does not take {', '.join(missing)}: "
                "have another one made by stream=NAME, or change it"
            )
        return missing

    async def _put_in(self, subjects: Sequence[str], deadline: float) -> None:
        config = await self._own_config(deadline)
        if config is None:
            raise UsageError(f"stream {self._settings.stream} was deleted while it was declared")
        with self._refused(subjects):
            await self._update(marked(config) | {"subjects": [*(config.get("subjects") or ()), *subjects]}, deadline)

    async def _create(self, subjects: list[str], deadline: float) -> None:
        config = stream_config(self._settings, subjects)
        with self._refused(subjects):
            await self._api.call(f"STREAM.CREATE.{config['name']}", config, deadline=deadline)
            self._telling.unbounded(config)

    @contextmanager
    def _refused(self, subjects: Sequence[str]) -> Iterator[None]:
        """Say of which stream and subjects a server speaks that refuses."""
        try:
            yield
        except ApiError as error:
            if error.number == STREAM_EXISTS:
                return  # somebody else has just made it: look again
            if error.number == SUBJECTS_OVERLAP:
                raise UsageError(f"one of {', '.join(subjects)} is in another stream already: {error}") from error
            raise UsageError(f"stream {self._settings.stream} cannot be made or changed: {error}") from error

    async def _own_config(self, deadline: float) -> dict[str, Any] | None:
        """How our stream is made, if it keeps what is promised; None where it is not there yet."""
        try:
            config = await self.config_of(self._settings.stream, deadline)
        except ApiError as error:
            if error.number == STREAM_NOT_FOUND:
                return None
            raise
        check_own(config, self._settings)
        return config

    async def change(self, deadline: float) -> dict[str, str]:
        """Make our stream as it is set, where it is there and made otherwise: what was changed, and to what."""
        if self.fixed or self._settings.declare == "check":
            return {}
        async with _bounded(self._settings.stream, deadline):
            try:
                await self.config_of(self._settings.stream, deadline)
            except ApiError as error:
                if error.number == STREAM_NOT_FOUND:
                    return {}
                raise
            async with self._changing(deadline):
                config = await self.config_of(self._settings.stream, deadline)
                changes = set_otherwise(config, self._settings)
                if changes and not is_ours(config):
                    raise UsageError(
                        f"stream {config['name']} was not made by eventmicro and stays as it is: change it, or the "
                        "setting, or have another one made by stream=NAME"
                    )
                if changes:
                    await self._update(with_window(config | changes), deadline)
        return {f"stream {config['name']}: {said(key, config.get(key))}": said(key, changes[key]) for key in changes}

    async def _look_at(self, stream: str, subject: str, deadline: float, to_read: bool) -> None:
        """Check a stream of another name, where that may be asked."""
        if stream not in self._seen:
            with suppress(ApiError, NotAllowed):
                self._seen[stream] = await self.config_of(stream, deadline)
        if stream in self._seen:
            self._check_other(self._seen[stream], subject, to_read)

    def _check_other(self, config: dict[str, Any], subject: str, to_read: bool) -> None:
        self._telling.losses(config, check_other(config, self._settings))
        if to_read and (other := renames(config, subject)):
            raise UsageError(
                f"stream {config['name']} stores {subject} as {other}, by its subject_transform: subscribe to that"
            )

    async def look_again(self, deadline: float) -> None:
        """Say what somebody has made of the streams that are used, and put subjects in again that were taken out."""
        if self.fixed:
            return
        used: dict[str, list[str]] = {stream: [] for stream in self._filled.values()}
        for subject, stream in self._found.items():
            used.setdefault(stream, []).append(subject)
        for stream in sorted(used):
            try:
                config = await self.config_of(stream, deadline)
            except (ApiError, NotAllowed):
                continue  # it is gone, which shows in what is published to it
            self._telling.changes(config, is_filled=stream in self._filled.values())
            for subject in not_taken(used[stream], config.get("subjects") or ()):
                await self._put_again(subject, stream, deadline)

    async def _put_again(self, subject: str, stream: str, deadline: float) -> None:
        """Have a stream for it as at the start; where that fails it is said, and tried again at the next look."""
        self._telling.taken_out(subject, stream)
        self.forget(subject)
        try:
            await self._have(subject, deadline, to_read=False)
        except (UsageError, ApiError, NotAllowed) as error:
            self._telling.missing(subject, str(error))
        else:
            self._telling.there_again(subject)
        finally:
            self._found.setdefault(subject, stream)

    async def config_of(self, stream: str, deadline: float) -> dict[str, Any]:
        """How a stream is made.

        Raises:
            ApiError, NotAllowed: it is not there, or this user may not ask.
        """
        config: dict[str, Any] = (await self.info(stream, deadline))["config"]
        self._windows[stream] = config.get("duplicate_window", 0) / NANO
        return config

    async def info(self, stream: str, deadline: float) -> dict[str, Any]:
        """How it is with a stream; raises as `config_of`."""
        return await self._api.call(f"STREAM.INFO.{stream}", deadline=deadline)

    async def _update(self, config: dict[str, Any], deadline: float) -> None:
        await self._api.call(f"STREAM.UPDATE.{config['name']}", config, deadline=deadline)

    def _how_to_make(self, subject: str) -> str:
        own = self._settings.stream
        command = f"nats stream add {own} --subjects {subject!r} --discard new --defaults"
        return f"{command} (or edit it if it is there), or `eventmicro declare`"

    @asynccontextmanager
    async def _changing(self, deadline: float) -> AsyncIterator[None]:
        try:
            async with changing(self._api, self._settings.stream, deadline):
                yield
        except ApiError as error:
            raise UsageError(f"stream {self._settings.stream} cannot be changed: {error}") from error


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
