"""Fetching: records as aiokafka's parser has them, many at a time, and the next ones on their way meanwhile."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from aiokafka.consumer.fetcher import OffsetResetStrategy  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    CorruptRecordException,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

# How long a broker may wait for events of some partitions, in milliseconds, while of others the next are there already:
# it is not asked for these meanwhile.
WAIT_FOR_SOME = 100


def leave_records_bare(consumer: Any) -> None:
    """Have a consumer that was started return records that have an offset, key, value and headers, and no topic.

    To make a ConsumerRecord of each, and to ask for them one by one, takes longer than to parse them.
    """
    fetcher = consumer._fetcher
    fetcher._records = _Fetched(fetcher)


OutOfRange = set[Any]
"""The partitions of which the broker has nothing any more, or nothing yet, where they were to be read."""


def fetch_ahead(consumer: Any) -> OutOfRange:
    """Have a consumer whose records are left bare fetch the next of a partition while the last are read.

    aiokafka fetches a partition again when all of it that is there was read. So they come to that one by one, and a
    request for some of them, of which the broker has no more, keeps the others waiting. Here all are fetched together,
    as soon as the next are there of none. A partition's position is then behind what is there and was not read yet.

    What cannot be read from where it is to be is read from its beginning, as with aiokafka's "earliest", and is noted.
    """
    fetcher = consumer._fetcher
    fetcher._default_reset_strategy = OffsetResetStrategy.NONE
    out_of_range = OutOfRange()
    fetcher._get_actions_per_node = partial(_ask_ahead, fetcher, fetcher._get_actions_per_node)
    fetcher._set_error = partial(_fail, fetcher, consumer, out_of_range, fetcher._set_error)
    return out_of_range


def _ask_ahead(fetcher: Any, ask: Any, assignment: Any) -> Any:
    fetched, wait = fetcher._records, fetcher._fetch_max_wait_ms
    if fetched.has_next:
        fetcher._fetch_max_wait_ms = WAIT_FOR_SOME
    else:
        fetched.hidden = fetched.go_ahead()
    try:
        return ask(assignment)
    finally:
        fetched.hidden, fetcher._fetch_max_wait_ms = frozenset(), wait


def _fail(fetcher: Any, consumer: Any, out_of_range: OutOfRange, set_error: Any, place: Any, error: Exception) -> None:
    """What cannot be fetched on from is not read to its end; it is read again with what follows."""
    if isinstance(error, OffsetOutOfRangeError | NoOffsetForPartitionError):
        if isinstance(error, OffsetOutOfRangeError):
            out_of_range.add(place)
        consumer._subscription.subscription.assignment.state_value(place).await_reset(OffsetResetStrategy.EARLIEST)
        return
    if place in fetcher._records:
        fetcher._records.step_back(place)
        del fetcher._records[place]
    set_error(place, error)


class _Fetched(OrderedDict[Any, Any]):
    """What was fetched and not returned yet, by partition: batches to be parsed, or an error."""

    def __init__(self, fetcher: Any) -> None:
        self.hidden: frozenset[Any] = frozenset()
        """The partitions that are to be fetched as if nothing of them was there."""
        self._fetcher = fetcher
        super().__init__(fetcher._records)

    def __contains__(self, place: object) -> bool:
        return super().__contains__(place) and place not in self.hidden

    def __setitem__(self, place: Any, fetched: Any) -> None:
        if getattr(fetched, "_partition_records", None) is not None:
            runs = self._runs_of(place)
            if runs is not None and runs.is_ahead:
                runs.following = fetched
                self[place]._created = fetched._created  # for some time after that nothing of its broker is fetched
                return
            fetched.getall = _Runs(fetched, self._went_on)
        super().__setitem__(place, fetched)

    @property
    def has_next(self) -> bool:
        """Whether of any partition the next are there while the last are read."""
        return any(runs.following is not None for runs in map(self._runs_of, self) if runs is not None)

    def go_ahead(self) -> frozenset[Any]:
        """Have the next fetched of all partitions of which something is there, as far as that can be; of which."""
        return frozenset(place for place in self if (runs := self._runs_of(place)) is not None and runs.go_ahead())

    def step_back(self, place: Any) -> None:
        """Let what follows on what is there be fetched again."""
        runs = self._runs_of(place)
        if runs is not None:
            runs.step_back()

    def _runs_of(self, place: Any) -> _Runs | None:
        runs = getattr(self.get(place), "getall", None)
        return runs if isinstance(runs, _Runs) else None

    def _went_on(self, place: Any) -> None:
        """Those that were fetched ahead of it are read, when it is its turn again; the next are fetched."""
        self.move_to_end(place)
        self._fetcher._notify(self._fetcher._wait_consume_future)


class _Runs:
    """What was fetched of one partition, as `getall` of its FetchResult gives it out, and what was fetched ahead.

    Attributes:
        is_ahead: whether the partition's position is behind all that is here, so that the next can be fetched.
        following: the FetchResult of the next, if it is there already.
    """

    def __init__(self, fetched: Any, went_on: Callable[[Any], None]) -> None:
        self.is_ahead = False
        self.following: Any = None
        self._fetched = fetched
        self._went_on = went_on
        self._place = fetched._topic_partition
        self._state = fetched._assignment.state_value(self._place)
        self._parser: Any = None
        self._batch: Iterator[Any] = iter(())
        self._end: int | None = None
        self._begin(fetched._partition_records)

    def __call__(self, max_records: int | None = None) -> list[Any]:
        if not self._is_current():
            return []
        found = list[Any]()
        while self._fetched.has_more() and (max_records is None or len(found) < max_records):
            found += self._run(None if max_records is None else max_records - len(found))
        if not self.is_ahead:
            self._state.consumed_to(self._parser.next_fetch_offset)
        return found

    def go_ahead(self) -> bool:
        """Set the position of the partition behind what is here; whether it is there."""
        state = self._state
        reads_on = state.has_valid_position and state.position == self._parser.next_fetch_offset
        if not (self.is_ahead or state.paused or self._end is None) and reads_on:
            state.consumed_to(self._end)
            self.is_ahead = True
        return self.is_ahead

    def step_back(self) -> None:
        """Set it to what was not returned yet, and forget what follows on what is here."""
        if self.is_ahead:
            self._state.seek(self._parser.next_fetch_offset)
            self.is_ahead, self.following = False, None

    def _is_current(self) -> bool:
        """Whether it may be returned; else it is forgotten, and fetched again where it is still this side's."""
        if self.is_ahead:
            if self._fetched._assignment.active and not self._state.paused:
                return True
            self.step_back()
        return bool(self._fetched.check_assignment(self._place))

    def _run(self, most: int | None) -> list[Any]:
        """The next records of a batch, which may be none."""
        parser = self._parser
        try:
            run = list(islice(self._batch, most))
            if not run:
                batch: Iterator[Any] | None = next(parser._records_iterator, None)
                self._batch = self._go_on() if batch is None else batch
        except Exception:
            self.step_back()
            self._end = None
            parser._records_iterator.close()  # so it is seen by `unreadable`
            raise
        if run and run[0].offset < parser.next_fetch_offset:  # a batch comes as a whole, wherever in it one has begun
            run = [record for record in run if record.offset >= parser.next_fetch_offset]
        if run:
            parser.next_fetch_offset = run[-1].offset + 1
        return run

    def _go_on(self) -> Iterator[Any]:
        """Go on with what was fetched ahead, if it is there, when there are no more batches."""
        fetched, following, self.following = self._fetched, self.following, None
        fetched._partition_records = None if following is None else following._partition_records
        if following is None:
            del fetched.getall  # which refers to it: what has come to its end is gone at once
        else:
            self.is_ahead = False
            self._begin(fetched._partition_records)
            self._went_on(self._place)
        return iter(())

    def _begin(self, parser: Any) -> None:
        batches, self._end = _whole(parser._records)
        parser._records_iterator = _readable(self._place, parser, batches)
        self._parser = parser


def _whole(records: Any) -> tuple[deque[Any], int | None]:
    """All batches, and the offset behind the last; where one is broken, they end with the error, and with no offset."""
    batches = deque[Any]()
    try:
        while records.has_next():
            batches.append(records.next_batch())
    except KafkaError as error:
        batches.append(error)
        return batches, None
    return batches, batches[-1].next_offset


def _readable(place: Any, parser: Any, batches: deque[Any]) -> Iterator[Iterator[Any]]:
    """The records of each batch, as PartitionRecords goes through them, without those that are not for readers."""
    while batches:
        batch = batches.popleft()
        if isinstance(batch, Exception):
            raise batch
        if parser._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {place}")
        if not (_is_aborted(parser, batch) or batch.is_control_batch):
            yield islice(batch, None)
        parser.next_fetch_offset = batch.next_offset


def _is_aborted(parser: Any, batch: Any) -> bool:
    """Whether its transaction was aborted; the end of one is noticed."""
    if not parser._isolation_level or batch.producer_id is None:
        return False
    parser._consume_aborted_up_to(batch.base_offset)
    if batch.is_control_batch and parser._contains_abort_marker(batch):
        parser._aborted_producers.discard(batch.producer_id)
    return bool(batch.is_transactional and batch.producer_id in parser._aborted_producers)
