"""Keeping: the places of queues that nobody reads for a while, those of dead letters."""

from __future__ import annotations

import asyncio
import logging
import random

from eventmicro.errors import TransportError
from eventmicro_kafka.connection.driver import make_consumer, raise_trouble
from eventmicro_kafka.connection.ending import LEAVE_TIME, end_tasks, stop_consumer
from eventmicro_kafka.connection.group import has_no_member
from eventmicro_kafka.consuming.looking import TIMEOUT
from eventmicro_kafka.consuming.positions import fix_positions
from eventmicro_kafka.errors import KafkaError, plain
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics, check_topic

log = logging.getLogger(__name__)

# How often a place is renewed, in seconds: Kafka forgets one a week after the last member has left its group
# (offsets.retention.minutes), and what has come since would be skipped.
RENEW_INTERVAL = 3600.0
# How often is looked whether the group has let this side in, in seconds.
LOOK_INTERVAL = 0.05


class Keeper:
    """Sees to it that all that is published to a subject is kept for the queue of the same name."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics
        self._subjects: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._closed = False

    async def keep(self, subject: str) -> None:
        """Begin with a subject.

        Raises:
            UsageError: it is no name of a topic, or the cluster refuses it.
            TransportError: the cluster does not answer.
        """
        check_topic(subject, "dead letter subject")
        await self._fix(subject)
        self._subjects.add(subject)
        if self._renewing is None and not self._closed:
            self._renewing = asyncio.create_task(self._renew_all(), name="eventmicro kafka places of dead letters")

    async def close(self) -> None:
        """Renew no more."""
        self._closed = True
        await end_tasks(lambda: [] if self._renewing is None else [self._renewing], LEAVE_TIME)

    async def _renew_all(self) -> None:
        spread = random.random()  # noqa: S311  instances that begin together do not renew together
        await asyncio.sleep(RENEW_INTERVAL * spread)
        while True:
            for subject in list(self._subjects):
                try:
                    await self._fix(subject)
                    await self._renew(subject)
                except (TransportError, KafkaError, OSError) as error:  # TimeoutError is an OSError
                    log.debug("queue %r: its place is renewed later: %s", subject, plain(error))
                except Exception:  # aiokafka's own failures among them
                    log.exception(
                        "the place of queue %r is not renewed, which is tried again",
                        subject,
                        extra={"subject": subject},
                    )
            await asyncio.sleep(RENEW_INTERVAL)

    async def _fix(self, subject: str) -> None:
        counts = {subject: await self._topics.partitions(subject)}
        await fix_positions(self._settings, subject, counts, {subject: "all"})

    async def _renew(self, subject: str) -> None:
        """Be the group's member for a moment, where it has none. A commit alone renews nothing once it has had one."""
        consumer = make_consumer(self._settings, subject)
        try:
            async with asyncio.timeout(TIMEOUT):
                await consumer.start()
                if await has_no_member(consumer):
                    consumer.subscribe([subject])
                    while not consumer.assignment():
                        raise_trouble(consumer)
                        await asyncio.sleep(LOOK_INTERVAL)
        finally:
            await stop_consumer(consumer)
