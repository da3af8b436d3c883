"""Single flight: of several that want the same at the same time one fetches it, and all get it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from eventmicro.context import Context
from eventmicro.errors import CallTimeout, InternalError
from eventmicro.middlewares.line import before_deadline

Fetch = Callable[[], Coroutine[Any, Any, Any]]


class Flights:
    """What is being fetched, by its key. It goes on as long as anybody waits for it, whoever began it."""

    def __init__(self) -> None:
        self._flying: dict[Hashable, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flying

    def about(self, key: Hashable) -> Any:
        """What who began it has said of it."""
        return self._flying[key].about

    async def join(self, key: Hashable, fetch: Fetch, context: Context, about: Any = None) -> Any:
        """What is fetched under this key now, or else what `fetch` brings.

        Where the time of who began it was over those who have more fetch it once more, together; so they do where it
        was given up, unless it has come all the same.

        Raises:
            CallTimeout: it did not come before the deadline of the context.
        """
        flight = self._flying.get(key)
        while flight is not None and flight.is_cancelled:
            await before_deadline(asyncio.wait([flight.task]), context, "the end of the same that was given up")
            if flight.has_come:
                return flight.task.result()
            flight = self._flying.get(key)
        if flight is not None:
            try:
                return await before_deadline(flight.wait(), context, "the same that is fetched already")
            except CallTimeout:
                if context.remaining() == 0:
                    raise
            flight = self._flying.get(key)
        if flight is None:  # it ends by the deadline of this one
            return await self.begin(key, fetch, about).wait()
        return await before_deadline(flight.wait(), context, "the same that is fetched again")

    def begin(self, key: Hashable, fetch: Fetch, about: Any = None) -> _Flight:
        """Fetch it; it is there for whoever joins until it has ended."""
        flight = self._flying[key] = _Flight(fetch(), about)
        flight.task.add_done_callback(lambda _: self._flying.pop(key, None))
        return flight


class _Flight:
    """
    about: what who began it has said of it.
    is_cancelled: whether nobody has waited for it any more: it comes to its end, and mostly to nothing else.
    """

    def __init__(self, fetching: Coroutine[Any, Any, Any], about: Any) -> None:
        self.about = about
        self.task = asyncio.create_task(fetching)
        self.is_cancelled = False
        self._waiting = 0

    @property
    def has_come(self) -> bool:
        """Whether it has ended well."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    async def wait(self) -> Any:
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
