"""What a consumer of aiokafka returns of a record where nobody needs a ConsumerRecord."""

from __future__ import annotations

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

    def __init__(self, data: bytearray, *, bare: bool) -> None:
        state = SimpleNamespace(paused=False, position=0)
        state.consumed_to = lambda position: setattr(state, "position", position)
        self.position = state
        self._fetcher = SimpleNamespace(_records=OrderedDict[Any, Any]())
        if bare:
            leave_records_bare(self)
        parser = PartitionRecords(PLACE, MemoryRecords(bytes(data)), [], 0, None, None, True, READ_COMMITTED)
        assignment = SimpleNamespace(active=True, state_value=lambda _: state)
        result = FetchResult(PLACE, assignment=assignment, partition_records=parser, backoff=0)
        self._fetcher._records[PLACE] = result

    def read(self) -> list[Any]:
        records: list[Any] = self._fetcher._records[PLACE].getall(10)
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
