"""Transactions: what handlers return is published, and their events are finished, in one transaction of all that wait.

The next one takes what has come together while the one before was on its way. What a queue has finished is one place a
partition, so that it may be committed at any moment; the group refuses a commit of a member whose partitions are
others' by now, and with it the events. Whoever gets a partition waits for the transactions that are open on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from aiokafka.errors import OffsetMetadataTooLargeError  # type: ignore[import-untyped]

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected, NotAllPublished, TransportError, UsageError
from eventmicro.message import Copy, Message
from eventmicro_kafka.connection.transacting import can_commit_places, commit_places
from eventmicro_kafka.consuming.entries import Entries, Entry
from eventmicro_kafka.consuming.lane import Committed, KafkaDelivery, Lane
from eventmicro_kafka.consuming.member import Member
from eventmicro_kafka.consuming.progress import LONGEST, is_finished
from eventmicro_kafka.errors import NOT_A_MEMBER, KafkaError, late, plain
from eventmicro_kafka.producing.transactor import Refused, Transactor

log = logging.getLogger(__name__)

# Within how many bytes a place has to say that an event is finished whose outcome is published: well below what it may
# have in all, as it has to say so for as long as an event before it is not, of which it may say more by then.
SURE = 3000
# How many events may be held at once, and how many may wait here until they are due again: of so many it can tell.
MOST_HELD = MOST_WAITING = 300
# How long to wait before what failed is tried again, in seconds.
AGAIN_INTERVAL = 0.1
# How long opening may take, in seconds: as long as another transaction of the same name may be open.
OPEN_TIMEOUT = 30.0


def as_many_as_told(queue: str, durable: Durable) -> Durable:
    """What is asked for, with no more events held at once than a place can tell of."""
    if durable.prefetch <= MOST_HELD:
        return durable
    log.warning(
        "queue %r: prefetch is %d, and %d events are held at once: of so many the place of a transactional queue can "
        "tell; more of concurrency and batch is not reached, but by more instances",
        queue,
        durable.prefetch,
        MOST_HELD,
        extra={"queue": queue},
    )
    return replace(durable, prefetch=MOST_HELD)


class Transactions:
    """The transactions of one subscription.

    Args:
        queue: whose events it takes.
        member: knows its partitions, and commits nothing meanwhile.
        lanes: those that there are now.
        read_anew: has all that is not committed read again.
        limit: how long one may take, in seconds.
    """

    def __init__(
        self,
        transactor: Transactor,
        queue: str,
        member: Member,
        lanes: Callable[[], Mapping[object, Lane]],
        read_anew: Callable[[], None],
        limit: float,
    ) -> None:
        self._transactor = transactor
        self._queue = queue
        self._member = member
        self._lanes = lanes
        self._read_anew = read_anew
        self._limit = limit
        self._entries = Entries()
        self._trouble: BaseException | None = None  # of the last one, if it has failed

    async def open(self) -> None:
        """Make what they are made by.

        Raises:
            UsageError: the cluster refuses it.
            Disconnected: that took too long.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await self._transactor.open()
        except TimeoutError:
            why = f": {self._transactor.trouble}" if self._transactor.trouble else ""
            said = f"queue {self._queue!r}: no transaction can be made within {OPEN_TIMEOUT:g} s{why}"
            raise Disconnected(said) from None

    def check(self) -> None:
        """See that the brokers, now that some are known, can do it.

        Raises:
            UsageError: they are too old.
        """
        consumer, _ = self._member.at_work
        if consumer is not None and not can_commit_places(consumer):
            raise UsageError(
                f"queue {self._queue!r}: transactional=True needs Kafka 2.5 or later, which refuses a commit of a "
                f"member whose partitions are others' by now"
            )

    async def close(self) -> None:
        """End; what was not committed is somebody else's."""
        self._entries.close()
        await self._transactor.close()

    async def commit(
        self,
        messages: Sequence[Message],
        deliveries: Sequence[KafkaDelivery],
        timeout: float,
        *,
        put_aside: bool = False,
    ) -> None:
        """Publish these and finish those, in one transaction; return when it holds.

        Where the events are somebody else's by now nothing is done. Once a transaction has begun with it, its end is
        waited for, whatever happens.

        Raises:
            TransportError, UsageError: nothing was done.
        """
        entry, loop = Entry(messages, deliveries, put_aside), asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                if not self._entries.closed:
                    await self._transactor.ready(messages)
        except TimeoutError:
            raise self._late(entry, timeout) from None
        except Disconnected:
            if not self._entries.closed:
                raise
        if self._entries.closed:
            return
        self._entries.put(entry)
        give_up = self._entries.give_up
        timer = loop.call_at(deadline, lambda: give_up(entry, self._late(entry, timeout)))
        try:
            await self._wait_for(entry)
        finally:
            timer.cancel()
        if (error := entry.outcome.result()) is not None:
            raise error

    async def publish_many(self, messages: Sequence[Copy], timeout: float) -> None:
        """Publish copies of events that are to be handled later, each in one transaction with the end of its own.

        Raises:
            NotAllPublished: some were not.
        """
        commits = [self.commit([copy], [cast("KafkaDelivery", copy.of)], timeout, put_aside=True) for copy in messages]
        outcomes = await asyncio.gather(*commits, return_exceptions=True)
        failed = {number: error for number, error in enumerate(outcomes) if isinstance(error, Exception)}
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))

    async def run(self) -> None:
        """Make one after the other, for as long as it takes."""
        while True:
            entries = await self._entries.take()
            try:
                again = await self._run(entries)
            except BaseException:
                if self._transactor.is_deciding:
                    self._leave_undecided(entries)
                self._entries.put_back(entries)
                raise
            self._entries.put_back(again)
            if again and not any(entry.outcome.done() for entry in entries):  # else it may go well without those
                await asyncio.sleep(AGAIN_INTERVAL)

    async def _wait_for(self, entry: Entry) -> None:
        while not entry.outcome.done():
            try:
                await asyncio.wait([entry.outcome])
            except asyncio.CancelledError as error:
                self._entries.give_up(entry, error)

    def _late(self, entry: Entry, timeout: float) -> TransportError:
        subject = entry.messages[0].subject
        if entry.is_told:
            return late(subject, timeout, sent=False, met=self._trouble)
        return Disconnected(
            f"{subject}: not sent within {timeout:g} s: more events before its own are not finished than a place can "
            f"tell of; give queue {self._queue!r} a lower prefetch, or its handlers a timeout"
        )

    async def _run(self, entries: list[Entry]) -> list[Entry]:
        """One transaction of these; which of them are to be in another one."""
        async with self._member.no_commits():
            mine = [entry for entry in entries if self._is_mine(entry)]
            places, now = self._places(mine)
            for entry in mine:
                entry.is_told = entry in now
            later = [entry for entry in mine if not entry.is_told]
            if now and not await self._transact(now, places):
                return [*now, *later]
            return later

    def _is_mine(self, entry: Entry) -> bool:
        held = entry.held
        if held == len(entry.deliveries):
            return True
        if held:  # of a batch: its other events are to come again here
            entry.end(Disconnected(f"queue {self._queue!r}: some of the events are handled elsewhere by now"))
        else:
            entry.end(None)
        return False

    def _places(self, entries: Sequence[Entry]) -> tuple[dict[Lane, Committed], list[Entry]]:
        """What is to be committed, and those whose events it says are finished: a place can name only so many."""
        left = list(entries)
        while True:
            done: dict[Lane, set[int]] = {lane: set() for lane in self._lanes().values()}
            for entry in left:
                for delivery in entry.deliveries:
                    done[delivery.lane].add(delivery.offset)
            sure = {lane: self._place(lane, offsets, SURE) for lane, offsets in done.items()}
            told = [entry for entry in left if _are_told(entry.deliveries, sure)]
            if len(told) == len(left):
                places = {lane: self._place(lane, offsets, LONGEST) for lane, offsets in done.items()}
                return {lane: place for lane, place in places.items() if place != lane.committed}, left
            left = told

    def _place(self, lane: Lane, done: set[int], longest: int) -> Committed:
        offset, more = lane.progress(done, longest)
        return offset, "" if self._member.is_bare else more

    async def _transact(self, entries: Sequence[Entry], places: Mapping[Lane, Committed]) -> bool:
        """Whether it has ended; where not nothing of it holds, and what is left of the entries may be tried again."""
        consumer, member = self._member.at_work
        if consumer is None:
            return False
        messages = [message for entry in entries for message in entry.messages]
        clean = False
        try:
            async with asyncio.timeout(self._limit):
                offsets = {lane.place: committed for lane, committed in places.items()}
                commit = partial(commit_places, consumer, offsets=offsets, member=member)
                await self._transactor.run(messages, commit)
        except Refused as refused:
            self._refuse(entries, refused)
        except OffsetMetadataTooLargeError:
            self._member.go_bare()
        except (KafkaError, OSError, TransportError) as error:  # TimeoutError is an OSError
            self._say(error)
            clean = isinstance(error, NOT_A_MEMBER)
        else:
            self._trouble = None
            self._finish(entries, places)
            return True
        is_undecided = self._transactor.is_deciding
        if is_undecided:
            self._leave_undecided(entries)
        await self._clean_up(abort=clean)
        return is_undecided

    def _finish(self, entries: Sequence[Entry], places: Mapping[Lane, Committed]) -> None:
        """It holds."""
        for lane, committed in places.items():
            lane.committed = committed
        for entry in entries:
            for delivery in entry.deliveries:
                if entry.put_aside:
                    delivery.lane.put_aside(delivery.offset)
                else:
                    delivery.lane.finish(delivery)
            entry.end(None)

    def _refuse(self, entries: Sequence[Entry], refused: Refused) -> None:
        """End those of which a message is not taken."""
        first = 0
        for entry in entries:
            behind = first + len(entry.messages)
            failed = [refused.failed[number] for number in range(first, behind) if number in refused.failed]
            if failed:
                entry.end(failed[0])
            first = behind

    def _leave_undecided(self, entries: Sequence[Entry]) -> None:
        """It may hold or not. What is committed says it when that is read, by whoever is to go on from there."""
        for entry in entries:
            entry.end(None)
        self._read_anew()

    async def _clean_up(self, *, abort: bool) -> None:
        """End what has failed, so that readers need not wait for it; else the next one does."""
        try:
            async with asyncio.timeout(self._limit):
                if self._transactor.is_open:
                    await (self._transactor.abort() if abort else self._transactor.renew())
        except (KafkaError, OSError, TransportError) as error:
            self._say(error)

    def _say(self, error: BaseException) -> None:
        """Say why one has failed; the same again is not told each time."""
        why = f"it has not ended within {self._limit:g} s" if isinstance(error, TimeoutError) else plain(error)
        is_known = isinstance(error, NOT_A_MEMBER) or type(error) is type(self._trouble)
        level, self._trouble = logging.DEBUG if is_known else logging.WARNING, error
        log.log(level, "queue %r: a transaction is made anew: %s", self._queue, why, extra={"queue": self._queue})


def _are_told(deliveries: Sequence[KafkaDelivery], places: Mapping[Lane, Committed]) -> bool:
    """Whether these places say of all events that they are finished."""
    return all(is_finished(each.offset, *places[each.lane]) for each in deliveries)
