"""Attempts at events whose queue does not count them, as a classic queue does not."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from eventmicro_rabbitmq.connection.connection import end_task
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery

# Of how many events it is remembered how often they came, where nothing else tells it.
REMEMBERED = 10_000


class Uncounted:
    """Gives an event that comes again, nobody says for which time, a copy that says it, and which comes in its place.

    Where no copy can be made, or it would come too late, this process alone knows how often it came.

    Args:
        store: makes the copy; False where that cannot be done now.
        on_stored: called with an event that has its copy.
        on_counted: called with one that has none, and whose `attempt` is right.
    """

    def __init__(
        self,
        store: Callable[[RabbitDelivery], Awaitable[bool]],
        on_stored: Callable[[RabbitDelivery], None],
        on_counted: Callable[[RabbitDelivery], None],
    ) -> None:
        self._store = store
        self._on_stored = on_stored
        self._on_counted = on_counted
        self._storing: set[asyncio.Task[None]] = set()
        self._attempts: OrderedDict[str, int] = OrderedDict()

    def replace(self, delivery: RabbitDelivery) -> None:
        """Store a copy that is counted; it is an attempt that the queue has not told."""
        task = asyncio.create_task(self._replace(delivery), name="eventmicro rabbitmq count")
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    def count(self, delivery: RabbitDelivery) -> None:
        """Count it here."""
        attempt = self._attempts.pop(delivery.id, delivery.attempt) + 1
        delivery.attempt = self._attempts[delivery.id] = attempt
        if len(self._attempts) > REMEMBERED:
            self._attempts.popitem(last=False)

    async def close(self) -> None:
        """Make no more copies: what has none goes back into its queue."""
        await asyncio.gather(*(end_task(task) for task in self._storing.copy()))

    async def _replace(self, delivery: RabbitDelivery) -> None:
        if await self._store(delivery):
            self._on_stored(delivery)
        else:
            self.count(delivery)
            self._on_counted(delivery)
