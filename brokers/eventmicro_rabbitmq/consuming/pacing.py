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
    """

    def __init__(
        self,
        queue: str,
        pace: Pace,
        consumer: Consumer,
        intake: Intake[RabbitDelivery],
        state: Callable[[], tuple[int, int]],
    ) -> None:
        self._queue = queue
        self._pace = pace
        self._consumer = consumer
        self._intake = intake
        self._state = state
        self._full = self._ended = False

    def is_full(self) -> None:
        """As many came as may be held."""
        self._full = True
        self._pace.learnt.set()

    def end(self) -> None:
        """Look no more; a change that is under way is finished: RabbitMQ's answer to it is still to come."""
        self._ended = True
        self._pace.learnt.set()

    async def run(self) -> None:
        """Look every so often, until `end`."""
        while not self._ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.interval):
                    await self._pace.learnt.wait()
            self._pace.learnt.clear()
            if not self._ended:
                await self.look()

    async def look(self) -> None:
        """Look once."""
        waiting, now = self._intake.waiting, time.monotonic()
        settled, unsettled = self._state()
        full, self._full = self._full or unsettled >= self._pace.held, False
        self._pace.measure(now, settled, busy=bool(waiting) or full)
        in_time = self._pace.in_time([now - (delivery.arrived or now) for delivery in waiting])
        if in_time < len(waiting):
            await self._hold_less(unsettled - len(waiting) + in_time)
        elif unsettled <= self._pace.held and self._pace.may_grow(all_begun=full and not waiting):
            await self._consumer.hold(self._queue, self._pace.held)

    async def _hold_less(self, held: int) -> None:
        """What came stays, and is begun as soon as it can be."""
        before = self._pace.held
        self._pace.slow_down(held)
        await self._consumer.hold(self._queue, self._pace.held)
        self._pace.held = self._consumer.prefetch
        if self._pace.held < before:
            log.info(
                "queue %s: events wait for too long here; it holds up to %d",
                self._queue,
                self._pace.held,
                extra={"queue": self._queue},
            )
