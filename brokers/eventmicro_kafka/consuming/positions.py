"""Positions: where a group begins, fixed before its first member joins, so that nothing published since is skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from eventmicro.broker import Start
from eventmicro.errors import UsageError
from eventmicro_kafka.connection.driver import TopicPartition
from eventmicro_kafka.connection.group import commit_patiently, committed, patiently, protocol_of
from eventmicro_kafka.consuming.looking import looking_into
from eventmicro_kafka.consuming.progress import is_of_another, with_topic
from eventmicro_kafka.errors import NOT_A_MEMBER
from eventmicro_kafka.settings import KafkaSettings

# What Kafka calls the members of a group that share partitions, as ours do.
OURS = "consumer"


class Fixed(NamedTuple):
    """What came of it.

    new: the topics of which no partition had a position.
    first: the positions that Kafka did not take, for this side to begin with when it is a member and finds none.
    """

    new: set[str]
    first: dict[Any, int]


async def fix_positions(
    settings: KafkaSettings,
    group: str,
    topics: Mapping[str, int],
    starts: Mapping[str, Start],
    *,
    ids: Mapping[str, str] | None = None,
    anew: bool = False,
    together: bool = False,
) -> Fixed:
    """Commit where a group begins in those partitions where it has no position yet.

    Kafka takes such a commit while the group has no members. A partition that was added to a topic which the group
    has read before is begun at its beginning.

    Args:
        topics: how many partitions each has.
        starts: where to begin in each.
        ids: what tells each topic from an earlier one of its name: a place in that is none.
        together: whether one place says that the queue exists: what it has not read yet is begun at its beginning.
        anew: forget the positions that it has, if it has no members.

    Raises:
        Disconnected: the cluster does not answer.
        UsageError: the cluster refuses it.
    """
    unknown = "its position cannot be read and set"
    async with looking_into(settings, group, "Read", used="used", unknown=unknown) as consumer:
        return await _fix(consumer, topics, starts, ids or {}, anew, together)


async def _fix(
    consumer: Any,
    topics: Mapping[str, int],
    starts: Mapping[str, Start],
    ids: Mapping[str, str],
    anew: bool,
    together: bool,
) -> Fixed:
    places = {TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)}
    consumer.assign(list(places))
    known = {} if anew else await committed(consumer, places)
    if not known:
        await _check_is_of_consumers(consumer)
    new = set() if together and known else topics.keys() - {place.topic for place in known}
    left = places - _in_these(known, ids).keys()
    if not left:
        return Fixed(set(new), {})
    wanted = await offsets(consumer, left, {topic: starts[topic] if topic in new else "all" for topic in topics})
    found = {} if anew else await committed(consumer, places)  # another one may have been quicker
    known = _in_these(found, ids)
    wanted = {place: offset for place, offset in wanted.items() if place not in known}
    if wanted:
        try:
            await commit_patiently(
                consumer, {p: (offset, with_topic("", ids.get(p.topic, ""))) for p, offset in wanted.items()}
            )
        except NOT_A_MEMBER:
            if anew:  # so its members' positions hold
                return await _fix(consumer, topics, starts, ids, False, together)
            return Fixed(new, wanted)
    return Fixed(set(new), {})


async def begin(
    consumer: Any, places: set[Any], first: Mapping[Any, int], ids: Mapping[str, str]
) -> dict[Any, tuple[int, str]]:
    """Commit, as a member, where to begin in partitions that the group has not read yet; what is committed.

    Args:
        first: where to begin in some of them; in others at their beginning.
        ids: what tells each topic from an earlier one of its name.
    """
    if not places:
        return {}
    unknown = [place for place in places if place not in first]
    offsets = dict(await consumer.beginning_offsets(unknown)) if unknown else {}
    offsets |= {place: first[place] for place in places if place in first}
    found = {place: (at, with_topic("", ids.get(place.topic, ""))) for place, at in offsets.items()}
    await commit_patiently(consumer, found)
    return found


async def _check_is_of_consumers(consumer: Any) -> None:
    """See that a group without places is not that of something else, whose members could not come back then."""
    protocol = await patiently(lambda: protocol_of(consumer))
    if protocol not in ("", OURS):
        group = consumer._coordinator.group_id
        raise UsageError(
            f"queue {group!r}: there is a group of that name, of {protocol!r} and not of consumers: use another"
        )


def _in_these(places: Mapping[Any, tuple[int, str]], ids: Mapping[str, str]) -> dict[Any, tuple[int, str]]:
    """Those of some places that are not of earlier topics of the same names."""
    return {p: at for p, at in places.items() if not is_of_another(at[1], ids.get(p.topic, ""))}


async def offsets(consumer: Any, places: set[Any], starts: Mapping[str, Start]) -> dict[Any, int]:
    """Where to start in each partition."""
    wanted: dict[Any, int] = await consumer.end_offsets(list(places))
    begin = [place for place in places if starts[place.topic] == "all"]
    if begin:
        wanted |= await consumer.beginning_offsets(begin)
    times = {p: start.timestamp() for p in places if not isinstance(start := starts[p.topic], str)}
    if times:
        found = await consumer.offsets_for_times({place: int(time * 1000) for place, time in times.items()})
        wanted |= {place: at.offset for place, at in found.items() if at is not None}
    return wanted
