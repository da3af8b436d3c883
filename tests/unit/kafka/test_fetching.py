"""What a consumer of aiokafka returns of a record where nobody needs a ConsumerRecord."""

from __future__ import annotations

import struct
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchError, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord
from eventmicro_kafka.connection.driver import unreadable
from eventmicro_kafka.connection.fetching import leave_records_bare

PLACE = TopicPartition("t", 0)
HEADERS = [("a", b"1"), ("b", None)]


def batch(magic: int) -> bytearray:
    """Records of one of Kafka's formats, with and without a key and a value; only the last format has headers."""
    if magic < 2:
        legacy: Any = LegacyRecordBatchBuilder  # its type names the numbers
        builder = legacy(magic, 0, 10_000)
        made = [builder.append(n, timestamp=1, key=key, value=b"v") for n, key in enumerate((b"k", None))]
    else:
        builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 10_000)
        made = [
            builder.append(0, timestamp=1, key=b"k", value=b"v", headers=HEADERS),
            builder.append(1, timestamp=1, key=None, value=None, headers=[]),
        ]
    assert all(made)
    return bytearray(builder.build())


class Fetched:
    """A consumer that has fetched records of one partition."""

    def __init__(self, data: bytearray, *, bare: bool, aborted: Any = (), start: int = 0) -> None:
        state = SimpleNamespace(paused=False, position=start)
        state.consumed_to = lambda position: setattr(state, "position", position)
        self.position = state
        self._fetcher = SimpleNamespace(_records=OrderedDict[Any, Any]())
        if bare:
            leave_records_bare(self)
        parser = PartitionRecords(PLACE, MemoryRecords(bytes(data)), aborted, start, None, None, True, READ_COMMITTED)
        assignment = SimpleNamespace(active=True, state_value=lambda _: state)
        result = FetchResult(PLACE, assignment=assignment, partition_records=parser, backoff=0)
        self._fetcher._records[PLACE] = result

    def read(self) -> list[Any]:
        records: list[Any] = self._fetcher._records[PLACE].getall(10)
        return records

    def read_all(self, most: int) -> list[Any]:
        """All, so many at a time."""
        fetched, records = self._fetcher._records[PLACE], list[Any]()
        while fetched.has_more():
            records += fetched.getall(most)
        return records


@pytest.mark.parametrize("magic", [0, 1, 2])
def test_a_bare_record_is_as_a_whole_one_and_none_of_them_is_made(magic: int) -> None:
    whole, bare = (Fetched(batch(magic), bare=bare) for bare in (False, True))
    expected, found = whole.read(), bare.read()
    assert not any(isinstance(record, ConsumerRecord) for record in found)
    told = [(record.offset, record.key, record.value, tuple(record.headers)) for record in found]
    assert told == [(record.offset, record.key, record.value, record.headers) for record in expected]
    assert bare.position.position == whole.position.position == 2


def test_one_that_cannot_be_read_is_found_as_in_whole_records() -> None:
    data = batch(2)
    data[-1] ^= 1
    fetched = Fetched(data, bare=True)
    with pytest.raises(CorruptRecordException):
        fetched.read()
    assert unreadable(fetched) == (PLACE, 0)


def test_an_error_in_place_of_records_stays_one() -> None:
    fetched = Fetched(batch(2), bare=True)
    error = FetchError(error=ValueError("refused"), backoff=0)
    fetched._fetcher._records[PLACE] = error
    assert fetched._fetcher._records.pop(PLACE) is error
    assert not fetched._fetcher._records


def transactional(first: int, count: int, producer: int, control: int | None = None) -> bytearray:
    """A batch of a transaction; `control` makes it the end of one: 0, it was aborted, or 1, it was committed."""
    builder = DefaultRecordBatchBuilder(2, 0, True, producer, 0, 0, 10_000)
    key = None if control is None else struct.pack(">hh", 0, control)
    assert all(builder.append(n, timestamp=1, key=key, value=b"v", headers=[]) for n in range(count))
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    if control is not None:
        data[22] |= 0x20  # among the attributes: a control batch
        data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return data


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("most", [1, 2, 100])
def test_what_transactions_have_aborted_and_their_ends_are_left_out_as_in_whole_records(start: int, most: int) -> None:
    data = transactional(0, 3, 7) + transactional(3, 2, 8) + transactional(5, 1, 7, 0) + transactional(6, 2, 7)
    data += transactional(8, 1, 8, 1) + transactional(9, 1, 7, 1)
    aborted = [(7, 0)]
    whole, bare = (Fetched(data, bare=bare, aborted=aborted, start=start) for bare in (False, True))
    expected, found = whole.read_all(most), bare.read_all(most)
    assert [record.offset for record in found] == [record.offset for record in expected]
    assert [record.offset for record in found] == [3, 4, 6, 7]
    assert bare.position.position == whole.position.position == 10


@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_records_of_a_compressed_batch_begin_where_they_are_asked_for(most: int, start: int) -> None:
    builder = DefaultRecordBatchBuilder(2, 1, False, -1, -1, 0, 10_000)
    assert all(builder.append(n, timestamp=1, key=None, value=b"%d" % n, headers=[]) for n in range(4))
    fetched = Fetched(bytearray(builder.build()), bare=True, start=start)
    assert [record.offset for record in fetched.read_all(most)] == list(range(start, 4))
    assert fetched.position.position == 4
