"""Parking: puts copies of events that are to be delivered again later into the retry topic, many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from eventmicro.errors import Disconnected, NotAllPublished, Unconfirmed
from eventmicro.message import Copy
from eventmicro_kafka.consuming.lane import KafkaDelivery
from eventmicro_kafka.consuming.retry import retry_copy

log = logging.getLogger(__name__)

# How many copies are published at a time.
AT_ONCE = 500
# How long they may take, in seconds: as long as the broker is away, for the producer still has them then, and stores
# once what would be stored twice if it were given to it again.
TIMEOUT = 86_400.0
# How long is waited for those that are on their way when the subscription is closed, in seconds.
FINISH_TIMEOUT = 3.0
# How long to wait before copies that failed are tried again, in seconds.
AGAIN_INTERVAL = 1.0
# What keeps a copy from being stored only for now.
MAY_PASS = (Disconnected, Unconfirmed)

REFUSED = "queue %r: %s: %d events wait on this side for their next attempt: %s"

_Parked = tuple[KafkaDelivery, float]
"""An event, and when it is due, in seconds of `time.time()`."""


class Stores(Protocol):
    """What stores copies of events."""

    async def publish_many(self, messages: Sequence[Copy], timeout: float) -> None:
        """As of `eventmicro.broker.Broker`."""
        ...


class Driveway(Protocol):
    """Whoever the events come from."""

    def parked(self, delivery: KafkaDelivery) -> None:
        """A copy is stored, or the event is somebody else's by now."""
        ...

    def not_parked(self, delivery: KafkaDelivery, due: float) -> bool:
        """The broker takes no copy; the event has to wait on this side until it is due. False: there is no room."""
        ...


class Parking:
    """The events that are on their way to the retry topic.

    Args:
        topic: the retry topic.
        queue: whose events they are.
    """

    def __init__(self, publisher: Stores, topic: str, queue: str, owner: Driveway) -> None:
        self.topic = topic
        self._publisher = publisher
        self._queue = queue
        self._owner = owner
        self._coming: deque[_Parked] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, delivery: KafkaDelivery, due: float) -> None:
        """Put it aside until it is due, in seconds of `time.time()`."""
        self._coming.append((delivery, due))
        self._filled.set()
        self._empty.clear()

    async def run(self) -> None:
        """Put aside what comes, for as long as it takes."""
        while True:
            await self._filled.wait()
            batch = [self._coming.popleft() for _ in range(min(AT_ONCE, len(self._coming)))]
            again = await self._store(batch)
            self._coming.extend(again)
            if again:
                await asyncio.sleep(AGAIN_INTERVAL)
            elif not self._coming:
                self._filled.clear()
                self._empty.set()

    async def finish(self) -> None:
        """Return when all that was to be put aside is, or after some time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT):
                await self._empty.wait()

    async def _store(self, batch: list[_Parked]) -> list[_Parked]:
        """Put copies of these into the topic; for which of them that is to be tried again."""
        copied = [(delivery, due) for delivery, due in batch if not delivery.lane.gone]
        failed: dict[int, Exception] = {}
        try:
            copies = [retry_copy(delivery, self.topic, self._queue, due) for delivery, due in copied]
            await self._publisher.publish_many(copies, TIMEOUT)
        except NotAllPublished as error:
            failed = {id(copied[position][0]): met for position, met in error.failed.items()}
            self._warn(error.failed.values())
        except Exception as error:  # it never should
            failed = dict.fromkeys((id(delivery) for delivery, _ in copied), error)
            log.exception(
                REFUSED, self._queue, self.topic, len(copied), "they cannot be copied", extra={"queue": self._queue}
            )
        return [(delivery, due) for delivery, due in batch if not self._settle(delivery, due, failed.get(id(delivery)))]

    def _settle(self, delivery: KafkaDelivery, due: float, error: Exception | None) -> bool:
        """Whether an event is put aside, here or there."""
        if delivery.lane.gone or error is None:
            self._owner.parked(delivery)
            return True
        return not isinstance(error, MAY_PASS) and self._owner.not_parked(delivery, due)

    def _warn(self, failed: Iterable[Exception]) -> None:
        refused = [error for error in failed if not isinstance(error, MAY_PASS)]
        if refused:
            log.warning(REFUSED, self._queue, self.topic, len(refused), refused[0], extra={"queue": self._queue})
