"""The handlers of one subscription that are running: started eagerly, bounded in number, waited for at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from itertools import islice
from time import perf_counter
from typing import Any, TypeVar

from eventmicro.context import Context, context_in
from eventmicro.handlers.eager import Task, Work, report, shared_starter, variables_of
from eventmicro.handlers.statistics import Statistics
from eventmicro.message import Delivery

# How long a handler that is cancelled may take to clean up, in seconds.
GRACE = 1.0
# How many messages are read before the first of them is handled, and how many bytes of them.
AT_ONCE = 128
AT_ONCE_BYTES = 256 * 1024
# The ends of the program and of a coroutine. Nothing else that a message brings about ends its service or is left open.
ENDS = (KeyboardInterrupt, GeneratorExit)
# In place of what was read: the handler reads the message itself.
UNREAD: Any = object()

D = TypeVar("D", bound=Delivery)
Room = Awaitable[None] | None
ReadAll = Callable[[list[D]], list[Any]]
Begin = Callable[[D, Any], Work | None]
GoesOn = Callable[[Task, D], None]
Begun = tuple[float, int]
"""When a handler began, by `time.perf_counter()`, and how many messages it is about."""

_NONE: frozenset[asyncio.Future[None]] = frozenset()


class InFlight:
    """At most `limit` handlers that wait for something at the same time. Lives as long as its subscription.

    There may be very many of these in which nothing runs: what is used by few is made when it is.

    Attributes:
        is_full: whether as many wait for something as may.
    """

    __slots__ = (
        "_ahead",
        "_fewer",
        "_held",
        "_left_alone",
        "_limit",
        "_room",
        "_starter",
        "_statistics",
        "_tasks",
        "is_full",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.is_full = False
        self._statistics: Statistics | None = None
        self._ahead = AT_ONCE  # how many are read before the first is handled: as many as then are handled at once
        self._starter = shared_starter()
        self._tasks: dict[Task, Begun] = {}
        self._left_alone = _NONE  # what takes a place though it is none of the tasks
        self._held = 0  # how many of these are awaited at the end nevertheless
        self._room: asyncio.Future[None] | None = None
        self._fewer: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._tasks) + self._held

    @property
    def statistics(self) -> Statistics:
        """How many have ended, and how long they took."""
        if self._statistics is None:
            self._statistics = Statistics()
        return self._statistics

    def start(self, work: Work, count: int = 1) -> Task | None:
        """Run a handler, of so many messages; the task in which it goes on where it had to wait, else None.

        Args:
            count: how many messages it ends with; 0: it is a step before the handler's.
        """
        begun = perf_counter()
        task = self._starter.start(work)
        if task is not None:
            self._keep(task, (begun, count))
        elif count:
            self.statistics.handled(count, perf_counter() - begun)
        return task

    def take(self, line: deque[D], read_all: ReadAll[D], begin: Begin[D], goes_on: GoesOn[D] | None = None) -> Room:
        """Handle what came together, as far as there is room: all is read, then each handler is begun as the one before
        it has ended or waits. Where handlers wait for something, no more is read than may run, and more again when they
        do not. See `ReceivesMany.many`.

        Args:
            line: where the messages wait; they are taken out of it from the left.
            read_all: what the handlers are to get, for each message; UNREAD where they are to read it themselves.
            begin: the handling of a message; None where it is not to be handled.
            goes_on: is told of the task of each that waits, and of its message.
        """
        if len(line) == 1 and not self.is_full:
            return self._take_one(line.popleft(), begin, goes_on)
        current: D
        begun = waited = 0

        def works() -> Iterator[Work]:
            nonlocal current, begun
            for message, read in zip(run, _read(run, read_all), strict=True):
                if self.is_full or not line or line[0] is not message:  # a handler has had it taken back
                    return
                line.popleft()
                work = begin(message, read)
                if work is not None:
                    current = message
                    begun += 1
                    yield work

        def keep(task: Task) -> None:
            nonlocal waited
            waited += 1
            self._keep(task, (started, 1))
            if goes_on is not None:
                goes_on(task, current)

        running, started = len(self._tasks), perf_counter()
        run = _first(line, min(self._ahead, AT_ONCE))
        self._starter.start_all(works(), keep)
        if begun > waited:
            self.statistics.handled(begun - waited, (perf_counter() - started) * (begun - waited) / begun)
        return self._look_ahead(len(self._tasks) > running)

    def _take_one(self, message: D, begin: Begin[D], goes_on: GoesOn[D] | None) -> Room:
        """The same for one that comes alone, and has nothing to wait for: its handler reads it."""
        work = begin(message, UNREAD)
        task = None if work is None else self.start(work)
        if task is not None and goes_on is not None:
            goes_on(task, message)
        return self._look_ahead(task is not None)

    def _look_ahead(self, some_wait: bool) -> Room:
        """Read more ahead as long as no handler waits for something, else no more than may run."""
        self._ahead = min(max(1, self.free) if some_wait else 2 * self._ahead, AT_ONCE)
        return self.room()

    @property
    def free(self) -> int:
        """How many more may wait for something at the same time."""
        return self._limit - len(self._tasks) - len(self._left_alone)

    def room(self) -> Awaitable[None] | None:
        """None while one more may be started, else what ends as soon as one may."""
        if not self.is_full:
            return None
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def leave_alone(self, message: Context) -> None:
        """Neither wait for the handler of this message nor cancel it: it waits for the end of all others itself."""
        for task in [task for task in self._tasks if context_in(variables_of(task)) is message]:
            del self._tasks[task]
            self._left_alone |= {task}
            self.is_full = self.free <= 0
            self._are_fewer()

    def running(self) -> list[tuple[Task, float]]:
        """Those that wait for something, each with when it began, by `time.perf_counter()`."""
        return [(task, begun) for task, (begun, _) in self._tasks.items()]

    def hold(self, ended: asyncio.Future[None]) -> None:
        """Keep a place taken until that ends: a handler's thread, which goes on though the handler was cancelled."""
        self._left_alone |= {ended}
        self._held += 1
        self.is_full = self.free <= 0
        ended.add_done_callback(self._let_go)

    def _let_go(self, ended: asyncio.Future[None]) -> None:
        self._held -= 1
        self._left_alone -= {ended}
        self.is_full = self.free <= 0
        self._are_fewer()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def finish(self) -> None:
        """Wait until none is running, but those that are left alone."""
        while self._tasks or self._held:
            self._fewer = self._fewer or asyncio.Event()
            self._fewer.clear()
            await self._fewer.wait()

    async def cut_off(self) -> int:
        """Cancel those that still run and are not left alone, and wait a little for them; how many they were."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        self._starter.close()
        return len(tasks)

    def _keep(self, task: Task, begun: Begun) -> None:
        self._tasks[task] = begun
        self.is_full = self.free <= 0
        task.add_done_callback(self._ended)

    def _ended(self, task: Task) -> None:
        if (begun := self._tasks.pop(task, None)) is not None and begun[1]:
            since, count = begun
            self.statistics.handled(count, perf_counter() - since)
        if self._left_alone:
            self._left_alone -= {task}
        self.is_full = self.free <= 0
        if not task.cancelled() and (error := task.exception()) is not None:
            report(error)
        self._are_fewer()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _are_fewer(self) -> None:
        if self._fewer is not None:
            self._fewer.set()


def _first(line: deque[D], most: int) -> list[D]:
    """Those that are read together."""
    run, size = [], 0
    for message in islice(line, most):
        run.append(message)
        size += len(message.body)
        if size > AT_ONCE_BYTES:
            break
    return run


def _read(run: list[D], read_all: ReadAll[D]) -> list[Any]:
    """What the handlers are to get. Where reading sets context variables each handler reads for itself, in its own."""
    if len(run) == 1:
        return [UNREAD]
    before = copy_context()
    inside = before.copy()
    read = inside.run(read_all, run)
    return read if inside == before else [UNREAD] * len(run)
