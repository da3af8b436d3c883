"""Member: a consumer that is one of its queue's group, its share of the partitions, and what it commits of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupAuthorizationFailedError,
    OffsetMetadataTooLargeError,
    TopicAuthorizationFailedError,
)

from eventmicro.errors import Disconnected, UsageError
from eventmicro_kafka.connection.driver import (
    REJOIN_TIME,
    RebalanceListener,
    has_more,
    make_consumer,
    raise_trouble,
    returned_up_to,
    share_of,
)
from eventmicro_kafka.connection.ending import stop_consumer, within
from eventmicro_kafka.connection.epochs import UNKNOWN, Epochs, note_epochs
from eventmicro_kafka.connection.fetching import OutOfRange, fetch_ahead, leave_records_bare
from eventmicro_kafka.connection.group import commit, commit_patiently, committed, membership
from eventmicro_kafka.consuming.cuts import as_far_as_there, end_of_known, say_cut
from eventmicro_kafka.consuming.lane import Committed, Holder, Lane
from eventmicro_kafka.consuming.progress import is_of_another, up_to, with_topic
from eventmicro_kafka.consuming.reading import Reading
from eventmicro_kafka.errors import NOT_A_MEMBER, KafkaError, is_refusal, plain
from eventmicro_kafka.patterns import as_name
from eventmicro_kafka.rights import missing_right
from eventmicro_kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

# How long a commit may take before it counts as failed, in seconds; the next one says the same.
COMMIT_TIMEOUT = 3.0
# How long to wait before a commit that failed is tried again, in seconds.
COMMIT_INTERVAL = 0.1
# How long a member may wait for its share, in seconds: the group waits for others, as its broker is set, and for what
# they are at work on. Nothing is lost meanwhile, where the group's place is fixed.
JOIN_TIME = 1.0
JOIN_TIMEOUT = 30.0
# How often is looked meanwhile whether the group refuses it, in seconds.
LOOK_INTERVAL = 0.05
# How long asking how much a broker has may take, in seconds.
LAG_TIMEOUT = 5.0
# How often is looked for trouble while no records are wanted, in seconds.
LOOK_TIME = 1.0
# How long to wait before a consumer that failed is made anew, in seconds.
REVIVE_INTERVAL = 1.0


Ids = Callable[[Iterable[str]], Awaitable[Mapping[str, str]]]
"""What tells topics from earlier ones of their names."""


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


class Member(RebalanceListener):  # type: ignore[misc]
    """One member of a group, made anew where aiokafka's consumer has died.

    Args:
        group: its name.
        topics: what it reads.
        first: where to begin in partitions for which nothing is committed; in others at their beginning.
        subject: what these are the topics of; two members of one process and group have others.
        owner: whoever works with the partitions.
        hold: how long the owner may take to pause, in seconds; None: `rebalance_wait`.
        bare: whether the owner needs no topic in a record.
        ids: asks what tells topics from earlier ones of their names; None: nobody knows.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: Iterable[str],
        first: Mapping[Any, int],
        subject: str,
        owner: Owner,
        hold: float | None = None,
        *,
        bare: bool = False,
        ids: Ids | None = None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._topics = tuple(topics)
        self._first = dict(first)
        self._owner = owner
        self._hold = settings.rebalance_wait if hold is None else hold
        self._leaves_records_bare = bare
        self._ids = ids
        self._told = ""
        self._instance = None if settings.instance is None else f"{settings.instance}-{as_name(subject)}"
        self.lost = 0
        """How many places in the log were gone before they were finished."""
        self._out_of_range = OutOfRange()
        self._epochs = Epochs()
        self._consumer: Any = None
        self._reading: Reading | None = None
        self._shared = asyncio.Event()
        self._shared_as = (0, "")
        self._failed = False
        self.is_bare = False
        """Whether commits say no more than their offset."""
        self._committing = asyncio.Lock()
        self._transacting = asyncio.Lock()

    async def open(self) -> None:
        """Join the group; return when it has its share, or soon, where nothing depends on that.

        Raises:
            Disconnected: that took too long.
            UsageError: the cluster refuses it.
        """
        consumer = self._consumer = make_consumer(self._settings, self._group, self._hold, self._instance)
        try:
            async with asyncio.timeout(max(JOIN_TIMEOUT, self._hold + 2 * REJOIN_TIME)):
                self._epochs = note_epochs(consumer)
                await consumer.start()
                if self._leaves_records_bare:
                    leave_records_bare(consumer)
                    self._out_of_range = fetch_ahead(consumer)
                self._subscribe(consumer)
                await self._wait_for_share(consumer)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            kind = UsageError if is_refusal(error) else Disconnected
            raise kind(f"queue {self._group!r} cannot be joined: {self._why(error)}") from error
        except BaseException:
            await self.close()
            raise

    async def run(self) -> None:
        """Take records in for as long as it takes."""
        while True:
            try:
                if self._consumer is not None:
                    await self._poll()
            except Exception as error:  # aiokafka's own failures among them
                self._say_anew(error)
            await self.close()
            self._owner.share({})
            await self._revive()

    async def commit(self) -> bool:
        """Commit what is finished; whether that is done. Where it fails it is said again by the next commit."""
        async with self._committing:
            return not self._transacting.locked() and await self._try_to_commit()

    @asynccontextmanager
    async def no_commits(self) -> AsyncGenerator[None]:
        """While this is entered nothing is committed here, and what was to be has ended: it is repeated afterwards."""
        async with self._transacting:
            async with self._committing:
                pass
            yield

    @property
    def at_work(self) -> tuple[Any, tuple[int, str]]:
        """The consumer, and as whom it has its partitions; None where it has lost them, or is about to be made anew."""
        consumer = self._consumer
        is_member = consumer is not None and not self._failed and membership(consumer) == self._shared_as
        return consumer if is_member else None, self._shared_as

    async def close(self) -> None:
        """Leave the group, within bounds."""
        consumer, self._consumer, self._reading = self._consumer, None, None
        self._shared.clear()
        self._failed = False
        if consumer is not None:
            await stop_consumer(consumer)

    def renew(self) -> None:
        """Have the consumer made anew: what is not committed is read again."""
        self._shared.clear()
        self._failed = self._consumer is not None

    def go_bare(self) -> None:
        """Commit no more than offsets from now on, as the broker does not take it."""
        self.is_bare = True
        log.warning(
            "queue %r: the broker's offset.metadata.max.bytes is too low; more may come twice, and what is published "
            "in a transaction waits until all events of its partition before its own are finished",
            self._group,
            extra={"queue": self._group},
        )

    async def follow(self, topics: Iterable[str]) -> None:
        """Read these from now on, and all their partitions; what is new to the group from its beginning."""
        before, self._topics = self._topics, tuple(topics)
        consumer = self._consumer
        if before == self._topics and consumer is not None:
            consumer._client.force_metadata_update()  # by which it sees the partitions itself
        elif consumer is not None:
            await self._owner.pause()  # its partitions are shared anew, so what is finished is committed before
            await self._commit_last()
            if consumer is self._consumer:
                self._shared.clear()
                self._subscribe(consumer)

    def _subscribe(self, consumer: Any) -> None:
        if self._topics:
            consumer.subscribe(self._topics, listener=self)
        else:
            if consumer.subscription():
                consumer.unsubscribe()
            self._shared.set()  # there is nothing to share yet

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, as far as is known; else 0."""
        return len(self._consumer.partitions_for_topic(topic) or ())

    async def is_behind(self) -> bool:
        """Whether the broker has records that could be taken in, or this side has waited in vain for its share.

        Raises:
            Disconnected: it does not say.
        """
        consumer = self._consumer
        if consumer is None:
            raise Disconnected(f"queue {self._group!r}: its consumer is about to be made anew")
        try:
            async with asyncio.timeout(LAG_TIMEOUT):
                return await has_more(consumer, self._topics) or not self._shared.is_set()
        except (KafkaError, OSError) as error:  # TimeoutError is an OSError
            raise Disconnected(f"queue {self._group!r}: {plain(error)}") from error

    def hold(self, topic: str, hold: bool) -> None:
        """Take nothing in of this topic, until it is no longer held."""
        if self._reading is not None:
            self._reading.hold(topic, hold)

    # -- aiokafka calls these when the group shares its partitions anew ----------------------------------------

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        self._shared.clear()
        if revoked:
            await self._owner.pause()
            await self._commit_last()

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        try:
            found = await committed(consumer, assigned, stable=True) if assigned else {}
            ids = await self._ids({place.topic for place in assigned}) if self._ids and assigned else {}
            found = await as_far_as_there(consumer, self._group, self._of_these(found, ids))
            found |= await self._begin(consumer, assigned - found.keys(), ids)
            self._owner.share(found, ids)
            self._shared_as = membership(consumer)
            for place in assigned:
                consumer.seek(place, self._owner.lanes[place].next)
            self._shared.set()
        except NOT_A_MEMBER:
            log.debug("queue %r: its partitions move again", self._group)
        except Exception as error:
            log.warning(
                "queue %r: taking its partitions over failed: %s",
                self._group,
                plain(error),
                extra={"queue": self._group},
            )
            self._failed = True

    # -- inside ------------------------------------------------------------------------------------------------

    async def _wait_for_share(self, consumer: Any) -> None:
        began = time.monotonic()
        while not self._shared.is_set() and (self._first or time.monotonic() < began + JOIN_TIME):
            raise_trouble(consumer)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):
                    await self._shared.wait()

    def _of_these(self, found: Mapping[Any, Committed], ids: Mapping[str, str]) -> dict[Any, Committed]:
        """Without the places that are of earlier topics of these names."""
        return {place: at for place, at in found.items() if not self._is_of_another(place, at, ids)}

    def _is_of_another(self, place: Any, at: Committed, ids: Mapping[str, str]) -> bool:
        if not is_of_another(at[1], ids.get(place.topic, "")):
            return False
        self._first.pop(place, None)
        log.warning(
            "queue %r: topic %s was deleted and made again, so partition %d is read from its beginning; what the "
            "earlier one had from offset %d on is gone",
            self._group,
            place.topic,
            place.partition,
            at[0],
            extra={"queue": self._group},
        )
        return True

    async def _begin(self, consumer: Any, places: set[Any], ids: Mapping[str, str]) -> dict[Any, Committed]:
        """Fix where to begin in partitions that the group has not read yet."""
        if not places:
            return {}
        unknown = [place for place in places if place not in self._first]
        offsets = dict(await consumer.beginning_offsets(unknown)) if unknown else {}
        offsets |= {place: self._first[place] for place in places if place in self._first}
        found = {place: (at, with_topic("", ids.get(place.topic, ""))) for place, at in offsets.items()}
        await commit_patiently(consumer, found)
        return found

    async def _poll(self) -> None:
        consumer = self._consumer
        reading = self._reading = Reading(consumer, f"queue {self._group!r}", self._place)
        while not self._failed:
            raise_trouble(consumer)  # which aiokafka waits to be asked for, also while nobody is hungry
            try:
                async with asyncio.timeout(LOOK_TIME):
                    await self._owner.hungry()
            except TimeoutError:
                continue
            if not self._topics:
                await asyncio.sleep(LOOK_TIME)
                continue
            batches = await reading.read()
            if self._shared.is_set():  # else they are read again from where the share begins
                await self._take(consumer, batches)
                if not batches:
                    self._pass_by_what_is_no_event(consumer)

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
            self._told = ""

    def _read_from_cut(self, consumer: Any, lane: Lane, end: int) -> None:
        """The broker has lost what this lane knew from here on."""
        self._out_of_range.discard(lane.place)
        say_cut(self._group, lane.name, end, max(lane.fetched, lane.known_until))
        new = self._anew(lane, up_to(end, *lane.progress()))
        consumer.seek(lane.place, new.next)

    def _place(self, place: Any) -> int | None:
        lane = self._owner.lanes.get(place)
        return None if lane is None else lane.next

    def _lane(self, place: Any, offset: int) -> Lane:
        """The lane of records that begin at this offset."""
        lane = self._owner.lanes[place]
        if place in self._out_of_range:
            self._count_lost(lane, offset)
        if offset < lane.next:
            log.warning(
                "queue %r: the log of %s ends before the place of the queue, so the broker has lost events; it is "
                "read again from %s",
                self._group,
                lane.name,
                offset,
                extra={"queue": self._group},
            )
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
        seen = sorted(gone for gone in lane.unfinished if lane.fetched <= gone < offset)
        unseen = range(max(lane.fetched, lane.known_until), offset)
        if lost := len(seen) + len(unseen):
            self.lost += lost
            log.error(
                "queue %r: %d events of %s, offsets %d to %d, were deleted by the broker before they were finished, as "
                "its retention says, or somebody by hand; it goes on behind them",
                self._group,
                lost,
                lane.name,
                (seen or unseen)[0],
                (unseen or seen)[-1],
                extra={"queue": self._group},
            )

    def _pass_by_what_is_no_event(self, consumer: Any) -> None:
        """Move the places of partitions behind what is no event, such as the ends of transactions, when it is last."""
        for place in consumer.assignment() & self._owner.lanes.keys():
            lane = self._owner.lanes[place]
            end = returned_up_to(consumer, place)
            if lane.next == lane.fetched and end is not None and end > lane.next:
                if place in self._out_of_range:
                    self._count_lost(lane, end)
                lane.next = end
                lane.has_fetched(end, self._epochs.of(place, end - 1))
                self._owner.settled()

    def _why(self, error: BaseException) -> str:
        """What keeps this side from its events; where it is a right, which."""
        if isinstance(error, GroupAuthorizationFailedError):
            return missing_right(self._settings, "Read", "group", self._group)
        if isinstance(error, TopicAuthorizationFailedError):
            topic = next((name for name in self._topics if name in str(error)), self._topics[0])
            return missing_right(self._settings, "Read", "topic", topic)
        return plain(error)

    def _say_anew(self, error: BaseException) -> None:
        """Say why the consumer is made anew; the same again is not told each time."""
        why = self._why(error)
        level = logging.DEBUG if why == self._told else logging.WARNING
        self._told = why
        log.log(level, "queue %r: its consumer is made anew: %s", self._group, why, extra={"queue": self._group})

    async def _revive(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(REVIVE_INTERVAL)
            try:
                await self.open()
                return
            except Disconnected as error:
                log.debug("%s", error)
            except UsageError as error:  # it is refused, and may be mended yet
                if str(error) != said:
                    said = str(error)
                    log.error("%s, trying on", error)
            except Exception as error:  # aiokafka's own failures among them
                if repr(error) != said:  # it will fail many times
                    said = repr(error)
                    log.exception(
                        "queue %r: its consumer cannot be made, which is tried again",
                        self._group,
                        extra={"queue": self._group},
                    )

    async def _commit_last(self) -> None:
        """Commit before partitions move: after the transaction that is on its way, within bounds, before the next."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                await self._transacting.acquire()
        except TimeoutError:
            return  # what it does not say may come twice
        try:
            async with self._committing:
                await self._try_to_commit()
        finally:
            self._transacting.release()

    async def _try_to_commit(self) -> bool:
        try:
            consumer = self._consumer
            return consumer is not None and await self._commit(consumer, self._to_commit(consumer))
        except Exception:  # aiokafka's own failures among them
            log.exception("queue %r: commit failed, to be repeated", self._group, extra={"queue": self._group})
            return False

    def _to_commit(self, consumer: Any) -> dict[Any, Committed]:
        mine = consumer.assignment()
        return {
            place: progress
            for place, lane in self._owner.lanes.items()
            if place in mine and (progress := self._progress(lane)) != lane.committed
        }

    def _progress(self, lane: Lane) -> Committed:
        offset, more = lane.progress()
        return offset, "" if self.is_bare else more

    async def _commit(self, consumer: Any, wanted: dict[Any, Committed]) -> bool:
        if not wanted:
            return True
        try:
            await within(COMMIT_TIMEOUT, commit(consumer, wanted, self._shared_as))
        except OffsetMetadataTooLargeError:
            self.go_bare()
            return False
        except (KafkaError, TimeoutError) as error:
            log.debug("queue %r: commit failed, to be repeated: %s", self._group, plain(error))
            return False
        for place, progress in wanted.items():
            lane = self._owner.lanes.get(place)
            if lane is not None:
                lane.committed = progress
        return True
