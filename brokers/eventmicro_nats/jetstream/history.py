"""History: the events that a stream keeps, read one by one by their place, without a consumer."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from eventmicro.broker import Start
from eventmicro.errors import Disconnected, UsageError
from eventmicro.message import Delivery
from eventmicro_nats.connection.headers import read_event_headers
from eventmicro_nats.jetstream.api import MESSAGE_NOT_FOUND, STREAM_NOT_FOUND, Api, ApiError, NotAllowed, Silent
from eventmicro_nats.jetstream.streams import Streams

# How long the server is waited for, for each event, in seconds.
TIMEOUT = 12.0

Stored = dict[str, Any]


class History:
    """What the streams of one connection keep."""

    def __init__(self, api: Api, streams: Streams) -> None:
        self._api = api
        self._streams = streams

    async def read(self, subject: str, start: Start) -> AsyncGenerator[Delivery, None]:
        """See `eventmicro.broker.ReadsKept`; of several streams one is read after the other."""
        ends = [(name, await self._ends(name)) for name in await self._streams.keeping(subject, _deadline())]
        for stream, (first, last) in ends:
            at = first if start == "all" else await self._first_since(stream, start, first, last)
            while at <= last:
                stored = await self._next(stream, subject, at)
                if stored is None or stored["seq"] > last:
                    break
                at = stored["seq"] + 1
                yield _delivery(stored)

    async def _ends(self, stream: str) -> tuple[int, int]:
        """The first and the last place of a stream; none, where it is gone."""
        try:
            state = (await self._call(f"STREAM.INFO.{stream}", {}, stream))["state"]
        except ApiError as error:
            if error.number == STREAM_NOT_FOUND:
                return 1, 0
            raise UsageError(f"stream {stream} cannot be read: {error}") from error
        return state["first_seq"], state["last_seq"]

    async def _first_since(self, stream: str, start: Start, first: int, last: int) -> int:
        """The place of the first event since a time."""
        assert isinstance(start, datetime)
        end = last + 1
        while first < end:
            middle = (first + end) // 2
            stored = await self._next(stream, ">", middle)
            if stored is None or stored["seq"] >= end or _time_of(stored) >= start:
                end = middle
            else:
                first = stored["seq"] + 1
        return first

    async def _next(self, stream: str, subject: str, at: int) -> Stored | None:
        """The next event from a place on; None where there is none."""
        try:
            what = {"seq": at, "next_by_subj": subject}
            stored: Stored = (await self._call(f"STREAM.MSG.GET.{stream}", what, stream))["message"]
        except ApiError as error:
            if error.number in (MESSAGE_NOT_FOUND, STREAM_NOT_FOUND):
                return None
            raise UsageError(f"stream {stream} cannot be read: {error}") from error
        return stored

    async def _call(self, what: str, arguments: dict[str, Any], stream: str) -> dict[str, Any]:
        try:
            return await self._api.call(what, arguments, deadline=_deadline())
        except NotAllowed as error:
            raise UsageError(f"stream {stream} may not be read from here: {error}") from error
        except Silent as error:
            raise Disconnected(f"stream {stream} cannot be read: {error}") from error


def _deadline() -> float:
    return asyncio.get_running_loop().time() + TIMEOUT


def _delivery(stored: Stored) -> Delivery:
    headers = read_event_headers(b64decode(stored["hdrs"])) if "hdrs" in stored else None
    return Delivery(stored["subject"], b64decode(stored.get("data", "")), headers)


def _time_of(stored: Stored) -> datetime:
    """When it was stored; what is finer than a microsecond is left out."""
    seconds, _, fraction = stored["time"].rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}.{fraction[:6].ljust(6, '0')}+00:00")
