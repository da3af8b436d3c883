"""How it is with queues: what their groups have committed, against what their topics have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from eventmicro.broker import QueueState
from eventmicro_kafka.connection.driver import committed_all, count_members
from eventmicro_kafka.consuming.looking import looking_into
from eventmicro_kafka.consuming.progress import is_of_another, read_progress
from eventmicro_kafka.received import moment
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics

# How long the first event of a partition is waited for, in milliseconds, and in how many partitions it is looked at.
LOOK_TIME = 1000
MOST_LOOKED_AT = 16


async def state_of(settings: KafkaSettings, topics: Topics, group: str) -> QueueState | None:
    """How it is with the queue of a group; None: it has no place anywhere, so there is none.

    Raises:
        Disconnected: the cluster does not answer.
        UsageError: the cluster refuses it.
    """
    unknown = "it is not told how it is"
    async with looking_into(settings, group, "Describe", used="looked at", unknown=unknown) as consumer:
        places = await committed_all(consumer)
        if not places:
            return None
        first, waiting = await _unfinished(consumer, topics, places)
        return QueueState(
            queue=group,
            waiting=waiting,
            consumers=await count_members(consumer),
            oldest=await _oldest(consumer, first),
        )


async def _unfinished(
    consumer: Any, topics: Topics, places: Mapping[Any, tuple[int, str]]
) -> tuple[dict[Any, int], int]:
    """The first event that is not finished in each partition, and how many there are of them in all."""
    ids = await topics.ids({place.topic for place in places})  # of those that are still there
    there = {
        place: at for place, at in places.items() if place.topic in ids and not is_of_another(at[1], ids[place.topic])
    }
    if not there:
        return {}, 0
    consumer.assign(list(there))
    begins, ends = await consumer.beginning_offsets(list(there)), await consumer.end_offsets(list(there))
    first, waiting = dict[Any, int](), 0
    for place, (offset, metadata) in there.items():
        until, between = read_progress(offset, metadata)
        count = sum(offset >= begins[place] for offset in between) + max(0, ends[place] - max(until, begins[place]))
        if count:
            first[place] = max(offset, begins[place])
            waiting += count
    return first, waiting


async def _oldest(consumer: Any, first: Mapping[Any, int]) -> datetime | None:
    """When the oldest of them was stored; None: it is not to be had soon, or there are too many partitions."""
    if len(first) > MOST_LOOKED_AT:
        return None
    times = list[int]()
    for place, offset in first.items():
        consumer.seek(place, offset)
        records = (await consumer.getmany(place, timeout_ms=LOOK_TIME, max_records=1)).get(place, ())
        times += [record.timestamp for record in records]
    return moment(min(times)) if times else None
