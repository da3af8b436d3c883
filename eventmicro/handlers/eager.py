"""Start a coroutine at once, and give it a task of its own only where it suspends.

Most handlers never wait, and a task for each of them would cost more than all the rest of a message. What runs
eagerly still finds a task of its own in `asyncio.current_task()` and its own copy of the context variables, so
`asyncio.timeout`, task groups and context variables behave in it as in any task.

From Python 3.12 on asyncio does this itself (`eager_start`). On 3.11 a task made in advance lends its name: the
coroutine is stepped as that task and moves into it where it suspends; where it ends first, the task serves the next.
One starter serves all handlers of an event loop: ten thousand of them need no task each.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context, copy_context
from typing import Any
from weakref import WeakValueDictionary

Work = Coroutine[Any, Any, None]
Task = asyncio.Task[None]

if sys.version_info >= (3, 12):

    class EagerStarter:
        """Starts coroutines eagerly on the running loop."""

        __slots__ = ("__weakref__", "_loop")

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()

        def start(self, work: Work) -> Task | None:
            """Run `work` until it suspends and return the task in which it goes on; None where it has ended."""
            task = asyncio.Task(work, loop=self._loop, eager_start=True)
            if not task.done():
                return task
            if not task.cancelled() and (error := task.exception()) is not None:
                report(error)
            return None

        def start_all(self, works: Iterable[Work], goes_on: Callable[[Task], None]) -> None:
            """Start works one after the other; `goes_on` is told of the task of each that suspends."""
            for work in works:
                if (task := self.start(work)) is not None:
                    goes_on(task)

        def close(self) -> None:
            """Nothing was made in advance."""

    def variables_of(task: Task) -> Context:
        """The context variables of what was started eagerly and goes on in this task."""
        return task.get_context()

    def work_of(task: Task) -> Any:
        """What was started eagerly and goes on in this task."""
        return task.get_coro()

else:
    _enter_task, _leave_task, _current_task = asyncio.tasks._enter_task, asyncio.tasks._leave_task, asyncio.current_task
    _ENDED = object()

    class EagerStarter:
        """Starts coroutines eagerly on the running loop."""

        __slots__ = ("__weakref__", "_loop", "_spare")

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self._spare: _Spare | None = None

        def start(self, work: Work) -> Task | None:
            """Run `work` until it suspends and return the task in which it goes on; None where it has ended."""
            tasks: list[Task] = []
            self.start_all((work,), tasks.append)
            return tasks[0] if tasks else None

        def start_all(self, works: Iterable[Work], goes_on: Callable[[Task], None]) -> None:
            """Start works one after the other; `goes_on` is told of the task of each that suspends."""
            loop = self._loop
            outer = _current_task(loop)
            if outer is not None:
                _leave_task(loop, outer)
            spare: _Spare | None = None
            try:
                for work in works:
                    spare = spare or self._enter_spare()
                    context = copy_context()
                    try:
                        awaited = context.run(next, work.__await__(), _ENDED)  # as send(None), without a StopIteration
                    except (KeyboardInterrupt, SystemExit):
                        raise
                    except BaseException as error:
                        spare.task.cancel()
                        report(error)
                        awaited = _ENDED
                    if awaited is not _ENDED:
                        task, home, spare = spare.task, spare, None
                        _leave_task(loop, task)
                        home.move_in(work, awaited, context)
                        goes_on(task)
                    elif spare.task.cancelling():  # it is of no use for the next
                        _leave_task(loop, spare.task)
                        spare = None
            finally:
                if spare is not None:
                    _leave_task(loop, spare.task)
                    if self._spare is None:
                        self._spare = spare
                    else:  # the work has started other work, which left one
                        spare.task.cancel()
                if outer is not None:
                    _enter_task(loop, outer)

        def _enter_spare(self) -> _Spare:
            spare, self._spare = self._spare, None
            if spare is None or spare.task.cancelling():  # cancelled by its last work, or by who kept it
                spare = _Spare(self._loop)
            _enter_task(self._loop, spare.task)
            return spare

        def close(self) -> None:
            """End the task that was made in advance; another one is made when it is needed."""
            if self._spare is not None:
                self._spare.task.cancel()
                self._spare = None

    class _Spare(Coroutine[Any, Any, None]):
        """A task made in advance, and its body: it waits until a suspended coroutine moves in, and then is that one."""

        __slots__ = ("_awaited", "_context", "_moved_in", "_vacant", "_work", "task")

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._work: Work | None = None
            self._vacant: asyncio.Future[None] = loop.create_future()
            self.task: Task = loop.create_task(self)

        def move_in(self, work: Work, awaited: Any, context: Context) -> None:
            """Go on with `work` when what it `awaited` in its first step is there."""
            self._work, self._awaited, self._context = work, awaited, context
            self._moved_in = True
            del self.task  # it holds us, and shall not be held by us
            if not self._vacant.done():  # it is, where the first step cancelled its own task
                self._vacant.set_result(None)

        def send(self, value: Any) -> Any:
            if self._work is None:
                return next(self._vacant.__await__())
            if self._moved_in:
                self._moved_in = False
                return self._awaited
            return self._context.run(self._work.send, value)

        def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
            if self._work is None:
                raise error
            if self._moved_in:  # cancelled before it waits: like any task's, the cancellation goes to what is awaited
                self._moved_in = False
                if isinstance(error, CancelledError) and self._awaited is not None and self._awaited.cancel():
                    return self._awaited
            return self._context.run(self._work.throw, error)

        def close(self) -> None:
            if self._work is not None:
                self._work.close()

        def __await__(self) -> Generator[Any, Any, None]:
            raise RuntimeError("only its own task drives it")

        @property
        def variables(self) -> Context:
            """Those of the coroutine that has moved in."""
            return self._context

        @property
        def work(self) -> Work | None:
            """The coroutine that has moved in."""
            return self._work

    def variables_of(task: Task) -> Context:
        """The context variables of what was started eagerly and goes on in this task."""
        spare = task.get_coro()
        assert isinstance(spare, _Spare)
        return spare.variables

    def work_of(task: Task) -> Any:
        """What was started eagerly and goes on in this task."""
        spare = task.get_coro()
        assert isinstance(spare, _Spare)
        return spare.work


# By the identity of their event loop, which lives as long as they do.
_starters: WeakValueDictionary[int, EagerStarter] = WeakValueDictionary()


def shared_starter() -> EagerStarter:
    """The starter of the running loop; it lives as long as somebody has it."""
    number = id(asyncio.get_running_loop())
    return _starters.get(number) or _starters.setdefault(number, EagerStarter())


def report(error: BaseException) -> None:
    """Tell the event loop of an error that nobody awaits."""
    context = {"message": "eventmicro: a handler's task failed outside the handler", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
