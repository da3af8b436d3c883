"""What `eventmicro subscribe` does with messages: those that are kept, and then those that come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

from eventmicro.broker import Capabilities, ReadsKept
from eventmicro.cli.bodies import readable
from eventmicro.cli.show import print_line
from eventmicro.client import Client
from eventmicro.errors import UsageError
from eventmicro.message import Delivery
from eventmicro.plugins import brokers_with


class Watching:
    """Prints messages, a line each, until there were so many, or nobody reads them any more.

    What comes while those are printed that are kept waits behind them, with its publisher: within the broker's bounds.
    """

    def __init__(self, form: Callable[[Delivery], str], count: int | None) -> None:
        self.done = asyncio.Event()
        self._form = form
        self._left = count
        self._caught_up = asyncio.Event()

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """Take a message that comes."""
        if not self._caught_up.is_set():
            return self._receive_later(delivery)
        self._print(delivery)
        return None

    async def catch_up(self, client: Client, subject: str, since: datetime | None) -> None:
        """Print what the broker has kept since a moment, if one is named."""
        if since is not None:
            async with aclosing(kept_of(client).read_kept(subject, since)) as kept:
                async for delivery in kept:
                    self._print(delivery)
                    if self.done.is_set():
                        break
        self._caught_up.set()

    async def _receive_later(self, delivery: Delivery) -> None:
        await self._caught_up.wait()
        self._print(delivery)

    def _print(self, delivery: Delivery) -> None:
        if self.done.is_set():
            return
        self._left = None if self._left is None else self._left - 1
        if not print_line(self._form(readable(delivery))) or self._left == 0:
            self.done.set()


def kept_of(client: Client) -> ReadsKept:
    """The broker, which keeps events that can be read.

    Raises:
        UsageError: it keeps none.
    """
    broker = client.broker
    if broker.capabilities.replay and isinstance(broker, ReadsKept):
        return broker
    able = ", ".join(brokers_with(Capabilities(replay=True)))
    raise UsageError(f"--since: {broker.url} keeps no events to read; able are {able}")
