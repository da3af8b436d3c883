"""What each rival implements: the two sides of a call and of an event, or of a durable event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from benchmarks.messages import Order, Progress, Reading, Receipt, Tally

Call = Callable[[Order], Awaitable[Receipt]]
Publish = Callable[[Reading], Awaitable[None]]
Hear = Callable[[Progress], None]


class Peer(Protocol):
    """One way to do RPC and events over NATS, each side in a process of its own."""

    def server(self, url: str) -> AbstractAsyncContextManager[None]:
        """Answer every order by `accept(order)`."""
        ...

    def client(self, url: str) -> AbstractAsyncContextManager[Call]:
        """What calls the server."""
        ...

    def subscriber(self, url: str, tally: Tally) -> AbstractAsyncContextManager[None]:
        """Give every reading to `tally.count` and publish the progress that it returns."""
        ...

    def publisher(self, url: str, hear: Hear) -> AbstractAsyncContextManager[Publish]:
        """What publishes readings; every progress that the subscriber reports goes to `hear`."""
        ...


Take = Callable[[Reading], None]


@dataclass(frozen=True)
class Publishing:
    """What has returned is stored by the broker: one reading, or several at once."""

    one: Publish
    many: Callable[[Sequence[Reading]], Awaitable[None]]


class DurablePeer(Protocol):
    """One way to do durable events over a broker."""

    def consumer(self, url: str, name: str, take: Take) -> AbstractAsyncContextManager[None]:
        """Decode the readings of the topic `name` for `take`, then acknowledge them.

        They come from a queue, durable consumer or group of the same name that exists from the first time on, and
        those that it takes are acknowledged when this is left.
        """
        ...

    def publisher(self, url: str, name: str) -> AbstractAsyncContextManager[Publishing]:
        """What publishes readings to the topic."""
        ...


class Store(Protocol):
    """What the broker itself says of a run; a module for each broker."""

    async def stored(self, url: str, name: str) -> int:
        """How many events of the topic were stored so far."""
        ...

    async def unsettled(self, url: str, name: str) -> int:
        """How many of these the queue has not settled."""
        ...

    async def remove(self, url: str, name: str) -> None:
        """Remove what the run has stored."""
        ...


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """A loop in the background; cancelled at the end, and its error raised there."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
