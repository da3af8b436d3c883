"""Kafka: a live subscription of a log that has lost its end: what is new is handed over, nothing that was before."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from eventmicro_kafka.connection.protocol import UNKNOWN
from eventmicro_kafka.consuming.live import Broadcast
from eventmicro_kafka.settings import KafkaSettings

from tests.unit.kafka.kit import PLACE
from tests.unit.kafka.test_cuts import Cluster, batch


class Log(Cluster):
    """The consumer of a subscription that has read up to 20 under epoch 3; the log of that ends elsewhere by now.

    Attributes:
        got: which offsets were handed over.
        at: from where it reads on.
    """

    def __init__(self, ends: dict[Any, int], *, known: int = 3) -> None:
        super().__init__(ends)
        self.at, self.got = 20, list[int]()
        healthy = SimpleNamespace(check_errors=lambda: None, error_future=asyncio.get_running_loop().create_future())
        self._coordinator = self._fetcher = healthy
        self.read: list[int] = []
        link: Any = None
        self.live = Broadcast("t", 1, lambda delivery: self.got.append(delivery.record.offset), KafkaSettings(), link)
        self.live._consumer = self
        self.live._reading = SimpleNamespace(read=self._batches)
        self.live._next, self.live._last = {PLACE: 20}, {PLACE: known}

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    async def position(self, _: Any) -> int:
        return self.at

    def seek(self, _: Any, offset: int) -> None:
        self.at = offset

    async def _batches(self) -> dict[Any, list[Any]]:
        self.at = self.read[-1] + 1
        return {
            PLACE: [
                SimpleNamespace(topic="t", offset=offset, key=None, value=b"", headers=(), partition=0)
                for offset in self.read
            ]
        }

    async def reads(self, offsets: range, epoch: int) -> list[int]:
        """What is handed over when these are read, of this epoch."""
        self.read = list(offsets)
        self.got.clear()
        self.live._epochs.note(PLACE, batch(offsets.start, epoch))
        await self.live._read()
        return list(self.got)


@pytest.mark.parametrize(("offsets", "epoch"), [(range(20, 23), 5), (range(12), 3)])
async def test_what_is_new_is_read_from_where_the_log_was_cut(
    offsets: range, epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it has gone on beyond what was read, or has less, and is read from its beginning."""
    log = Log({PLACE: 12})
    assert await log.reads(offsets, epoch) == []
    assert log.live._next == {PLACE: 12}
    assert await log.reads(range(12, 15), 5) == [12, 13, 14]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "subscription 't': the broker has lost the end of the log of t-0" in record.message
    assert "offsets 12 to 19, which this subscription knew, are gone" in record.message


async def test_a_log_that_goes_on_under_another_leader_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    log = Log({PLACE: 20})
    assert await log.reads(range(20, 22), 5) == [20, 21]
    assert (log.live._next, log.live._last, caplog.records) == ({PLACE: 22}, {PLACE: 5}, [])


@pytest.mark.parametrize("known", [3, UNKNOWN])
async def test_where_it_is_not_told_it_is_read_as_it_comes(known: int, caplog: pytest.LogCaptureFixture) -> None:
    log = Log({}, known=known)
    assert await log.reads(range(20, 22), 3) == [20, 21]
    assert caplog.records == []


async def test_a_topic_that_has_gone_keeps_no_drain_waiting() -> None:
    log = Log({})
    log.live._until, log.live._next = {PLACE: 25}, {}
    assert log.live._is_done()
