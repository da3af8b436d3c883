"""What each rival implements: the two sides of a call and the two sides of an event, each in a process of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from benchmarks.messages import Order, Progress, Reading, Receipt, Tally

Call = Callable[[Order], Awaitable[Receipt]]
Publish = Callable[[Reading], Awaitable[None]]
Hear = Callable[[Progress], None]


class Peer(Protocol):
    """One way to do RPC and events over NATS."""

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
