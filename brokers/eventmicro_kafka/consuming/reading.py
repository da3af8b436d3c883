"""Reading: takes records in from all partitions of a consumer but those that are to stand still for a while.

They do where their topic is held, or where they cannot be read; one does for as long as there is any reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from eventmicro_kafka.connection.driver import share_of, unreadable
from eventmicro_kafka.errors import why_unreadable

log = logging.getLogger(__name__)

# How many records are taken at a time, twice what is handed over together (see `AT_ONCE` there), and how long is waited
# for them, in milliseconds.
POLL_RECORDS = 128
POLL_TIME = 1000
# After how long a partition that could not be read is tried again, in seconds.
AGAIN_INTERVAL = 60.0

Batches = dict[Any, list[Any]]


class Reading:
    """What one consumer reads.

    Args:
        consumer: aiokafka's, started.
        who: whose records these are, for the log.
        place_of: from which offset of a partition on nothing has been taken in; None: it is not this side's yet.
    """

    def __init__(self, consumer: Any, who: str, place_of: Callable[[Any], int | None]) -> None:
        self._consumer = consumer
        self._who = who
        self._place_of = place_of
        self._held: set[str] = set()
        self._left_out: dict[Any, float] = {}

    def hold(self, topic: str, hold: bool) -> None:
        """Take nothing in of this topic, until it is no longer held."""
        (self._held.add if hold else self._held.discard)(topic)
        self._stand_still()

    async def read(self) -> Batches:
        """The next records, by partition; none, where none have come for a while."""
        if self._left_out or self._held:
            self._try_again()
            self._stand_still()  # again, as those that are shared anew do not
        try:
            batches: Batches = await self._consumer.getmany(timeout_ms=POLL_TIME, max_records=POLL_RECORDS)
            return batches
        except Exception:
            broken = unreadable(self._consumer)
            if broken is None:
                raise
            return await self._read_up_to(broken[0])

    async def _read_up_to(self, place: Any) -> Batches:
        """What one partition has before that which cannot be read."""
        consumer, records = self._consumer, list[Any]()
        self._go_back()
        share = share_of(consumer)
        try:
            while len(records) < POLL_RECORDS:
                found: Batches = await consumer.getmany(place, timeout_ms=POLL_TIME, max_records=1)
                if share is not share_of(consumer):  # what came before is read again
                    return found
                if not found:
                    break
                records += found[place]
        except Exception as error:
            broken = unreadable(consumer)
            if broken is None:
                raise
            if share is not share_of(consumer):
                return {}
            self._leave_out(*broken, error)
        return {place: records} if records else {}

    def _go_back(self) -> None:
        """Read again what was taken in together with that which cannot be read, and is lost with the error."""
        for place in self._consumer.assignment():
            offset = self._place_of(place)
            if offset is not None:
                self._consumer.seek(place, offset)

    def _leave_out(self, place: Any, offset: int, error: Exception) -> None:
        self._left_out[place] = time.monotonic() + AGAIN_INTERVAL
        self._stand_still()
        log.error(
            "%s: partition %d of %s cannot be read from offset %d on, and stands still; the others go on, and this one "
            "is tried again in %g s: %s",
            self._who,
            place.partition,
            place.topic,
            offset,
            AGAIN_INTERVAL,
            why_unreadable(error),
        )

    def _try_again(self) -> None:
        now = time.monotonic()
        self._left_out = {place: when for place, when in self._left_out.items() if when > now}

    def _stand_still(self) -> None:
        """Have aiokafka take in what there is no reason against, and nothing else."""
        consumer = self._consumer
        wanted = {place for place in consumer.assignment() if place in self._left_out or place.topic in self._held}
        paused = consumer.paused()
        consumer.pause(*wanted - paused)
        consumer.resume(*paused - wanted)
