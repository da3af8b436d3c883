"""Jobs: the tasks of a subscription, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

Job = Callable[[], Coroutine[Any, Any, None]]


class Jobs:
    """What goes on as long as a subscription does.

    Args:
        about: whose they are, for the names of the tasks.
        jobs: what each is.
    """

    def __init__(self, about: str, jobs: Mapping[str, Job]) -> None:
        self._about = about
        self._jobs = dict(jobs)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __bool__(self) -> bool:
        """Whether they were started, and not all of them stopped."""
        return bool(self._tasks)

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start these, also anew; None: all."""
        for name in self._jobs if names is None else names:
            job = self._jobs[name]()
            self._tasks[name] = asyncio.create_task(job, name=f"eventmicro kafka {self._about} {name}")

    def ended(self) -> set[str]:
        """Those that have ended, which none does by itself."""
        return {name for name, task in self._tasks.items() if task.done()}

    async def stop(self, names: Iterable[str]) -> None:
        """Cancel these, and return when they have ended."""
        await _end(self._tasks[name] for name in names)

    async def stop_all(self) -> None:
        """Cancel all, and return when they have ended; there are none from now on."""
        tasks, self._tasks = self._tasks, {}
        await _end(tasks.values())


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
