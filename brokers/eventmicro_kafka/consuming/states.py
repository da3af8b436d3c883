"""How it is with queues: what their groups have committed, against what their topics have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from eventmicro.broker import QueueState
from eventmicro_kafka.connection.group import patiently
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.connection.offsets import BEGIN, END, bounds_of, count_members, places_of, time_of
from eventmicro_kafka.consuming.looking import told_alike
from eventmicro_kafka.consuming.progress import is_of_another, read_progress
from eventmicro_kafka.received import moment
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics

# In how many partitions the first event is looked at.
MOST_LOOKED_AT = 16


class _First(NamedTuple):
    """The first event of a partition that is not finished, and the node that leads that."""

    offset: int
    leader: int


async def state_of(settings: KafkaSettings, link: Link, topics: Topics, group: str) -> QueueState | None:
    """How it is with the queue of a group; None: it has no place anywhere, so there is none.

    Raises:
        Disconnected: the cluster does not answer.
        UsageError: the cluster refuses it.
    """
    async with told_alike(settings, group, "Describe", used="looked at", unknown="it is not told how it is"):
        return await patiently(lambda: _ask(link, topics, group))


async def _ask(link: Link, topics: Topics, group: str) -> QueueState | None:
    places = await places_of(link, group)
    if not places:
        return None
    first, waiting = await _unfinished(link, topics, places)
    return QueueState(
        queue=group,
        waiting=waiting,
        consumers=await count_members(link, group),
        oldest=await _oldest(link, first),
    )


async def _unfinished(
    link: Link, topics: Topics, places: Mapping[Any, tuple[int, str]]
) -> tuple[dict[Any, _First], int]:
    """The first event that is not finished in each partition, and how many there are of them in all."""
    leaders = await _leaders(topics, places)
    begins, ends = await bounds_of(link, leaders, BEGIN), await bounds_of(link, leaders, END)
    first, waiting = dict[Any, _First](), 0
    for place, leader in leaders.items():
        offset, metadata = places[place]
        until, between = read_progress(offset, metadata)
        count = sum(offset >= begins[place] for offset in between) + max(0, ends[place] - max(until, begins[place]))
        if count:
            first[place] = _First(max(offset, begins[place]), leader)
            waiting += count
    return first, waiting


async def _leaders(topics: Topics, places: Mapping[Any, tuple[int, str]]) -> dict[Any, int]:
    """The node that leads each partition, of those that are there, and not of earlier topics of their names."""
    there = await topics.look(sorted({place.topic for place in places}))
    found = dict[Any, int]()
    for place, (_, metadata) in places.items():
        topic = there.get(place.topic)
        if topic is not None and place.partition < len(topic.leaders) and not is_of_another(metadata, topic.id):
            found[place] = topic.leaders[place.partition]
    return found


async def _oldest(link: Link, first: Mapping[Any, _First]) -> datetime | None:
    """When the oldest of them was stored; None: it is not told, or there are too many partitions."""
    if len(first) > MOST_LOOKED_AT:
        return None
    found = await asyncio.gather(*(time_of(link, at.leader, place, at.offset) for place, at in first.items()))
    times = [time for time in found if time is not None]
    return moment(min(times)) if times else None
