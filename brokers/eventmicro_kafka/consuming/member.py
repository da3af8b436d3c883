"""Member: a consumer that is one of its queue's group, its share of the partitions, and what it commits of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka.errors import OffsetMetadataTooLargeError  # type: ignore[import-untyped]

from eventmicro.errors import Disconnected, UsageError
from eventmicro_kafka.connection.driver import (
    REJOIN_TIME,
    RebalanceListener,
    has_more,
    make_consumer,
    raise_trouble,
    returned_up_to,
)
from eventmicro_kafka.connection.ending import stop_consumer, within
from eventmicro_kafka.connection.epochs import note_epochs
from eventmicro_kafka.connection.fetching import fetch_ahead, leave_records_bare
from eventmicro_kafka.connection.group import commit, committed, membership
from eventmicro_kafka.consuming.cuts import as_far_as_there
from eventmicro_kafka.consuming.lane import Committed, Lane, Owner
from eventmicro_kafka.consuming.looking import why_not_read
from eventmicro_kafka.consuming.losses import say_made_again
from eventmicro_kafka.consuming.positions import begin
from eventmicro_kafka.consuming.progress import is_of_another
from eventmicro_kafka.consuming.reading import Reading
from eventmicro_kafka.consuming.reviving import made_anew
from eventmicro_kafka.consuming.taking import Taking
from eventmicro_kafka.errors import NOT_A_MEMBER, KafkaError, is_refusal, plain
from eventmicro_kafka.patterns import as_name
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


class Member(Taking, RebalanceListener):  # type: ignore[misc]
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
        super().__init__(group, owner)
        self._settings = settings
        self._topics = tuple(topics)
        self._first = dict(first)
        self._hold = settings.rebalance_wait if hold is None else hold
        self._leaves_records_bare = bare
        self._ids = ids
        self._told = ""
        self._instance = None if settings.instance is None else f"{settings.instance}-{as_name(subject)}"
        self._consumer: Any = None
        self._reading: Reading | None = None
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
            found |= await begin(consumer, assigned - found.keys(), self._first, ids)
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
        say_made_again(self._group, place, at)
        return True

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
                if batches:
                    self._told = ""
                else:
                    self._pass_by_what_is_no_event(consumer)

    def _place(self, place: Any) -> int | None:
        lane = self._owner.lanes.get(place)
        return None if lane is None else lane.next

    def _pass_by_what_is_no_event(self, consumer: Any) -> None:
        """Move the places of partitions behind what is no event, such as the ends of transactions, when it is last."""
        for place in consumer.assignment() & self._owner.lanes.keys():
            end = returned_up_to(consumer, place)
            if end is not None:
                self._pass_by(self._owner.lanes[place], end)

    def _why(self, error: BaseException) -> str:
        return why_not_read(self._settings, self._group, self._topics, error)

    def _say_anew(self, error: BaseException) -> None:
        """Say why the consumer is made anew; the same again is not told each time."""
        why = self._why(error)
        level = logging.DEBUG if why == self._told else logging.WARNING
        self._told = why
        log.log(level, "queue %r: its consumer is made anew: %s", self._group, why, extra={"queue": self._group})

    async def _revive(self) -> None:
        await made_anew(self.open, REVIVE_INTERVAL, f"queue {self._group!r}", {"queue": self._group})

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
