"""The concurrency limit, or bulkhead: so many at once, so many in line, and whoever comes beyond is told so."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from threading import get_ident
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
    what it calls meanwhile count apart. Services and clients in several event loops, each in a thread, may share one.

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
            within = None if self._by is None else self._places
            places = self._places.setdefault(key, _Places(self._limit, self._queue, key, within))
        if not places.enter():
            await places.wait(context)
        started = time.monotonic()
        try:
            reply = await call_next(message, context)
        except BaseException:
            places.leave(time.monotonic() - started)
            raise
        if is_stream(reply.__class__):
            return Watched(reply, lambda _: places.leave(time.monotonic() - started))
        places.leave(time.monotonic() - started)
        return reply

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(len(each.taken) for each in list(self._places.values()))

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(len(each) for each in list(self._places.values()))


class _Places:
    """The places of one key, and the line before them, for all threads whose event loops share them.

    There is no lock: two for each call would cost a sixth of all this, and a stream that nobody reads any more gives
    its place back from wherever Python notices that, in the middle of anything. A step on a list or a deque is one for
    other threads, too. Whoever gives a place back looks at the line after that, and whoever joins the line looks for a
    place after that: so none is free while somebody waits.

    Args:
        within: where they are not kept when nobody uses them, as others make up keys.

    Attributes:
        taken: as many as run.
    """

    __slots__ = ("_key", "_limit", "_line", "_queue", "_takes", "_within", "taken")

    def __init__(self, limit: int, queue: int, key: Key, within: dict[Key, _Places] | None) -> None:
        self._limit = limit
        self._queue = queue
        self._key = key
        self._within = within
        self.taken: list[None] = []
        self._line: deque[_Turn] = deque()
        self._takes = 0.0

    def __len__(self) -> int:
        return len(self._line)

    def enter(self) -> bool:
        """Take a place if there is one."""
        taken, limit = self.taken, self._limit
        while len(taken) < limit:
            taken.append(None)
            if len(taken) <= limit:
                return True
            taken.pop()  # others took the last ones at the same time; perhaps all of them draw back
        return False

    async def wait(self, context: Context) -> None:
        """Wait for a place; who leaves one hands it over.

        Raises:
            TooManyRequests: as many wait as may.
            CallTimeout: there was none in time.
        """
        if len(self._line) >= self._queue:
            raise self._refusal(context)
        turn = _Turn()
        self._line.append(turn)
        if self.enter():  # another thread has left one meanwhile; it is the first one's
            self.leave(self._takes)
        try:
            await before_deadline(turn.come, context, "a place")
        except BaseException:
            try:
                self._line.remove(turn)
            except ValueError:
                if not turn.is_lost:  # it has got one in the moment in which it gave up
                    self.leave(self._takes)
            raise

    def leave(self, seconds: float) -> None:
        """Leave a place to the first in line, or give it back, after so long."""
        self._takes += NEW * (seconds - self._takes) if self._takes else seconds
        while True:
            while self._line:
                try:
                    if self._line.popleft().give():
                        return
                except IndexError:  # nobody waits any more
                    break
            self.taken.pop()
            if not self._line or not self.enter():
                break
        if self._within is not None and not self.taken:
            self._forget(self._within)

    def _forget(self, within: dict[Key, _Places]) -> None:
        """Where another thread comes in this very moment its first calls have places of their own."""
        found = within.pop(self._key, None)
        if found is not None and found is not self:  # they are those already
            within.setdefault(self._key, found)

    def _refusal(self, context: Context) -> TooManyRequests:
        after = max(0.001, self._takes * (len(self._line) + 1) / self._limit)
        whose = "the service's" if context.side is Side.ENDPOINT else "this client's"
        return TooManyRequests(
            f"{self._limit} run already, and {len(self._line)} wait: that is {whose} ConcurrencyLimit",
            id=f"{context.service}.{context.endpoint}",
            retry_after=round(after, 3),
        )


class _Turn:
    """One who waits, and how it is woken from any thread.

    Attributes:
        is_lost: whether its event loop had ended when it was to get a place, which others got then.
    """

    __slots__ = ("_thread", "come", "is_lost")

    def __init__(self) -> None:
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_lost = False
        self._thread = get_ident()

    def give(self) -> bool:
        """Give it a place; False: it is lost. Where it wants none any more it passes it on."""
        try:
            if get_ident() == self._thread:
                if not self.come.done():
                    self.come.set_result(None)
            else:
                self.come.get_loop().call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed
            self.is_lost = True
        return not self.is_lost

    def _wake(self) -> None:
        if not self.come.done():
            self.come.set_result(None)
