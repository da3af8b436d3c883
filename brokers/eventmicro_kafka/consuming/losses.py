"""Losses: what is said where the broker has no more what a queue was to read, and which events these were."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from eventmicro_kafka.consuming.lane import Committed, Lane

log = logging.getLogger(__name__)


def say_cut(who: str, name: str, end: int, known_until: int, extra: Mapping[str, str]) -> None:
    """Say that a log has lost its end.

    Args:
        who: whose events these were: `queue 'orders.bill'`, or `subscription 'orders'`.
        extra: what the line of the log bears beside its text.
    """
    log.error(
        "%s: the broker has lost the end of the log of %s, as when a replica leads that had not all of it "
        "(unclean.leader.election.enable), or a disk fails: offsets %d to %d, which this %s knew, are gone, and "
        "what is published there anew is handled",
        who,
        name,
        end,
        known_until - 1,
        who.partition(" ")[0],
        extra=extra,
    )


def say_ends_before(queue: str, lane: Lane, offset: int) -> None:
    """Say that the log ends before the place of the queue, and that it is read again from this offset."""
    log.warning(
        "queue %r: the log of %s ends before the place of the queue, so the broker has lost events; it is "
        "read again from %s",
        queue,
        lane.name,
        offset,
        extra={"queue": queue},
    )


def say_deleted(queue: str, lane: Lane, offset: int) -> int:
    """Say which events were deleted, now that the broker goes on from this offset; how many."""
    seen = sorted(gone for gone in lane.unfinished if lane.fetched <= gone < offset)
    unseen = range(max(lane.fetched, lane.known_until), offset)
    if lost := len(seen) + len(unseen):
        log.error(
            "queue %r: %d events of %s, offsets %d to %d, were deleted by the broker before they were finished, as "
            "its retention says, or somebody by hand; it goes on behind them",
            queue,
            lost,
            lane.name,
            (seen or unseen)[0],
            (unseen or seen)[-1],
            extra={"queue": queue},
        )
    return lost


def say_made_again(queue: str, place: Any, earlier: Committed) -> None:
    """Say that a place is of an earlier topic of the same name."""
    log.warning(
        "queue %r: topic %s was deleted and made again, so partition %d is read from its beginning; what the "
        "earlier one had from offset %d on is gone",
        queue,
        place.topic,
        place.partition,
        earlier[0],
        extra={"queue": queue},
    )
