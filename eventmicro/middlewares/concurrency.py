"""The concurrency limit, or bulkhead: so many at once, so many in line, and whoever comes beyond is told so."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from eventmicro.checks import check_count, check_function, check_kind, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import TooManyRequests, UsageError
from eventmicro.middleware import Handler
from eventmicro.middlewares.keys import short_key
from eventmicro.middlewares.line import before_deadline
from eventmicro.middlewares.watched import Watched, is_stream

# How much a new call counts in how long one takes.
NEW = 0.2

By = Callable[[Context], str]
Key = tuple[Side, str]


@names_words
class ConcurrencyLimit:
    """Lets so many calls run at once, lets so many more wait in line, and refuses others with `TooManyRequests`, which
    says in how many seconds there may be room. A stream holds its place until it has ended. What a service does and
    what it calls meanwhile count apart.

    Args:
        limit: how many run at once.
        queue: how many wait for a place, in the order in which they came, none of them beyond its deadline.
        by: gives a call's key; each key has a limit of its own. Default: one limit for all that this is around.
            `by=lambda context: context.topic` is a limit for each endpoint.

    Raises:
        UsageError: one of these is out of range.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT})

    def __init__(self, limit: int, *, queue: int = 0, by: By | None = None) -> None:
        check_count("limit", limit)
        check_kind("queue", queue, int, "how many may wait")
        if queue < 0:
            raise UsageError(f"queue={queue}: write how many may wait, 0 or more")
        if by is not None:
            check_function("by", by)
        self._limit = limit
        self._queue = queue
        self._by = by
        self._places: dict[Key, _Places] = {}

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        key = context.side, "" if self._by is None else short_key(self._by(context))
        places = self._places.get(key)
        if places is None:
            places = self._places[key] = _Places(self._limit, self._queue)
        if not places.enter():
            await self._wait(key, places, context)
        started = time.monotonic()
        try:
            reply = await call_next(message, context)
        except BaseException:
            self._leave(key, places, started)
            raise
        if is_stream(reply.__class__):
            return Watched(reply, lambda _: self._leave(key, places, started))
        self._leave(key, places, started)
        return reply

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(each.running for each in self._places.values())

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(len(each) for each in self._places.values())

    async def _wait(self, key: Key, places: _Places, context: Context) -> None:
        try:
            await places.wait(context)
        except BaseException:
            self._forget(key, places)
            raise

    def _leave(self, key: Key, places: _Places, started: float) -> None:
        places.leave(time.monotonic() - started)
        self._forget(key, places)

    def _forget(self, key: Key, places: _Places) -> None:
        if self._by is not None and not places.running:  # so keys that others make up are not kept
            self._places.pop(key, None)


class _Places:
    """The places of one key, and the line before them."""

    def __init__(self, limit: int, queue: int) -> None:
        self.running = 0
        self._limit = limit
        self._queue = queue
        self._line: deque[asyncio.Future[None]] = deque()
        self._takes = 0.0

    def __len__(self) -> int:
        return len(self._line)

    def enter(self) -> bool:
        """Take a place if there is one."""
        if self.running >= self._limit:
            return False
        self.running += 1
        return True

    async def wait(self, context: Context) -> None:
        """Wait for a place; who leaves one hands it over.

        Raises:
            TooManyRequests: as many wait as may.
            CallTimeout: there was none in time.
        """
        if len(self._line) >= self._queue:
            raise self._refusal(context)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await before_deadline(turn, context, "a place")
        except BaseException:
            if turn.done() and not turn.cancelled():  # it has got one in the moment in which it gave up
                self.leave(self._takes)
            else:
                with suppress(ValueError):  # who left a place has taken it out
                    self._line.remove(turn)
            raise

    def leave(self, seconds: float) -> None:
        """Give a place back, after so long."""
        self._takes += NEW * (seconds - self._takes) if self._takes else seconds
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _refusal(self, context: Context) -> TooManyRequests:
        after = max(0.001, self._takes * (len(self._line) + 1) / self._limit)
        whose = "the service's" if context.side is Side.ENDPOINT else "this client's"
        return TooManyRequests(
            f"{self._limit} run already, and {len(self._line)} wait: that is {whose} ConcurrencyLimit",
            id=f"{context.service}.{context.endpoint}",
            retry_after=round(after, 3),
        )
