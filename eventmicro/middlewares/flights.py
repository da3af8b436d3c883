"""Single flight: of several that want the same at the same time one fetches it, and all get it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from threading import Lock
from typing import Any

from eventmicro.context import Context
from eventmicro.errors import CallTimeout, InternalError
from eventmicro.middlewares.line import before_deadline

Fetch = Callable[[], Coroutine[Any, Any, Any]]
Ended = Callable[[Any], None]


class Flights:
    """What is being fetched, by its key. It goes on as long as anybody waits for it, whoever began it, in whatever
    event loop; one whose own loop does not run any more is none.
    """

    def __init__(self) -> None:
        self._flying: dict[Hashable, _Flight] = {}
        self._forgetting = Lock()

    def __len__(self) -> int:
        return len(self._flying)

    def get(self, key: Hashable) -> _Flight | None:
        """What is fetched under this key now."""
        flight = self._flying.get(key)
        return None if flight is None or flight.is_lost else flight

    async def join(self, key: Hashable, fetch: Fetch, context: Context, about: Any = None) -> Any:
        """What is fetched under this key now, or else what `fetch` brings.

        Where the time of who began it was over those who have more fetch it once more, together; so they do where it
        was given up, unless it has come all the same.

        Raises:
            CallTimeout: it did not come before the deadline of the context.
        """
        flight = self.get(key)
        while flight is not None and flight.is_cancelled:
            await before_deadline(flight.end(), context, "the end of the same that was given up")
            if flight.has_come:
                return flight.task.result()
            flight = self.get(key)
        if flight is not None:
            try:
                return await before_deadline(flight.join(), context, "the same that is fetched already")
            except CallTimeout:
                if context.remaining() == 0:
                    raise
        flight, is_new = self.begin(key, fetch, about)
        if is_new:  # it ends by the deadline of this one
            return await flight.wait()
        return await before_deadline(flight.join(), context, "the same that is fetched again")

    def begin(self, key: Hashable, fetch: Fetch, about: Any = None) -> tuple[_Flight, bool]:
        """Fetch it, unless it is being fetched: the flight, and whether this has begun it. It is there for whoever
        joins until it has ended.
        """
        new = _Flight(about)
        while (flight := self._flying.setdefault(key, new)) is not new:
            if not flight.is_lost:
                return flight, False
            self._forget(key, flight)
        new.start(fetch(), partial(self._forget, key, new))
        return new, True

    def _forget(self, key: Hashable, flight: _Flight, _: Any = None) -> None:
        with self._forgetting:
            if self._flying.get(key) is flight:
                del self._flying[key]


class _Flight:
    """
    about: what who began it has said of it.
    is_cancelled: whether nobody has waited for it any more: it comes to its end, and mostly to nothing else.
    """

    task: asyncio.Task[Any]

    def __init__(self, about: Any) -> None:
        self.about = about
        self.is_cancelled = False
        self._loop = asyncio.get_running_loop()
        self._waiting = 0

    def start(self, fetching: Coroutine[Any, Any, Any], ended: Ended) -> None:
        """Let it fly; those of other loops that wait for it come after this."""
        self.task = self._loop.create_task(fetching)
        self.task.add_done_callback(ended)

    @property
    def is_lost(self) -> bool:
        """Whether its event loop has ended before it has."""
        return not self._loop.is_running()

    @property
    def has_come(self) -> bool:
        """Whether it has ended well."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    async def end(self) -> None:
        """Wait, from any event loop, until it has ended, however."""
        await self._at_home(self._end)

    async def join(self) -> Any:
        """Wait for what it brings, from any event loop."""
        return await self._at_home(self.wait)

    async def wait(self) -> Any:
        """Wait for what it brings, in its own event loop."""
        self._waiting += 1
        try:
            await asyncio.wait([self.task])
        finally:
            self._waiting -= 1
            if not self._waiting and not self.task.done():  # nobody wants it any more
                self.is_cancelled = self.task.cancel()
                await asyncio.wait([self.task])
            if self.task.done() and not self.task.cancelled():
                self.task.exception()  # perhaps nobody else asks for it
        if self.task.cancelled():
            raise InternalError("what several waited for was cancelled")
        return self.task.result()

    async def _end(self) -> None:
        await asyncio.wait([self.task])

    async def _at_home(self, wait: Fetch) -> Any:
        """What waiting comes to in its own event loop, where alone its task may be touched."""
        if asyncio.get_running_loop() is self._loop:
            return await wait()
        waiting = wait()
        try:
            come = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, self._loop))
        except RuntimeError:  # it is closed
            waiting.close()
            raise InternalError("the event loop in which this was fetched has ended") from None
        try:
            await asyncio.wait([come])
        finally:
            come.cancel()  # where it is waited for no more
        if come.cancelled():
            raise InternalError("the event loop in which this was fetched has ended")
        return come.result()
