"""Start a coroutine at once, and give it a task of its own only where it suspends.

Most handlers never wait, and a task for each of them would cost more than all the rest of a message. What runs
eagerly still finds a task of its own in `asyncio.current_task()` and its own copy of the context variables, so
`asyncio.timeout`, task groups and context variables behave in it as in any task.

From Python 3.12 on asyncio does this itself (`eager_start`). On 3.11 a task made in advance lends its name: the
coroutine is stepped as that task and moves into it where it suspends; where it ends first, the task serves the next.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

Work = Coroutine[Any, Any, None]
Task = asyncio.Task[None]

if sys.version_info >= (3, 12):

    class EagerStarter:
        """Starts coroutines eagerly on the running loop."""

        __slots__ = ("_loop",)

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()

        def start(self, work: Work) -> Task | None:
            """Run `work` until it suspends and return the task in which it goes on; None where it has ended."""
            task = asyncio.Task(work, loop=self._loop, eager_start=True)
            return None if task.done() else task

        def close(self) -> None:
            """Nothing was made in advance."""

else:

    class EagerStarter:
        """Starts coroutines eagerly on the running loop."""

        __slots__ = ("_loop", "_spare")

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self._spare: _Spare | None = None

        def start(self, work: Work) -> Task | None:
            """Run `work` until it suspends and return the task in which it goes on; None where it has ended."""
            loop = self._loop
            spare = self._spare
            if spare is None or spare.vacant.done():
                spare = self._spare = _Spare(loop)
            task = spare.task
            context = copy_context()
            outer = asyncio.current_task(loop)
            if outer is not None:
                asyncio.tasks._leave_task(loop, outer)
            asyncio.tasks._enter_task(loop, task)
            try:
                awaited = context.run(work.send, None)
            except StopIteration:
                return None
            finally:
                asyncio.tasks._leave_task(loop, task)
                if outer is not None:
                    asyncio.tasks._enter_task(loop, outer)
            self._spare = None
            spare.move_in(_Suspended(work, awaited, context))
            return task

        def close(self) -> None:
            """End the task that was made in advance."""
            if self._spare is not None:
                self._spare.task.cancel()
                self._spare = None

    class _Spare:
        """A task that waits for a suspended coroutine to move in."""

        __slots__ = ("_suspended", "task", "vacant")

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._suspended: _Suspended | None = None
            self.vacant: asyncio.Future[None] = loop.create_future()
            self.task = loop.create_task(self._live())

        def move_in(self, suspended: _Suspended) -> None:
            self._suspended = suspended
            if not self.vacant.done():  # it is, where the first step cancelled its own task
                self.vacant.set_result(None)

        async def _live(self) -> None:
            try:
                await self.vacant
            except CancelledError as cancelled:
                if self._suspended is None:
                    raise
                self._suspended.thrown = cancelled
            suspended, self._suspended = self._suspended, None
            if suspended is not None:
                await suspended

    class _Suspended:
        """The rest of a coroutine that has been stepped once, in the context it was stepped in."""

        __slots__ = ("_awaited", "_context", "_work", "thrown")

        def __init__(self, work: Work, awaited: Any, context: Context) -> None:
            self._work = work
            self._awaited = awaited
            self._context = context
            self.thrown: BaseException | None = None

        def __await__(self) -> Generator[Any, Any, None]:
            run, work, awaited = self._context.run, self._work, self._awaited
            try:
                if self.thrown is not None:
                    awaited = run(work.throw, self.thrown)
                while True:
                    try:
                        value = yield awaited
                    except BaseException as error:
                        awaited = run(work.throw, error)
                    else:
                        awaited = run(work.send, value)
            except StopIteration:
                return
