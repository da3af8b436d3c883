"""Watching: the middleware by which a world sees what is handled and called, and has handlers fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from eventmicro.context import Context, Side
from eventmicro.middleware import Handler
from eventmicro.middlewares.watched import watch
from eventmicro.testing.faults import Faults
from eventmicro.testing.records import CLIENT, Called, Handled, Journal

OUTCOMES = (Side.ENDPOINT, Side.SUBSCRIBER)


@dataclass(slots=True)
class Place:
    """Where a handler stands: another one may be put there while its service runs."""

    handler: Handler


class Watching:
    """Around the handlers and the calls of one service, or around the calls of the world's client.

    Args:
        endpoints: the names of the service's endpoints; what a node answers beside them is not noted.
        changed: is called as something is noted.

    Attributes:
        places: where its endpoints and its subscribers stand, each in the order in which they were made.
    """

    __eventmicro_sides__ = frozenset((Side.ENDPOINT, Side.SUBSCRIBER, Side.CLIENT))

    def __init__(
        self, owner: str, endpoints: set[str], journal: Journal, faults: Faults, changed: Callable[[], None]
    ) -> None:
        self.places: dict[Side, list[Place]] = {side: [] for side in OUTCOMES}
        self._owner = owner
        self._endpoints = endpoints
        self._journal = journal
        self._faults = faults
        self._changed = changed
        self._replaced: Place | None = None

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        """As a middleware that nobody has made ready."""
        return await self.around(context.side, call_next, "")(message, context)

    def around(self, side: Side, inner: Handler, url: str) -> Handler:
        """The handler with a look at what it gets and what comes of it."""
        if side is Side.CLIENT:
            return partial(self._call, inner)
        if self._replaced is not None:
            self._replaced.handler = inner
            return inner
        place = Place(inner)
        self.places[side].append(place)
        return partial(self._handle, place)

    @contextmanager
    def replacing(self, place: Place) -> Iterator[None]:
        """What is made ready meanwhile takes this place."""
        self._replaced = place
        try:
            yield
        finally:
            self._replaced = None

    async def _handle(self, place: Place, message: Any, context: Context) -> Any:
        if context.side is Side.ENDPOINT and context.endpoint not in self._endpoints:
            return await place.handler(message, context)
        name = f"{context.service}.{context.endpoint}"
        handled: Handled[Any] = Handled(
            value=message,
            subject=context.topic,
            service=context.service,
            handler=name,
            metadata=dict(context.metadata or {}),
            attempt=context.attempt,
        )
        self._journal.handled.append(handled)
        self._changed()
        fault = self._faults.of_handler(name, lambda: message)
        handler = place.handler if fault is None else partial(_fail, fault.error)
        return await watch(handler, message, context, partial(self._ended, handled))

    async def _call(self, inner: Handler, message: Any, context: Context) -> Any:
        called: Called[Any, Any] = Called(
            request=message,
            endpoint=f"{context.service}.{context.endpoint}",
            service=self._owner,
            metadata=dict(context.metadata or {}),
        )
        self._journal.called.append(called)
        reply = await watch(inner, message, context, partial(self._ended, called))
        if not context.is_stream:
            called.reply = reply
        return reply

    def _ended(self, record: Handled[Any] | Called[Any, Any], error: BaseException | None) -> None:
        record.error = error
        is_cancelled = isinstance(error, asyncio.CancelledError)
        record.outcome = "done" if error is None else "cancelled" if is_cancelled else "failed"
        self._changed()


async def _fail(error: Any, message: Any, context: Context) -> Any:
    """In place of a handler."""
    raise error


def of_client(journal: Journal, faults: Faults, changed: Callable[[], None]) -> Watching:
    """Around the calls of the world's client."""
    return Watching(CLIENT, set(), journal, faults, changed)
