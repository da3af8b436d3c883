"""Cuts: logs that have lost their end, and what is left then of what a queue knows of them.

The broker loses it where a replica leads that had not all of it (`unclean.leader.election.enable`), or where a disk
does. What is published anew gets the offsets of what is gone, which are finished as far as the queue knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from eventmicro_kafka.connection.epochs import Epochs, ends_of
from eventmicro_kafka.connection.group import commit_patiently
from eventmicro_kafka.connection.protocol import UNKNOWN
from eventmicro_kafka.consuming.lane import Committed, Lane
from eventmicro_kafka.consuming.losses import say_cut
from eventmicro_kafka.consuming.progress import epoch_of, read_progress, topic_of, up_to, with_topic
from eventmicro_kafka.errors import KafkaError, plain

log = logging.getLogger(__name__)

# How long asking where logs end may take, in seconds.
TIMEOUT = 5.0
# What the brokers do not say, or are too old to be asked.
NOT_TOLD = (KafkaError, OSError, NotImplementedError)  # TimeoutError is an OSError


async def as_far_as_there(consumer: Any, queue: str, found: Mapping[Any, Committed]) -> dict[Any, Committed]:
    """What is committed, as far as the logs have what it says; where that is less it is committed."""
    try:
        async with asyncio.timeout(TIMEOUT):
            cut = await _cut(consumer, found)
    except NOT_TOLD as error:  # it is seen by the epochs of what comes
        log.debug("queue %r: where the logs of its partitions end is not told: %s", queue, plain(error))
        return dict(found)
    left = dict[Any, Committed]()
    for place, (end, at) in cut.items():
        known_until, _ = read_progress(*found[place])
        say_cut(f"queue {queue!r}", f"{place.topic}-{place.partition}", end, known_until, {"queue": queue})
        left[place] = at
    if left:
        await commit_patiently(consumer, left)
    return {**found, **left}


class Known(NamedTuple):
    """What is known of a partition without a lane: up to where it was fetched, and of which epoch the last was."""

    place: Any
    fetched: int
    epoch: int

    @property
    def known_until(self) -> int:
        return self.fetched

    @property
    def name(self) -> str:
        return f"{self.place.topic}-{self.place.partition}"


async def end_of_known(consumer: Any, lane: Lane | Known, epochs: Epochs) -> int | None:
    """Where the log ends of what was stored under the leader that a lane knows, now that it goes on under another.

    None: it does not end before anything that the lane knows of, or nobody says it.
    """
    ends = dict[Any, int]()
    for _ in range(2):  # the first may have been asked of who leads no more
        try:
            async with asyncio.timeout(TIMEOUT):
                if ends := await ends_of(consumer, {lane.place: lane.epoch}):
                    break
                await consumer._client.force_metadata_update()
        except NOT_TOLD as error:
            log.debug("where the log of %s ends under an earlier leader is not told: %s", lane.name, plain(error))
    end = ends.get(lane.place, epochs.begin_after(lane.place, lane.epoch))
    return end if end is not None and end < max(lane.fetched, lane.known_until) else None


async def _cut(consumer: Any, found: Mapping[Any, Committed]) -> dict[Any, tuple[int, Committed]]:
    """Of those places that know more than there is where the log was cut, and what is left."""
    epochs = {place: epoch for place, at in found.items() if (epoch := epoch_of(at[1])) != UNKNOWN}
    known = {place: read_progress(*at)[0] for place, at in found.items()}
    ends = await ends_of(consumer, epochs)
    cut = {place: (end, up_to(end, *found[place])) for place, end in ends.items() if end < known[place]}
    unsure = [place for place, at in found.items() if place not in ends and known[place] > at[0]]
    if unsure:  # since when it has been another log nobody knows, so nothing counts as known
        of_log = await consumer.end_offsets(unsure)
        for place in unsure:
            if of_log[place] < known[place]:
                first, more = found[place]
                cut[place] = of_log[place], (first, with_topic("", topic_of(more)))
    return cut
