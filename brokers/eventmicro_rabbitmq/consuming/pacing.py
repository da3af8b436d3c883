"""Pacing: a subscription holds no more events than it can begin with before RabbitMQ takes them back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from eventmicro.intake import Intake
from eventmicro_rabbitmq.consuming.consumer import Consumer
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery
from eventmicro_rabbitmq.consuming.pace import Pace

log = logging.getLogger(__name__)


class Pacing:
    """Looks now and then how fast events are handled, and has the consumer hold more or fewer.

    Args:
        state: how many are settled in all, and how many are not.
        give_back: gives events back with which nobody has begun.
    """

    def __init__(
        self,
        queue: str,
        pace: Pace,
        consumer: Consumer,
        intake: Intake[RabbitDelivery],
        state: Callable[[], tuple[int, int]],
        give_back: Callable[[list[RabbitDelivery]], None],
    ) -> None:
        self._queue = queue
        self._pace = pace
        self._consumer = consumer
        self._intake = intake
        self._state = state
        self._give_back = give_back

    async def run(self) -> None:
        """Look every so often, until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.interval):
                    await self._pace.learnt.wait()
            self._pace.learnt.clear()
            await self.look()

    async def look(self) -> None:
        """Look once."""
        waiting, now = self._intake.waiting, time.monotonic()
        settled, unsettled = self._state()
        self._pace.measure(now, settled, busy=bool(waiting) or unsettled >= self._pace.held)
        in_time = self._pace.in_time([now - (delivery.arrived or now) for delivery in waiting])
        if in_time < len(waiting):
            await self._hold_less(unsettled - len(waiting) + in_time, len(waiting) - in_time)
        elif self._pace.may_grow():
            await self._consumer.hold_as_many(self._queue, self._pace.held, lambda: None)

    async def _hold_less(self, held: int, surplus: int) -> None:
        self._pace.slow_down(held)
        said = "queue %s: %d events would wait for too long here and go back; it holds up to %d from now on"
        log.info(said, self._queue, surplus, self._pace.held)
        # those that wait behind all others, to whoever has the time
        give_back = lambda: self._give_back(self._intake.take_last(surplus))  # noqa: E731
        await self._consumer.hold_as_many(self._queue, self._pace.held, give_back)
