"""KafkaSubscription: a durable subscription, from its first member of the group to the last commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eventmicro.broker import Durable, Receive
from eventmicro.errors import UsageError
from eventmicro.message import Message
from eventmicro.watchdog import PATIENCE, Watchdog
from eventmicro.wire import has_wildcards
from eventmicro_kafka.connection.describing import TopicInfo
from eventmicro_kafka.connection.driver import REJOIN_TIME
from eventmicro_kafka.consuming.dispatch import Dispatch
from eventmicro_kafka.consuming.following import Following
from eventmicro_kafka.consuming.jobs import Job, Jobs
from eventmicro_kafka.consuming.lane import KafkaDelivery, Lane
from eventmicro_kafka.consuming.member import COMMIT_INTERVAL, Member
from eventmicro_kafka.consuming.parking import Parking, Stores
from eventmicro_kafka.consuming.retry import retry_topic
from eventmicro_kafka.consuming.transactions import MOST_WAITING, Transactions, as_many_as_told
from eventmicro_kafka.producing.publishing import Publisher
from eventmicro_kafka.producing.transactor import Transactor
from eventmicro_kafka.records import delivery_headers
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics

log = logging.getLogger(__name__)


class KafkaSubscription(Dispatch):
    """One member's part of a queue.

    Args:
        subject: the topic.
        queue: the group.
        first: where to begin in partitions for which nothing is committed.
        topics: tells which topics there are; None: nobody does, and they stay as they are.
        following: makes what follows them; None: they stay as they are.
        transactor: makes transactions for it; None: there are none.
    """

    dropped = 0

    def __init__(
        self,
        subject: str,
        queue: str,
        receive: Receive,
        durable: Durable,
        settings: KafkaSettings,
        publisher: Publisher,
        first: Mapping[Any, int],
        topics: Topics | None = None,
        following: Callable[[KafkaSubscription], Following] | None = None,
        transactor: Transactor | None = None,
    ) -> None:
        if transactor is not None:
            durable = as_many_as_told(queue, durable)
            settings = replace(settings, retry_messages=min(settings.retry_messages, MOST_WAITING))
        super().__init__(subject, queue, receive, durable, settings)
        self.closed = False
        self._retry_topic = retry_topic(queue, subject)
        # of these the retry topic bears the place, too
        self._waits_apart = not durable.ordered or has_wildcards(subject)
        self._following = None if following is None else following(self)
        self._read_topics = [subject] if self._following is None else self._following.names
        ids = None if topics is None else topics.ids
        self._member = Member(settings, queue, self._all_topics(), first, subject, self, self._hold, bare=True, ids=ids)
        self._transactions: Transactions | None = None
        store: Stores = publisher
        if transactor is not None:
            lanes, limit = lambda: self.lanes, settings.transaction_timeout
            self._transactions = Transactions(transactor, queue, self._member, lanes, self._read_anew, limit)
            store = self._transactions
        self._parking = Parking(store, self._retry_topic, queue, self)
        self._keys_expected = durable.ordered
        patience = max(PATIENCE, 2 * (self._hold + REJOIN_TIME))  # a group whose partitions move waits for its slowest
        self._watchdog = Watchdog(self._state, self._waits, self._begin_anew, patience=patience)
        self._jobs = Jobs(queue, self._all_jobs(), self._job_ended)
        self._leaving: asyncio.Task[None] | None = None

    def _all_jobs(self) -> dict[str, Job]:
        jobs: dict[str, Job] = {"member": self._member.run, "pump": self._pump, "commits": self._commit_behind}
        jobs["watchdog"] = self._watchdog.run
        if self._following is not None:
            jobs["following"] = self._following.run
        if not self._durable.ordered:
            jobs["parking"] = self._parking.run
        if self._transactions is not None:
            jobs["transactions"] = self._transactions.run
        return jobs

    async def open(self) -> None:
        """Join the group; return when this side has its share of it."""
        if self._transactions is not None:
            await self._transactions.open()
        await self._member.open()
        if self._transactions is not None:
            self._transactions.check()
        self._jobs.start()

    async def drain(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._give_back()
        try:
            await self._jobs.stop(("watchdog", "following", "member", "pump"))
        finally:  # also where this is cancelled: a member that stays has partitions that nobody reads
            if self._jobs:  # else it was closed meanwhile
                self._leaving = asyncio.create_task(self._leave(), name=f"eventmicro kafka {self._queue} leave")

    async def close(self) -> None:
        """Commit what is finished and leave the group, within bounds; the rest is delivered again elsewhere."""
        self.ended = True
        self._give_back()
        try:
            if self._leaving is not None:
                if not self._ending:  # else it is about to commit
                    self._leaving.cancel()
                await asyncio.wait([self._leaving])
            await self._parking.finish()
        finally:
            await self._end()

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[KafkaDelivery], timeout: float
    ) -> None:
        """See `eventmicro.broker.PublishesAndAcks`."""
        if self._transactions is None:
            raise UsageError(f"queue {self._queue!r} is subscribed to without transactional=True")
        await self._transactions.commit(messages, deliveries, timeout)

    # -- what the lanes call -----------------------------------------------------------------------------------

    def again(self, delivery: KafkaDelivery, delay: float) -> None:
        """An event is to be delivered again: at once, from here; or later, by way of the retry topic."""
        if delay > 0 and not self._durable.ordered:
            self.held += 1  # until a copy is stored
            self._parking.put(delivery, time.time() + delay)
            return
        self._count_repeat(delivery)
        if not self.ended:
            self._again.append(delivery.repeated())
            self._urgent = True
            self._line.take_back()  # it comes before them
        self.settled()

    def _count_repeat(self, delivery: KafkaDelivery) -> None:
        repeats = delivery.lane.repeats
        repeats[delivery.offset] = repeats.get(delivery.offset, 0) + 1

    # -- what parking calls ------------------------------------------------------------------------------------

    def parked(self, delivery: KafkaDelivery) -> None:
        self.held -= 1
        delivery.lane.put_aside(delivery.offset)
        self.settled()

    def not_parked(self, delivery: KafkaDelivery, due: float) -> bool:
        if self._waiting.full:
            return False
        self.held -= 1
        self._count_repeat(delivery)
        self._waiting.add(due, delivery.repeated())
        self.settled()
        return True

    # -- what the member calls ---------------------------------------------------------------------------------

    def take(self, lane: Lane, records: list[Any]) -> None:
        if self._keys_expected and any(record.key is None for record in records):
            self._see_keyless()
        if lane.place.topic == self._retry_topic and self._waits_apart:
            self._waiting.take_in(lane, records)
        else:
            self._taken.append((lane, records))
            self._wanted.clear()
        self._change.set()

    def _see_keyless(self) -> None:
        if self._member.partitions(self._subject) == 1:  # it has its place there, too
            return
        self._keys_expected = False  # once is enough
        log.warning(
            "%s: an event on %s has no key, so it has no place in the order that order_by asks for: publish all "
            "of them under the key that order_by names, as by Topic(..., key=...)",
            self._queue,
            self._subject,
            extra={"queue": self._queue, "subject": self._subject},
        )

    # -- what following calls ----------------------------------------------------------------------------------

    def _all_topics(self) -> list[str]:
        return [*self._read_topics, self._retry_topic] if self._waits_apart else self._read_topics

    async def follow(self, topics: Mapping[str, TopicInfo]) -> None:
        new = sorted(topics.keys() - set(self._read_topics))
        if new:
            log.info(
                "queue %r: reads %s, too, which %s stands for",
                self._queue,
                ", ".join(new),
                self._subject,
                extra={"queue": self._queue, "subject": self._subject},
            )
        self._read_topics = sorted(topics)
        await self._member.follow(self._all_topics())

    async def begin_anew(self, topic: str) -> None:
        log.warning(
            "queue %r: topic %s was deleted and made again; its consumer is made anew",
            self._queue,
            topic,
            extra={"queue": self._queue},
        )
        self._read_anew()

    def _hold_copies(self, hold: bool) -> None:
        self._member.hold(self._retry_topic, hold)

    def _read_anew(self) -> None:
        self.share({})
        self._member.renew()

    def _read(self, lane: Lane, records: list[Any], arrived: float | None) -> list[KafkaDelivery]:
        subject, repeats = lane.place.topic, lane.repeats
        return [
            KafkaDelivery(
                subject,
                record.value or b"",
                (delivery_headers(record.headers) if record.headers else None)
                or (None if record.value is not None else {}),
                1 + repeats.get(record.offset, 0) if repeats else 1,
                arrived,
                lane,
                record.offset,
                None,
                "",
                record,
            )
            for record in records
        ]

    # -- what the watchdog asks and does -----------------------------------------------------------------------

    def _state(self) -> object:
        return self._urgent_done, {place: lane.next for place, lane in self.lanes.items()}

    async def _waits(self) -> bool:
        """Whether there are events here or at the broker that could be handed over."""
        if self._crowded or self.held >= self._durable.prefetch:
            return False
        return bool(self._taken or self._again) or await self._member.is_behind()

    async def _begin_anew(self, still: float) -> None:
        log.warning(
            "queue %r: events of %s wait, there is room for them, and none was handed over for %.0f s; its consumer is "
            "made anew, and begins with what is not committed",
            self._queue,
            self._subject,
            still,
            extra={"queue": self._queue, "subject": self._subject},
        )
        await self.pause()
        await self._member.commit()
        stuck = ("member", "pump", "commits")
        await self._jobs.stop(stuck)
        self._member.renew()
        self._jobs.start(stuck)

    def _job_ended(self, name: str) -> None:
        if name in ("member", "pump"):  # which may have had events in hand that are handed over to nobody
            self._read_anew()

    # -- commits, and the end ----------------------------------------------------------------------------------

    async def _commit_behind(self) -> None:
        while True:
            await self._uncommitted.wait()
            await asyncio.sleep(self._settings.commit_interval)
            self._uncommitted.clear()
            if not await self._member.commit():
                self._uncommitted.set()  # to be said again, also where nothing comes any more
                await asyncio.sleep(COMMIT_INTERVAL)

    async def _leave(self) -> None:
        """Leave the group when all that was handed over is settled, so that others get the rest."""
        while self.held > 0:
            await self._changed()
        await self._end()

    async def _end(self) -> None:
        self._ending = True
        self._change.set()  # for a pause that waits
        try:
            await self._jobs.stop_all()
            await self._member.commit()
        finally:
            for lane in self.lanes.values():
                lane.drop()
            try:
                if self._transactions is not None:
                    await self._transactions.close()
            finally:  # also where this is cancelled
                await self._member.close()
                self.closed = True
