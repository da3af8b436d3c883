"""Lane: one partition on this side, from the event that is to be handed over next down to the oldest unfinished one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from eventmicro_kafka.consuming.progress import LONGEST, epoch_of, read_progress, with_topic, write_progress
from eventmicro_kafka.received import RecordDelivery, key_text

Committed = tuple[int, str]
"""What is committed for a partition: the offset of its first unfinished event, and more; see `progress`."""


class Holder(Protocol):
    """Whoever the lanes belong to."""

    held: int
    """How many events are handed over and not settled."""

    def settled(self) -> None:
        """An event of a lane is finished."""
        ...

    def again(self, delivery: KafkaDelivery, delay: float) -> None:
        """An event is to be delivered again in `delay` seconds."""
        ...


class Owner(Holder, Protocol):
    """Whoever works with the partitions."""

    lanes: dict[Any, Lane]

    async def pause(self) -> None:
        """Hand nothing over any more; return when what is being handled is finished, within bounds."""
        ...

    def share(self, found: Mapping[Any, Committed], ids: Mapping[str, str] = ...) -> None:
        """These are the partitions from now on, with what is committed for each, and the ids of topics; go on."""
        ...

    def take(self, lane: Lane, records: list[Any]) -> None:
        """Records have come."""
        ...

    async def hungry(self) -> None:
        """Return when more records are wanted."""
        ...


class KafkaDelivery(RecordDelivery):
    """An event of a durable subscription."""

    __slots__ = ("_key", "_name", "lane", "offset")

    def __init__(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None,
        attempt: int,
        arrived: float | None,
        lane: Lane,
        offset: int,
        key: bytes | None = None,
        name: str = "",
        record: Any = None,
    ) -> None:
        self.subject = subject
        self.body = body
        self.headers = headers
        self.reply = ""
        self.attempt = attempt
        self.arrived = arrived
        self.lapsed = False
        self.waiting = False
        self.lane = lane
        self.offset = offset
        self._key = key
        self._name = name
        self.record = record

    @property
    def place(self) -> tuple[str, int]:
        place: tuple[str, int] = self.lane.place
        return place

    @property
    def id(self) -> str:  # type: ignore[override]  # made when it is asked for
        """Where the event was first stored: topic, partition and offset."""
        return self._name or f"{self.lane.name}-{self.offset}"

    @property
    def key(self) -> str | None:
        return key_text(self._key if self.record is None else self.record.key)

    def repeated(self, attempts: int = 1) -> KafkaDelivery:
        """The same event, delivered once more; 0: nobody had begun with it, so it counts as the same attempt."""
        lane = self.lane
        attempt = self.attempt + attempts
        return KafkaDelivery(
            self.subject, self.body, self.headers, attempt, None, lane, self.offset, self._key, self._name, self.record
        )

    def try_ack(self) -> bool:
        lane, offset = self.lane, self.offset
        if lane.quiet and not lane.repeats and lane.pending.get(offset) is self:  # as `finish`, which takes longer
            del lane.pending[offset]
            lane._finished += 1
        else:
            lane.finish(self)
        return True

    async def ack(self) -> None:
        self.lane.finish(self)

    async def nack(self, delay: float = 0.0) -> None:
        self.lane.fail(self, delay)


class Lane:
    """The events of one partition that this side knows of.

    Args:
        place: topic and partition.
        committed: what was found committed.
        holder: whoever it belongs to.
        topic_id: what tells its topic from an earlier one of its name; empty: it is not known.
    """

    def __init__(self, place: Any, committed: Committed, holder: Holder, topic_id: str = "") -> None:
        self.place = place
        self.topic_id = topic_id
        self.name = f"{place.topic}-{place.partition}"
        self.committed = committed
        self.gone = False
        """Whether the partition is somebody else's by now."""
        self.quiet = False
        """Whether the holder is told later of those that are finished meanwhile, of all of them at once."""
        self._finished = 0  # how many it is to be told of then
        self.next = committed[0]
        """The offset from which on nothing has been taken in."""
        self.fetched = committed[0]
        """The offset behind the last record that was fetched for it."""
        self.pending: dict[int, KafkaDelivery | None] = {}
        """What is not finished, by offset and in its order; None: it waits here to be delivered again."""
        self.known_until, self.unfinished = read_progress(*committed)
        self.epoch = epoch_of(committed[1])
        """Under which leader of the partition the last was stored that was fetched or is known of, of the furthest."""
        self.repeats: dict[int, int] = {offset: times for offset, times in self.unfinished.items() if times}
        self.holder = holder

    def has_fetched(self, end: int, epoch: int) -> None:
        """Records up to here were fetched, the last of them of this epoch."""
        self.fetched = end
        if end >= self.known_until:  # else what is known of is further, and may be of a later one
            self.epoch = epoch

    def is_finished(self, offset: int) -> bool:
        """Whether it was finished before this side got the partition."""
        return offset < self.known_until and offset not in self.unfinished

    def unfinished_of(self, records: Sequence[Any]) -> list[Any]:
        """Those of these records that were not finished before this side got the partition."""
        return [record for record in records if not self.is_finished(record.offset)]

    def hand_over(self, delivery: KafkaDelivery) -> None:
        """It is with the subscriber now."""
        self.pending[delivery.offset] = delivery
        self.holder.held += 1

    def hand_over_all(self, deliveries: Sequence[KafkaDelivery]) -> None:
        """The next ones in their order are with the subscriber now."""
        pending = self.pending
        for delivery in deliveries:
            pending[delivery.offset] = delivery
        self.next = deliveries[-1].offset + 1
        self.holder.held += len(deliveries)

    def tell(self) -> None:
        """Be quiet no longer."""
        self.quiet = False
        self.holder.held -= self._finished
        self._finished = 0

    def put_back(self, deliveries: Sequence[KafkaDelivery]) -> None:
        """The last of those that were handed over were not taken; as if they had not been."""
        for delivery in deliveries:
            if self.pending.get(delivery.offset) is delivery:
                del self.pending[delivery.offset]
                self.holder.held -= 1
        self.next = deliveries[0].offset

    def wait(self, offset: int) -> None:
        """It is on this side, and not with the subscriber yet."""
        self.pending[offset] = None

    def finish(self, delivery: KafkaDelivery) -> None:
        """It is dealt with."""
        pending, offset = self.pending, delivery.offset
        if pending.get(offset) is delivery:
            del pending[offset]
            self.holder.held -= 1
            if self.repeats:
                self.repeats.pop(offset, None)
            if not self.quiet:
                self.holder.settled()

    def fail(self, delivery: KafkaDelivery, delay: float) -> None:
        """It is not, and shall come again."""
        offset = delivery.offset
        if self.pending.get(offset) is delivery:
            self.pending[offset] = None
            self.holder.held -= 1
            self.holder.again(delivery, delay)

    def put_aside(self, offset: int) -> None:
        """A copy of it is kept elsewhere, so it is finished here."""
        if self.pending.get(offset, self) is None:
            del self.pending[offset]
            self.repeats.pop(offset, None)
            self.holder.settled()

    def take_back(self) -> list[KafkaDelivery]:
        """Have back what the subscriber has not begun with; it is to be handed over once more."""
        waiting = [delivery for delivery in self.pending.values() if delivery is not None and delivery.waiting]
        for delivery in waiting:
            delivery.lapsed = True
            self.pending[delivery.offset] = None
            self.holder.held -= 1
        return [delivery.repeated(0) for delivery in waiting]

    def handled(self) -> int:
        """How many of its events are with the subscriber."""
        return sum(delivery is not None for delivery in self.pending.values())

    def drop(self) -> None:
        """The partition is somebody else's: what is not finished is delivered again there."""
        self.gone = True
        for delivery in self.pending.values():
            if delivery is not None:
                delivery.lapsed = True
                self.holder.held -= 1
        self.pending.clear()

    def holds(self, delivery: KafkaDelivery, *, put_aside: bool) -> bool:
        """Whether it is with the subscriber, or about to be put aside: not finished, and nobody else's by now."""
        return self.pending.get(delivery.offset, self) is (None if put_aside else delivery)

    def progress(self, done: Collection[int] = (), longest: int = LONGEST) -> Committed:
        """What is to be committed; of what was not taken in again yet, what the commit before has said.

        Args:
            done: which events count as finished though they are not yet.
            longest: how much of it there may be, in bytes.
        """
        unfinished, end = list(self.pending), self.next
        if done:
            unfinished = [offset for offset in unfinished if offset not in done]
        if end < self.known_until:
            unfinished += sorted(offset for offset in self.unfinished if offset >= end)
            end = self.known_until
        first = unfinished[0] if unfinished else end
        more = write_progress(first, end, unfinished, self.repeats, longest)
        return first, with_topic(more, self.topic_id, self.epoch)
