"""Clock: the time of an event loop in the hands of a test, so that it sleeps for nothing.

Where something is to be waited for, time passes as ever; computing takes none. Where nothing is left to do but to wait
for a timer, the clock skips to it. So the same test takes the same time at each run, on whatever machine.

`asyncio.sleep`, `asyncio.timeout` and `call_later` go by `time.monotonic()`, as all of eventmicro does: in an event
loop that has a clock, and in the threads of its handlers, that is the clock's. Everywhere else it is what it was. What
goes by the calendar, as `time.time()` and `datetime.now()`, is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from heapq import heapify
from threading import Lock
from typing import Any

from eventmicro.errors import UsageError
from eventmicro.handlers.threads import Job, Threads
from eventmicro.rpc.caller import Caller

log = logging.getLogger(__name__)

# How far the clock skips on its own where nothing happens meanwhile, in seconds: what is then waited for never comes.
FARTHEST = 86400.0
# How often is looked whether a thread has ended, in seconds of the real time.
LOOK = 0.002

_real = time.monotonic
_real_start = Threads.start
_clocks: dict[asyncio.AbstractEventLoop, Clock] = {}
_changing = Lock()
_near: ContextVar[Clock | None] = ContextVar("eventmicro_clock", default=None)


@dataclass(slots=True)
class Settling:
    """Somebody who waits until nothing is left to do; see `Clock.settle`."""

    settled: asyncio.Future[bool]
    until: float
    quiet: float

    def tell(self, how: bool) -> None:
        """It is so, or does not come to that."""
        if not self.settled.done():
            self.settled.set_result(how)


class Clock:
    """The time of the running event loop, from `hold` until it was let go as often.

    now: what `time.monotonic()` says there.
    skipped: how far it has skipped, in seconds.
    """

    def __init__(self, loop: Any) -> None:
        self.now = _real()
        self.skipped = 0.0
        self.ended = False
        self._loop = loop
        self._holders = 0
        self._inner = loop._selector
        self._farthest = self.now + FARTHEST
        self._waiting: list[Settling] = []
        self._in_threads = 0
        self._is_stuck = False
        self._quiet = 0  # how many sockets there were when nothing came over them
        self._outside = list(loop._scheduled)  # timers that were set before: no skip brings these nearer
        self._executes: Callable[..., Any] = loop.run_in_executor

    # -- for who tests -------------------------------------------------------------------------------------------

    async def settle(self, patience: float, quiet: float) -> bool:
        """Return when nothing is left to do at this moment, but to wait; False: it does not come to that.

        Args:
            patience: for how long it may not, in seconds of the real time.
            quiet: for how long nothing may come over sockets, if there are some, likewise.
        """
        self._farthest = self.now + FARTHEST
        settling = Settling(self._loop.create_future(), _real() + patience, quiet)
        self._waiting.append(settling)
        return await settling.settled

    def next_due(self) -> float | None:
        """When the next timer ends; None: there is none."""
        outside = set(map(id, self._outside))
        inside = (timer for timer in self._loop._scheduled if not timer._cancelled and id(timer) not in outside)
        return min(map(_due, inside), default=None)

    def skip_to(self, moment: float) -> None:
        """It is that late now, if it is not later."""
        if (skipped := moment - self.now) > 0:
            self.now = moment
            self.skipped += skipped
            self._move(self._outside, skipped)

    def go_on(self) -> None:
        """Something happens: it may skip as far once more."""
        self._farthest = self.now + FARTHEST
        self._quiet = 0

    # -- for the event loop --------------------------------------------------------------------------------------

    def stand(self, timeout: float | None) -> list[Any]:
        """The event loop has nothing to do for so long: what wakes it up."""
        if self._in_threads:
            self._give_up_waiting()
            return self._wait(LOOK if timeout is None else min(timeout, LOOK))
        if sockets := len(self._inner.get_map()) - 1:  # one is the loop's own, by which it is woken up
            if not self._waiting:
                return self._wait(timeout)
            if self._quiet != sockets:
                if events := self._inner.select(self._waiting[0].quiet):  # in which time stands still
                    return list(events)
                self._quiet = sockets
        if self._waiting:
            self._waiting.pop(0).tell(True)
            return []
        due = self.next_due()
        if due is None or due > self._farthest:
            if due is not None:
                self._say_stuck()
            return self._wait(timeout)
        self.skip_to(due)
        return []

    def _say_stuck(self) -> None:
        """Say once that what is waited for does not come."""
        if not self._is_stuck:
            log.warning(
                "nothing has happened for %g s of a world's time: what its test waits for never comes", FARTHEST
            )
        self._is_stuck = True

    def select(self, timeout: float | None) -> list[Any]:
        """As of a selector."""
        events: list[Any] = self._inner.select(0)
        if events:
            self._quiet = 0
        if events or (timeout is not None and timeout <= 0):
            self._give_up_waiting()
            return events
        return self.stand(timeout)

    def __getattr__(self, name: str) -> Any:
        """All else that the event loop asks of its selector."""
        return getattr(self._inner, name)

    def _wait(self, timeout: float | None) -> list[Any]:
        """Wait as ever."""
        begun = _real()
        events: list[Any] = self._inner.select(timeout)
        self.now += _real() - begun
        return events

    def _give_up_waiting(self) -> None:
        """Tell those who have waited for long that it does not settle."""
        for settling in [each for each in self._waiting if each.until < _real()]:
            self._waiting.remove(settling)
            settling.tell(False)

    def _move(self, timers: list[Any], seconds: float) -> None:
        for timer in timers:
            timer._when += seconds
        heapify(self._loop._scheduled)

    # -- its life ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._loop._selector = self
        self._loop.run_in_executor = self._run_in_executor
        _clocks[self._loop] = self
        if len(_clocks) == 1:
            time.monotonic = _monotonic
            Threads.start = _start_job  # type: ignore[method-assign, assignment]

    def _end(self) -> None:
        """Take it out of the loop: what was set meanwhile has as long to go as before."""
        self.ended = True
        ahead = self.now - _real()
        outside = set(map(id, self._outside))
        self._move([timer for timer in self._loop._scheduled if id(timer) not in outside], -ahead)
        self._move(self._outside, -self.skipped)
        self._loop._selector = self._inner
        del self._loop.run_in_executor
        del _clocks[self._loop]
        if not _clocks:
            time.monotonic = _real
            Threads.start = _real_start  # type: ignore[method-assign]
        for settling in self._waiting:
            settling.tell(False)

    def _run_in_executor(self, executor: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        future = self._executes(executor, function, *arguments)
        self.follow(future)
        return future

    def follow(self, future: asyncio.Future[Any]) -> None:
        """Skip nothing until a thread has ended with that."""
        self._in_threads += 1
        future.add_done_callback(partial(self._has_ended))

    def _has_ended(self, future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1


def can_be_held() -> bool:
    """Whether the running event loop is one whose time can be held: asyncio's own, over a selector."""
    loop: Any = asyncio.get_running_loop()
    return isinstance(loop, asyncio.BaseEventLoop) and hasattr(getattr(loop, "_selector", None), "get_map")


def hold() -> Clock:
    """Hold the time of the running event loop; the clock is shared by all who do.

    Raises:
        UsageError: it is another's event loop, such as uvloop's.
    """
    loop = asyncio.get_running_loop()
    if loop not in _clocks and not can_be_held():
        raise UsageError(f"time cannot be controlled in {type(loop).__module__}: run the tests in asyncio's own loop")
    with _changing:
        if (clock := _clocks.get(loop)) is None:
            clock = Clock(loop)
            clock._begin()
        clock._holders += 1
    _near.set(clock)
    return clock


def let_go(clock: Clock) -> None:
    """Hold it no more; where nobody does, time is what it was."""
    with _changing:
        clock._holders -= 1
        if not clock._holders:
            clock._end()


def _due(timer: Any) -> float:
    """When a timer has something to do: that which looks after calls looks a hundred times a second, mostly in vain."""
    when: float = timer._when
    caller = getattr(timer._callback, "__self__", None)
    if isinstance(caller, Caller) and timer._callback == caller.sweep:
        return max(when, caller.next_deadline() or when)
    return when


def _monotonic() -> float:
    """`time.monotonic`, while there is a clock."""
    clock = _clock_here()
    return _real() if clock is None else clock.now


def _clock_here() -> Clock | None:
    """That of the running event loop; in a thread that of the loop from which it was given its work."""
    loop = asyncio._get_running_loop()
    clock = _near.get() if loop is None else _clocks.get(loop)
    return None if clock is None or clock.ended else clock


def _start_job(threads: Threads, job: Job[Any]) -> None:
    """`Threads.start`, while there is a clock."""
    if (clock := _clock_here()) is not None:
        clock.follow(job.answer)
    _real_start(threads, job)
