"""Jobs: the tasks of a subscription, by name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

from eventmicro_kafka.connection.ending import LEAVE_TIME, end_tasks

log = logging.getLogger(__name__)

Job = Callable[[], Coroutine[Any, Any, Any]]

# How long to wait before a job that has ended is started again, in seconds.
RESTART_INTERVAL = 1.0


class Jobs:
    """What goes on as long as a subscription does: what ends by itself, which none should, is started again.

    Args:
        about: whose they are, for the log and the names of the tasks.
        jobs: what each is.
        ended: is told which one has ended by itself, as soon as it has.
    """

    def __init__(self, about: str, jobs: Mapping[str, Job], ended: Callable[[str], None] = lambda _: None) -> None:
        self._about = about
        self._jobs = dict(jobs)
        self._on_end = ended
        self._wanted: set[str] = set()
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def __bool__(self) -> bool:
        """Whether they were started, and not all of them stopped."""
        return bool(self._wanted)

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start these, also anew; None: all. One that could not be stopped gets no double: it follows itself."""
        for name in self._jobs if names is None else names:
            self._wanted.add(name)
            self._run(name)

    async def stop(self, names: Iterable[str]) -> None:
        """Cancel these, and return when they have ended, or resist for too long."""
        stopped = set(names)
        self._wanted -= stopped
        await end_tasks(lambda: [self._tasks[name] for name in stopped & self._tasks.keys()], LEAVE_TIME)
        for name in stopped & self._tasks.keys():
            if not self._tasks[name].done():
                log.error(
                    "queue %r: its %s does not end, though it was cancelled again and again",
                    self._about,
                    name,
                    extra={"queue": self._about},
                )

    async def stop_all(self) -> None:
        """As `stop`, with all of them."""
        await self.stop(self._jobs)

    def _run(self, name: str) -> None:
        if name in self._wanted and name not in self._tasks:
            job = self._jobs[name]()
            task = self._tasks[name] = asyncio.create_task(job, name=f"eventmicro kafka {self._about} {name}")
            task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: asyncio.Task[Any]) -> None:
        del self._tasks[name]
        error = None if task.cancelled() else task.exception()
        if name not in self._wanted:
            return
        text = "queue %r: its %s has ended, which it never should, and is started again in %g s"
        log.error(text, self._about, name, RESTART_INTERVAL, exc_info=error, extra={"queue": self._about})
        self._on_end(name)
        task.get_loop().call_later(RESTART_INTERVAL, self._run, name)
