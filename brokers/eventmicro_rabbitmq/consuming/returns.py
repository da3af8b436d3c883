"""Returns: events of an ordered queue that were given back, and come again before any other is handed over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery

log = logging.getLogger(__name__)

# How long an event that was given back is waited for, in seconds. It comes at once, unless somebody has taken it out of
# the queue.
RETURN_TIMEOUT = 30.0
# And one whose publisher has said when it expires: where it has not come by then, it has expired.
EXPIRING_TIMEOUT = 2.0


class Returns:
    """What is awaited, and what has come and waits for the others.

    Args:
        queue: the queue's name, for the log.
        on_complete: called with those that have come, in their order, when no others are awaited.
    """

    def __init__(self, queue: str, on_complete: Callable[[list[RabbitDelivery]], None]) -> None:
        self._queue = queue
        self._on_complete = on_complete
        self._awaited: list[RabbitDelivery] = []
        self._came: list[tuple[RabbitDelivery, RabbitDelivery]] = []  # each as it was given back, and as it has come
        self._complete = asyncio.Event()
        self._complete.set()
        self._too_late: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many have come and wait for others."""
        return len(self._came)

    def expect(self, delivery: RabbitDelivery) -> None:
        """It is given back."""
        self._awaited.append(delivery)
        self._complete.clear()
        loop = asyncio.get_running_loop()
        if delivery.properties.expiration:
            loop.call_later(EXPIRING_TIMEOUT, self._await_no_more, delivery)
        if self._too_late is None:
            self._too_late = loop.call_later(RETURN_TIMEOUT, self._go_on_without)

    def takes(self, delivery: RabbitDelivery) -> bool:
        """Whether this is one that is awaited; it gets the place that it had."""
        same = next((awaited for awaited in self._awaited if awaited.id == delivery.id), None)
        if same is None:
            return False
        delivery.order = same.order
        self._awaited.remove(same)
        self._came.append((same, delivery))
        if not self._awaited:
            self._go_on()
        return True

    def keep(self, deliveries: list[RabbitDelivery]) -> None:
        """These are not given back yet, and shall not be."""
        kept = {delivery.tag for delivery in deliveries}
        self._awaited = [delivery for delivery in self._awaited if delivery.tag not in kept]
        if not self._awaited:
            self._complete.set()

    def forget(self) -> None:
        """Await nothing any more."""
        self._awaited.clear()
        self._came.clear()
        self._complete.set()
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def lapse(self) -> None:
        """The channel has ended: they may come to another instance, and nobody here is to keep others behind them."""
        for delivery in (*self._awaited, *(before for before, _ in self._came)):
            delivery.lapsed = True
        self.forget()

    async def wait(self) -> None:
        """Return when nothing is awaited."""
        await self._complete.wait()

    def _go_on(self) -> None:
        came = sorted((again for _, again in self._came), key=lambda delivery: delivery.order)
        self.forget()
        self._on_complete(came)

    def _await_no_more(self, delivery: RabbitDelivery) -> None:
        before = len(self._awaited)
        self._awaited = [awaited for awaited in self._awaited if awaited is not delivery]
        if before and not self._awaited:
            self._go_on()

    def _go_on_without(self) -> None:
        log.warning(
            "queue %s: events that were to come again did not; going on", self._queue, extra={"queue": self._queue}
        )
        self._go_on()
