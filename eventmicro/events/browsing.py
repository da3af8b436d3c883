"""Browsing: what the queue of dead letters has, read as by any consumer, held, and given back at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

from eventmicro.broker import Broker, Durable, Subscription
from eventmicro.errors import Disconnected
from eventmicro.message import Delivery

# How many letters may stay while others behind them go: of a partition of Kafka not many more such gaps are noted.
HOLD = 500
# How many more are asked for ahead.
AHEAD = 256
# After how long without another one there are no more, and how long a broker may be away, in seconds.
QUIET = 5.0
PATIENCE = 60.0


class Came(NamedTuple):
    """What has come, and whether it had come before and was taken back, as with a lost connection."""

    delivery: Delivery
    again: bool


class Browsing:
    """A consumer of the queue within `async with`; at the end it gives back what is not settled.

    Args:
        subject: that of the letters, which is also the name of their queue.
        hold: how many may be here that stay.
        quiet: how long the next one is waited for while the broker is there, in seconds.
    """

    def __init__(self, broker: Broker, subject: str, hold: int, quiet: float) -> None:
        self._broker = broker
        self._subject = subject
        self._hold = hold
        self._quiet = quiet
        self._line: deque[Delivery] = deque()
        self._held: dict[str, Delivery] = {}
        self._more = asyncio.Event()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        durable = Durable(prefetch=self._hold + AHEAD)
        subject = self._subject
        self._subscription = await self._broker.subscribe(subject, self._take, queue=subject, durable=durable)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back all that is here; a broker that is away takes it back by itself."""
        try:
            if self._subscription is not None:
                await self._subscription.drain()
        finally:
            for delivery in (*self._held.values(), *self._line):
                await delivery.nack()

    def __len__(self) -> int:
        """How many are held that were looked at."""
        return len(self._held)

    async def next(self) -> Came | None:
        """The next one; None where there seem to be no more.

        Raises:
            Disconnected: the broker is away.
        """
        waited = 0.0
        while True:
            while self._line:
                delivery = self._line.popleft()
                if not delivery.lapsed:
                    return Came(delivery, self._hold_on_to(delivery))
            self._more.clear()
            try:
                async with asyncio.timeout(self._quiet):
                    await self._more.wait()
            except TimeoutError:
                if self._broker.online:
                    return None
                waited += self._quiet
                if waited >= PATIENCE:
                    raise Disconnected(f"{self._broker.url} is away; what is not done stays") from None

    async def settle(self, delivery: Delivery) -> None:
        """It is dealt with."""
        if not delivery.try_ack():
            await delivery.ack()
        for name in (delivery.id, f"{delivery.id} {id(delivery)}"):
            if self._held.get(name) is delivery:
                del self._held[name]

    def _take(self, delivery: Delivery) -> None:
        self._line.append(delivery)
        self._more.set()

    def _hold_on_to(self, delivery: Delivery) -> bool:
        """Keep it; whether it was here before. Its publisher may have given two events the same id."""
        before = self._held.get(delivery.id)
        is_another = before is not None and not before.lapsed
        self._held[f"{delivery.id} {id(delivery)}" if is_another else delivery.id] = delivery
        return before is not None and not is_another
