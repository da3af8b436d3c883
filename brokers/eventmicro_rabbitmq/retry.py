"""Delayed retries without a plug-in: a copy of the event waits in a queue from which it returns by itself.

Each delay of a ladder has a queue of its own, because RabbitMQ lets events leave a queue only at its head.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from eventmicro.errors import MessageTooLarge, TransportError, UsageError
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, for_retry
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.errors import DriverError, plain
from eventmicro_rabbitmq.publisher import Publisher, Unroutable
from eventmicro_rabbitmq.topology import retry_queue

log = logging.getLogger(__name__)

# How long the server may take to confirm a copy, in seconds.
COPY_TIMEOUT = 5.0
# How long after a copy was not confirmed the next one is tried, in seconds.
TRY_AGAIN = 30.0
# Shorter delays do not wait until a new queue is safe, in seconds.
SHORT = 10.0

# The ladder: the shortest wait in milliseconds, and how many times each step is as long as the one before.
SHORTEST = 50
STEP = 1.2
# The longest wait that RabbitMQ takes, about 49 days.
LONGEST = 2**32 - 1


def rung(delay: float) -> int:
    """The step of the ladder, in milliseconds, that is nearest to a delay in seconds: within 10 %."""
    milliseconds = max(delay * 1000, SHORTEST)
    step = round(math.log(milliseconds / SHORTEST, STEP))
    return min(round(SHORTEST * STEP**step), LONGEST)


def check_retry_queues(queue: str) -> None:
    """Refuse a queue whose waiting queues could not be named.

    Raises:
        UsageError: its name is too long.
    """
    try:
        retry_queue(queue, LONGEST)
    except UsageError as error:
        raise UsageError(
            f"{error}, also those of the queues in which its events wait: {queue}.retry.{LONGEST}"
        ) from None


class Retries:
    """Copies of events: such as wait in RabbitMQ for their next attempt, and such as say which it is.

    They are published on a channel of their own, so that one which RabbitMQ refuses costs no event its channel.
    """

    def __init__(self, link: Link, declarer: Declarer) -> None:
        self._link = link
        self._publisher = Publisher(link, _prepare_nothing)
        self._declarer = declarer
        self._failed: dict[str, float] = {}

    def close(self) -> None:
        """Let go of the copies that are on their way."""
        self._publisher.close()

    async def postpone(self, queue: str, delivery: RabbitDelivery, delay: float) -> bool:
        """Store a copy of an event that returns to its queue in `delay` seconds; False: that cannot be done now."""
        milliseconds = rung(delay)
        name = retry_queue(queue, milliseconds)
        return await self._try(
            name, queue, "delayed retries wait here", lambda: self._store(name, queue, milliseconds, delivery)
        )

    async def recount(self, queue: str, delivery: RabbitDelivery) -> bool:
        """Store a copy of an event last in its queue, which says how often it was delivered; False as in `postpone`."""
        return await self._try(queue, queue, "each instance counts attempts alone", lambda: self._copy(queue, delivery))

    async def _try(self, name: str, queue: str, instead: str, store: Callable[[], Awaitable[bool]]) -> bool:
        now = asyncio.get_running_loop().time()
        if self._failed.get(name, 0.0) > now:
            return False
        try:
            async with asyncio.timeout(COPY_TIMEOUT):
                return await store()
        except Exception as error:  # a nack never fails
            if isinstance(error, MessageTooLarge) or not isinstance(error, (TransportError, UsageError, *DriverError)):
                log.warning(
                    "queue %s: no copy can be made of an event, so that it waits here: %s",
                    queue,
                    plain(error),
                    extra={"queue": queue},
                )
            elif self._link.online:
                self._failed[name] = now + COPY_TIMEOUT + TRY_AGAIN
                log.warning(
                    "queue %s takes no events, so that %s: %s", name, instead, plain(error), extra={"queue": queue}
                )
            return False

    async def _store(self, name: str, queue: str, milliseconds: int, delivery: RabbitDelivery) -> bool:
        while True:
            unsafe = await self._declarer.retry_queue(await self._link.wait(), name, queue, milliseconds)
            if unsafe > 0:
                if milliseconds < SHORT * 1000:
                    return False
                await asyncio.sleep(unsafe)
            try:
                return await self._copy(name, delivery)
            except Unroutable:
                self._declarer.forget(name)  # somebody has deleted it

    async def _copy(self, name: str, delivery: RabbitDelivery) -> bool:
        deadline = asyncio.get_running_loop().time() + COPY_TIMEOUT
        properties = for_retry(delivery)
        await (await self._publisher.send("", name, properties, delivery.body, mandatory=True, deadline=deadline))
        return True


async def _prepare_nothing(_: Connection) -> None:
    """The default exchange is always there."""
