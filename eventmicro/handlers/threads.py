"""Threads: where plain `def` functions run, so that what blocks in them holds up nobody else.

A thread cannot be killed. A handler whose caller waits no more, or whose time is over, has its outcome at once; its
thread goes on until it ends by itself, and so long keeps its place, in here and among the handlers of its endpoint.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import CancelledError as GivenUp
from concurrent.futures import Future as Answer
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from inspect import isawaitable
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import Any, Generic, TypeVar, cast

from eventmicro.errors import UsageError

log = logging.getLogger(__name__)

T = TypeVar("T")
Hold = Callable[[asyncio.Future[None]], None]
"""Keeps a handler's place taken until that ends."""

# How many plain functions of a node run at the same time, where nothing else is said.
THREADS = 32

_ENDED: Any = object()


class Threads:
    """A node's threads: at most `limit`, started as they are needed. They end with the program, whatever they are at.

    Args:
        name: what the threads are called, with a number behind it.
        limit: how many functions run at the same time; further ones wait in line.
    """

    def __init__(self, name: str, limit: int = THREADS) -> None:
        self._name = name
        self._limit = limit
        self._started = 0
        self._idle = Semaphore(0)
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()

    def start(self, job: Job[Any]) -> None:
        """Run a job as soon as a thread is free."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and self._started < self._limit:
            Thread(target=self._work, name=f"{self._name}-{self._started + 1}", daemon=True).start()
            self._started += 1

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a function returns, run in a thread to its end, also where who awaits it is cancelled."""
        job: Job[T] = Job(copy_context(), function, *arguments)
        self.start(job)
        try:
            return await asyncio.shield(job.answer)
        except CancelledError:
            await asyncio.wait([job.answer])
            raise

    @asynccontextmanager
    async def within(self, manager: AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter a plain context manager in a thread, and leave it in one."""
        try:
            value = await self.call(manager.__enter__)
        except CancelledError:
            await self.call(manager.__exit__, None, None, None)
            raise
        try:
            yield value
        except BaseException as error:
            if not await self.call(manager.__exit__, type(error), error, error.__traceback__):
                raise
        else:
            await self.call(manager.__exit__, None, None, None)

    def close(self) -> None:
        """Let each thread end when it has nothing to do any more."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            del job  # nothing of it is kept alive until the next one comes
            self._idle.release()


class Job(Generic[T]):
    """One call in a thread, with the context variables of who awaits it in the event loop.

    answer: what it returns or raises, for the event loop.
    left: where it was given up after it had begun, what ends when it does.
    """

    __slots__ = ("_asked", "_begins", "_call", "_loop", "_variables", "answer", "left")

    def __init__(self, variables: Context, function: Callable[..., T], *arguments: Any) -> None:
        self._variables = variables
        self._call = partial(function, *arguments)
        self._loop = asyncio.get_running_loop()
        self._begins = Lock()  # taken by whoever comes first: the thread that begins it, or who gives it up
        self._asked: Answer[Any] | None = None
        self.answer: asyncio.Future[T] = self._loop.create_future()
        self.left: asyncio.Future[None] | None = None

    def run(self) -> None:
        """In a thread: call, and tell the event loop what came of it."""
        if not self._begins.acquire(blocking=False):
            return
        value: T | None = None
        error: BaseException | None = None
        try:
            value = self._variables.run(self._run)
        except StopIteration as stopped:  # no future takes one, no more than a coroutine may raise it
            error = RuntimeError("a plain handler raised StopIteration")
            error.__cause__ = stopped
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end, value, error)

    def give_up(self) -> asyncio.Future[None] | None:
        """Wait for it no more: None where it has not begun, and will not; else what ends when it does."""
        if self._begins.acquire(blocking=False):
            return None
        self.left = self._loop.create_future()
        if self._asked is not None:
            self._asked.cancel()
        return self.left

    def ask(self, awaitable: Awaitable[Any]) -> Any:
        """In the thread: have the event loop await something, and wait for that."""
        asked = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop)
        self._asked = asked
        if self.left is not None:
            asked.cancel()
        try:
            return asked.result()
        except GivenUp:
            raise CancelledError from None
        finally:
            self._asked = None

    def _run(self) -> T:
        _job.set(self)
        return self._call()

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self.left is not None:
            self.left.set_result(None)
            if error is not None and not isinstance(error, CancelledError):
                log.warning("a plain handler failed after it had been given up", exc_info=error)
        elif not self.answer.done():
            if error is None:
                self.answer.set_result(value)
            else:
                self.answer.set_exception(error)


class InThreads:
    """Runs one plain handler, each time in a thread.

    hold: is told of each thread that goes on though its handler was given up, to keep its place taken.
    """

    __slots__ = ("_threads", "hold")

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.hold: Hold = _forget

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; of one that gives an awaitable, as a decorated one may, what that does."""
        value = await self._step(Job(copy_context(), function, *arguments))
        return await value if isawaitable(value) else value

    async def iterate(self, function: Callable[..., Generator[Any, Any, Any]], *arguments: Any) -> AsyncIterator[Any]:
        """What a plain generator yields, each step in a thread, none before the one before it was taken."""
        variables = copy_context()
        values = function(*arguments)
        job: Job[Any] | None = None
        try:
            while True:
                job = Job(variables, next, values, _ENDED)
                if (value := await self._step(job)) is _ENDED:
                    return
                yield value
        finally:
            if job is not None and job.left is not None:  # it is at work, and closed behind that
                job.left.add_done_callback(lambda _: self._threads.start(Job(variables, values.close)))
            else:
                await self._threads.call(variables.run, values.close)

    async def _step(self, job: Job[Any]) -> Any:
        self._threads.start(job)
        try:
            return await job.answer
        except CancelledError:
            if job.answer.cancelled() and (left := job.give_up()) is not None:
                self.hold(left)
            raise


_job: ContextVar[Job[Any] | None] = ContextVar("eventmicro_job", default=None)


def from_thread(awaitable: Awaitable[T]) -> T:
    """In a plain handler, or below it: what is to be awaited, awaited by the service's event loop.

        quote = from_thread(service.call("prices.quote", request, Quote))

    The handler's context and deadline hold for it.

    Raises:
        UsageError: this is no thread of a plain handler; elsewhere it is awaited as usual.
        CancelledError: the handler was given up meanwhile, as its caller waits no more or its time is over.
    """
    job = _job.get()
    if job is None or asyncio._get_running_loop() is not None:
        if (close := getattr(awaitable, "close", None)) is not None:  # else Python warns that nobody awaits it
            close()
        raise UsageError("from_thread is for plain `def` handlers, and this is none: write `await` instead")
    return cast("T", job.ask(awaitable))


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _forget(ended: asyncio.Future[None]) -> None:
    """There is no place to be kept."""
