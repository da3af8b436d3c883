"""Keeping: the places of queues that nobody reads for a while, those of dead letters."""

from __future__ import annotations

import asyncio
import logging

from eventmicro.errors import TransportError, UsageError
from eventmicro_kafka.positions import fix_positions
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics, check_topic

log = logging.getLogger(__name__)

# How often a place is committed again, in seconds: Kafka forgets one of a group without members a week after it was
# committed (offsets.retention.minutes), and what has come since would be skipped.
RENEW_INTERVAL = 3600.0


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
            self._renewing = asyncio.create_task(self._renew(), name="eventmicro kafka places of dead letters")

    async def close(self) -> None:
        """Renew no more."""
        self._closed = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL)
            for subject in list(self._subjects):
                try:
                    await self._fix(subject)
                except (TransportError, UsageError) as error:
                    log.debug("%s", error)
                except Exception:  # aiokafka's own failures among them
                    log.exception("the place of queue %r was not committed again, which is tried later", subject)

    async def _fix(self, subject: str) -> None:
        counts = {subject: await self._topics.partitions(subject)}
        await fix_positions(self._settings, subject, counts, {subject: "all"}, renew=True)
