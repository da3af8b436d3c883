"""Fetching: records as aiokafka's parser has them, many at a time, without a ConsumerRecord made of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]


def leave_records_bare(consumer: Any) -> None:
    """Have a consumer that was started return records that have an offset, key, value and headers, and no topic.

    To make a ConsumerRecord of each, and to ask for them one by one, takes longer than to parse them.
    """
    fetcher = consumer._fetcher
    fetcher._records = _Fetched(fetcher._records)


class _Fetched(OrderedDict[Any, Any]):
    """What was fetched and not returned yet, by partition: each a parser that has not begun, or an error."""

    def __setitem__(self, place: Any, fetched: Any) -> None:
        parser = getattr(fetched, "_partition_records", None)
        if parser is not None:
            parser._records_iterator = _readable(place, parser)
            fetched.getall = _Runs(fetched)
        super().__setitem__(place, fetched)


class _Runs:
    """What was fetched of one partition, as FetchResult's `getall` gives it out."""

    def __init__(self, fetched: Any) -> None:
        self._fetched = fetched
        self._batch: Iterator[Any] = iter(())

    def __call__(self, max_records: int | None = None) -> list[Any]:
        fetched = self._fetched
        if not fetched.check_assignment(fetched._topic_partition):
            return []
        parser, found = fetched._partition_records, list[Any]()
        while max_records is None or len(found) < max_records:
            batch = self._run(parser, None if max_records is None else max_records - len(found))
            if batch is None:
                fetched._partition_records = None
                break
            found += batch
        fetched._assignment.state_value(fetched._topic_partition).consumed_to(parser.next_fetch_offset)
        return found

    def _run(self, parser: Any, most: int | None) -> list[Any] | None:
        """The next records of a batch, which may be none; None: there is no batch any more."""
        try:
            run = list(islice(self._batch, most))
        except BaseException:
            parser._records_iterator.close()  # so it is seen by `unreadable`
            raise
        if not run:
            following = next(parser._records_iterator, None)
            if following is None:
                return None
            self._batch = following
        elif run[0].offset < parser.next_fetch_offset:  # a batch comes as a whole, also where it is asked for from within
            run = [record for record in run if record.offset >= parser.next_fetch_offset]
        if run:
            parser.next_fetch_offset = run[-1].offset + 1
        return run


def _readable(place: TopicPartition, parser: Any) -> Iterator[Iterator[Any]]:
    """The batches as PartitionRecords goes through them, without those that are not for readers."""
    batches = parser._records
    while batches.has_next():
        batch = batches.next_batch()
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
