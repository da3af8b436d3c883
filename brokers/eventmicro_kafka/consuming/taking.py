"""Taking: what was fetched of a member's share goes to its lanes, if the log is still the one that they know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from eventmicro_kafka.connection.driver import share_of
from eventmicro_kafka.connection.epochs import Epochs
from eventmicro_kafka.connection.fetching import OutOfRange
from eventmicro_kafka.connection.protocol import UNKNOWN
from eventmicro_kafka.consuming.cuts import end_of_known
from eventmicro_kafka.consuming.lane import Committed, Lane, Owner
from eventmicro_kafka.consuming.losses import say_cut, say_deleted, say_ends_before
from eventmicro_kafka.consuming.progress import up_to


class Taking:
    """What a member takes in.

    Args:
        group: of which group it is.
        owner: whoever works with the partitions.
    """

    def __init__(self, group: str, owner: Owner) -> None:
        self.lost = 0
        """How many places in the log were gone before they were finished."""
        self._group = group
        self._owner = owner
        self._epochs = Epochs()
        self._out_of_range = OutOfRange()
        self._shared = asyncio.Event()  # set while it has its share

    async def _take(self, consumer: Any, batches: Mapping[Any, list[Any]]) -> None:
        share = share_of(consumer) if batches else None
        for place, records in batches.items():
            lane, first, last = self._owner.lanes[place], records[0].offset, records[-1].offset
            epoch = self._epochs.of(place, last)
            if (epoch > lane.epoch or first < lane.next) and UNKNOWN not in (epoch, lane.epoch):
                end = await end_of_known(consumer, lane, self._epochs)
                if not self._shared.is_set() or share is not share_of(consumer):
                    return  # they are read again
                if end is not None:
                    self._read_from_cut(consumer, lane, end)
                    continue
            lane = self._lane(place, first)
            lane.has_fetched(last + 1, epoch)
            self._owner.take(lane, records)

    def _pass_by(self, lane: Lane, end: int) -> None:
        """Move the place of a partition whose last before this offset is no event, as the end of a transaction."""
        if lane.next == lane.fetched and end > lane.next:
            if lane.place in self._out_of_range:
                self._count_lost(lane, end)
            lane.next = end
            lane.has_fetched(end, self._epochs.of(lane.place, end - 1))
            self._owner.settled()

    def _read_from_cut(self, consumer: Any, lane: Lane, end: int) -> None:
        """The broker has lost what this lane knew from here on."""
        self._out_of_range.discard(lane.place)
        known_until = max(lane.fetched, lane.known_until)
        say_cut(f"queue {self._group!r}", lane.name, end, known_until, {"queue": self._group})
        new = self._anew(lane, up_to(end, *lane.progress()))
        consumer.seek(lane.place, new.next)

    def _lane(self, place: Any, offset: int) -> Lane:
        """The lane of records that begin at this offset."""
        lane = self._owner.lanes[place]
        if place in self._out_of_range:
            self._count_lost(lane, offset)
        if offset < lane.next:
            say_ends_before(self._group, lane, offset)
            lane = self._anew(lane, (offset, ""))
        return lane

    def _anew(self, old: Lane, known: Committed) -> Lane:
        """A lane in place of one that knows what is not so any more."""
        old.drop()
        lane = self._owner.lanes[old.place] = Lane(old.place, known, self._owner, old.topic_id)
        lane.committed = (-1, "")  # it is to be committed at once: the place that is would skip what comes
        self._owner.settled()
        return lane

    def _count_lost(self, lane: Lane, offset: int) -> None:
        """The broker has nothing any more at the place of the queue, and goes on from here."""
        self._out_of_range.discard(lane.place)
        self.lost += say_deleted(self._group, lane, offset)
