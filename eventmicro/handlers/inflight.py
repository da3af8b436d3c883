"""The handlers of one subscription that are running: started eagerly, bounded in number, waited for at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from eventmicro.context import Context, context_in
from eventmicro.handlers.eager import Task, Work, report, shared_starter, variables_of

# How long a handler that is cancelled may take to clean up, in seconds.
GRACE = 1.0

_NONE: frozenset[Task] = frozenset()


class InFlight:
    """At most `limit` handlers that wait for something at the same time. Lives as long as its subscription.

    There may be very many of these in which nothing runs: what is used by few is made when it is.

    Attributes:
        is_full: whether as many wait for something as may.
    """

    __slots__ = ("_fewer", "_left_alone", "_limit", "_room", "_starter", "_tasks", "is_full")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.is_full = False
        self._starter = shared_starter()
        self._tasks: dict[Task, None] = {}  # an empty set is three times as large
        self._left_alone = _NONE
        self._room: asyncio.Future[None] | None = None
        self._fewer: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Work) -> Task | None:
        """Run a handler; the task in which it goes on where it had to wait, else None."""
        task = self._starter.start(work)
        if task is not None:
            self._keep(task)
        return task

    def start_all(self, works: Iterable[Work], goes_on: Callable[[Task], None] | None = None) -> None:
        """Run handlers one after the other, each of which is made when the one before it has ended or waits.

        Args:
            goes_on: is told of the task of each that waits.
        """
        self._starter.start_all(works, self._keep if goes_on is None else _both(self._keep, goes_on))

    @property
    def free(self) -> int:
        """How many more may wait for something at the same time."""
        return self._limit - len(self._tasks) - len(self._left_alone)

    def room(self) -> Awaitable[None] | None:
        """None while one more may be started, else what ends as soon as one may."""
        if self.free > 0:
            return None
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def leave_alone(self, message: Context) -> None:
        """Neither wait for the handler of this message nor cancel it: it waits for the end of all others itself."""
        for task in [task for task in self._tasks if context_in(variables_of(task)) is message]:
            del self._tasks[task]
            self._left_alone |= {task}
            self._are_fewer()

    async def finish(self) -> None:
        """Wait until none is running, but those that are left alone."""
        while self._tasks:
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

    def _keep(self, task: Task) -> None:
        self._tasks[task] = None
        self.is_full = self.free <= 0
        task.add_done_callback(self._ended)

    def _ended(self, task: Task) -> None:
        self._tasks.pop(task, None)
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


def _both(first: Callable[[Task], None], second: Callable[[Task], None]) -> Callable[[Task], None]:
    def tell(task: Task) -> None:
        first(task)
        second(task)

    return tell
