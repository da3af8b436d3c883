"""Live subscriptions: what is published while they are there, at most once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from eventmicro.broker import Receive
from eventmicro.errors import Disconnected
from eventmicro.lifetime import until_done
from eventmicro.message import Delivery
from eventmicro.room import wait_for_room
from eventmicro_kafka.connection.describing import TopicInfo
from eventmicro_kafka.connection.driver import TopicPartition, make_consumer, raise_trouble
from eventmicro_kafka.connection.ending import LEAVE_TIME, end_tasks, stop_consumer
from eventmicro_kafka.connection.epochs import Epochs, note_epochs
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.connection.protocol import UNKNOWN
from eventmicro_kafka.consuming.cuts import Known, end_of_known
from eventmicro_kafka.consuming.following import Following
from eventmicro_kafka.consuming.lane import Committed, Lane
from eventmicro_kafka.consuming.losses import say_cut
from eventmicro_kafka.consuming.member import COMMIT_INTERVAL, REVIVE_INTERVAL, Member
from eventmicro_kafka.consuming.reading import Reading
from eventmicro_kafka.consuming.reviving import made_anew
from eventmicro_kafka.errors import KafkaError, plain
from eventmicro_kafka.received import LiveDelivery
from eventmicro_kafka.records import delivery_headers
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics

log = logging.getLogger(__name__)

NO_IDS: Mapping[str, str] = {}

# How long starting one may take, in seconds, and reading what was published before it was drained.
START_TIMEOUT = 10.0
DRAIN_TIMEOUT = 5.0
# How often is looked for topics while there is none, in seconds.
LOOK_INTERVAL = 0.1


def live_group(queue: str, subject: str) -> str:
    """The group of those who share a queue that is not durable: apart from that of a durable one."""
    return f"{queue}.{subject}.live"


async def hand_over(receive: Receive, records: list[Any]) -> None:
    """Hand records over, each when there is room for it."""
    for record in records:
        try:
            headers = delivery_headers(record.headers) or (None if record.value is not None else {})
            room = receive(LiveDelivery(record, headers))
            if room is not None:
                await wait_for_room(room)
        except Exception:  # it never should
            log.exception("an event on %s was not taken", record.topic, extra={"subject": record.topic})


class Broadcast:
    """A subscription that gets everything: it reads all partitions by itself, in no group."""

    dropped = 0

    def __init__(
        self,
        subject: str,
        partitions: int | Mapping[str, int],
        receive: Receive,
        settings: KafkaSettings,
        link: Link,
        following: Callable[[Broadcast], Following] | None = None,
    ) -> None:
        self.ended = False
        self.closed = False
        self._subject = subject
        self._receive = receive
        self._settings = settings
        self._link = link
        self._counts = {subject: partitions} if isinstance(partitions, int) else dict(partitions)
        self._there = dict(self._counts)
        """How many partitions each topic has by now, as far as this side has looked."""
        self._remade: set[str] = set()
        self._following = None if following is None else following(self)
        self._looking: asyncio.Task[None] | None = None
        self._next: dict[Any, int] = {}
        self._last: dict[Any, int] = {}
        """Under which leader of each partition the last was stored that was read."""
        self._epochs = Epochs()
        self._until: dict[Any, int] | None = None
        self._consumer: Any = None
        self._reading: Any = None
        self._task: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin with what is published from now on."""
        try:
            await self._make()
        except (KafkaError, OSError) as error:  # TimeoutError is an OSError
            raise Disconnected(f"{self._subject}: cannot be subscribed to: {plain(error)}") from error
        self._task = asyncio.create_task(self._run(), name=f"eventmicro kafka {self._subject}")
        if self._following is not None:
            self._looking = asyncio.create_task(self._following.run(), name=f"eventmicro kafka {self._subject} topics")

    async def drain(self) -> None:
        if not self.ended and self._task is not None:
            self.ended = True
            self._leaving = asyncio.create_task(self._leave(self._task), name=f"eventmicro kafka {self._subject} leave")
        if self._leaving is not None:
            await until_done(self._leaving)  # what was published before is handed over though nobody waits

    async def _leave(self, reading: asyncio.Task[None]) -> None:
        try:
            if self._consumer is not None:  # else it is about to be made anew
                async with asyncio.timeout(DRAIN_TIMEOUT if self._link.online else 0):
                    self._until = await self._consumer.end_offsets(list(self._next))
                    await asyncio.wait([reading])
        except (KafkaError, TimeoutError) as error:
            log.warning(
                "%s: left before all was read: %s", self._subject, plain(error), extra={"subject": self._subject}
            )
        finally:
            await self._end()

    async def close(self) -> None:
        self.ended = True
        try:
            if (leaving := self._leaving) is not None:
                await end_tasks(lambda: [leaving], LEAVE_TIME)
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            await end_tasks(lambda: [task for task in (self._task, self._looking) if task is not None], LEAVE_TIME)
        finally:
            await self._stop()
            self.closed = True

    async def _run(self) -> None:
        while True:
            try:
                while not self._is_done():
                    await self._read()
                return
            except Exception as error:  # aiokafka's own failures among them
                log.warning(
                    "%s: its consumer is made anew: %s", self._subject, plain(error), extra={"subject": self._subject}
                )
            await self._stop()
            await self._revive()

    async def _revive(self) -> None:
        await made_anew(self._make, REVIVE_INTERVAL, self._subject, {"subject": self._subject})

    async def _make(self) -> None:
        """Begin where it has come to; nothing is left open where that fails."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._start()
        except BaseException:
            await self._stop()
            raise

    async def _read(self) -> None:
        raise_trouble(self._consumer)
        self._follow()
        if not self._next:
            await asyncio.sleep(LOOK_INTERVAL)
            return
        batches = await self._reading.read()
        for place in [place for place, records in batches.items() if await self._was_cut(place, records)]:
            del batches[place]
        for place in self._next:  # which the ends of transactions move, too
            self._next[place] = await self._consumer.position(place)
        for records in batches.values():
            await hand_over(self._receive, records)
        await asyncio.sleep(0)

    async def _was_cut(self, place: Any, records: list[Any]) -> bool:
        """Whether the broker has lost the end of what was read before these; it is read on from there then."""
        known = Known(place, self._next[place], self._last.get(place, UNKNOWN))
        epoch = self._epochs.of(place, records[-1].offset)
        if (epoch > known.epoch or records[0].offset < known.fetched) and UNKNOWN not in (epoch, known.epoch):
            end = await end_of_known(self._consumer, known, self._epochs)
            if end is not None:
                say_cut(f"subscription {self._subject!r}", known.name, end, known.fetched, {"subject": self._subject})
                self._consumer.seek(place, end)
                return True
        self._last[place] = epoch
        return False

    async def follow(self, topics: Mapping[str, TopicInfo]) -> None:
        """These are there by now."""
        self._there = {name: len(topic.leaders) for name, topic in topics.items() if topic.leaders}

    async def begin_anew(self, topic: str) -> None:
        """It was deleted and made again."""
        log.warning(
            "%s: topic %s was deleted and made again, and is read from its beginning",
            self._subject,
            topic,
            extra={"subject": self._subject},
        )
        self._remade.add(topic)

    def _follow(self) -> None:
        """Read partitions and topics that are new from their beginning, too, and what was made again."""
        for topic in self._there:
            count = len(self._consumer.partitions_for_topic(topic) or ())
            self._there[topic] = max(count, self._there[topic])
        if self._there != self._counts or self._remade:
            self._counts = dict(self._there)
            kept = {
                place: at
                for place, at in self._next.items()
                if place.topic in self._there and place.topic not in self._remade
            }
            self._remade.clear()
            self._last = {place: epoch for place, epoch in self._last.items() if place in kept}
            self._assign(dict.fromkeys(self._all_places(), 0) | kept)

    def _all_places(self) -> list[Any]:
        return [TopicPartition(topic, number) for topic, count in self._counts.items() for number in range(count)]

    def _is_done(self) -> bool:
        until = self._until
        return until is not None and all(self._next.get(place, end) >= end for place, end in until.items())

    async def _start(self) -> None:
        consumer = self._consumer = make_consumer(self._settings, None)
        self._epochs = note_epochs(consumer)
        self._reading = Reading(consumer, self._subject, lambda place: self._next.get(place))
        await consumer.start()
        places = self._all_places()
        if places:
            consumer.assign(places)
            self._assign(await consumer.end_offsets(places) | self._next)

    def _assign(self, positions: dict[Any, int]) -> None:
        self._consumer.assign(list(positions))
        for place, offset in positions.items():
            self._consumer.seek(place, offset)
        self._next = positions

    async def _stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)


class Shared:
    """A subscription that shares its events with those of the same queue. What it takes is committed first."""

    dropped = 0

    def __init__(
        self,
        subject: str,
        queue: str,
        receive: Receive,
        settings: KafkaSettings,
        first: Mapping[Any, int],
        topics: Topics | None = None,
        following: Callable[[Shared], Following] | None = None,
    ) -> None:
        self.ended = False
        self.closed = False
        self.lanes: dict[Any, Lane] = {}
        self.held = 0
        self._subject = subject
        self._receive = receive
        self._following = None if following is None else following(self)
        read = [subject] if self._following is None else self._following.names
        self._member = Member(
            settings, live_group(queue, subject), read, first, subject, self, ids=None if topics is None else topics.ids
        )
        self._taken: deque[tuple[Lane, list[Any]]] = deque()
        self._change = asyncio.Event()
        self._wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Join those who share; return when this side has its part."""
        await self._member.open()
        jobs = [self._member.run, self._pump]
        if self._following is not None:
            jobs.append(self._following.run)
        self._tasks = [asyncio.create_task(job(), name=f"eventmicro kafka {self._subject}") for job in jobs]

    async def drain(self) -> None:
        if not self.ended and self._tasks:
            self.ended = True
            self._leaving = asyncio.create_task(self._leave(), name=f"eventmicro kafka {self._subject} leave")
        if self._leaving is not None:
            await until_done(self._leaving)  # what was taken is committed, and handed over though nobody waits

    async def _leave(self) -> None:
        member, pump, *following = self._tasks
        self._change.set()
        try:
            await end_tasks(lambda: [member, *following], LEAVE_TIME)
            await asyncio.wait([pump])
        finally:
            await self._end()

    async def close(self) -> None:
        self.ended = True
        try:
            if (leaving := self._leaving) is not None:
                await end_tasks(lambda: [leaving], LEAVE_TIME)
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            await end_tasks(lambda: self._tasks, LEAVE_TIME)
        finally:
            await self._member.close()
            self.closed = True

    async def follow(self, topics: Mapping[str, TopicInfo]) -> None:
        """These are there by now."""
        await self._member.follow(sorted(topics))

    async def begin_anew(self, topic: str) -> None:
        """It was deleted and made again."""
        log.warning(
            "%s: topic %s was deleted and made again, and is read from its beginning",
            self._subject,
            topic,
            extra={"subject": self._subject},
        )
        self.share({})
        self._member.renew()

    async def pause(self) -> None:
        self._taken.clear()  # not committed, so whoever gets the partition reads it

    def share(self, found: Mapping[Any, Committed], ids: Mapping[str, str] = NO_IDS) -> None:
        for lane in self.lanes.values():
            lane.gone = True
        self._taken.clear()
        self.lanes = {
            place: Lane(place, committed, self, ids.get(place.topic, "")) for place, committed in found.items()
        }

    def take(self, lane: Lane, records: list[Any]) -> None:
        self._wanted.clear()
        self._taken.append((lane, records))
        self._change.set()

    async def hungry(self) -> None:
        await self._wanted.wait()

    def settled(self) -> None:
        """Nothing here is settled."""

    def again(self, delivery: Delivery, delay: float) -> None:
        """Nothing here is delivered again."""

    async def _pump(self) -> None:
        while self._taken or not self.ended:
            if not self._taken:
                self._wanted.set()
                self._change.clear()
                await self._change.wait()
                continue
            lane, records = self._taken.popleft()
            if await self._commit(lane, records[-1].offset + 1):
                await hand_over(self._receive, records)
            await asyncio.sleep(0)

    async def _commit(self, lane: Lane, end: int) -> bool:
        """Whether the records up to `end` are this side's for good."""
        lane.next = end
        while not lane.gone:
            # What is not this side's at the moment is left out by a commit.
            if await self._member.commit() and lane.committed[0] >= end:
                return True
            if self.ended:  # others get them
                self._taken.clear()
                break
            await asyncio.sleep(COMMIT_INTERVAL)
        return False
