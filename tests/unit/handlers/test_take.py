"""What came together is read and handled: how far ahead is read, and in whose context."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import Any

import pytest

from eventmicro.handlers.inflight import AT_ONCE, AT_ONCE_BYTES, UNREAD, InFlight
from eventmicro.message import Delivery

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Reads:
    """Reads messages and notes how often, and handles them: those that `wait` wait for something."""

    def __init__(self, wait: Any = lambda number: False, sets: bool = False) -> None:
        self.read: list[int] = []
        self.handled: list[int] = []
        self.ahead: list[int] = []
        self.saw: list[str] = []
        self._wait = wait
        self._sets = sets

    def read_all(self, run: list[Delivery]) -> list[Any]:
        self.ahead.append(len(run))
        return [self._read(message) for message in run]

    def _read(self, message: Delivery) -> int:
        number = int(message.subject)
        self.read.append(number)
        if self._sets:
            whose.set(message.subject)
        return number

    async def handle(self, message: Delivery, read: Any) -> None:
        number = self._read(message) if read is UNREAD else read
        self.saw.append(whose.get())
        if self._wait(number):
            await asyncio.sleep(0)
        self.handled.append(number)


async def work_off(inflight: InFlight, reads: Reads, line: deque[Delivery]) -> None:
    while line:
        room = inflight.take(line, reads.read_all, reads.handle)
        if room is not None:
            await room
    await inflight.finish()
    await inflight.cut_off()


def messages(count: int, body: bytes = b"") -> deque[Delivery]:
    return deque(Delivery(str(number), body) for number in range(count))


async def test_all_that_came_together_is_read_before_the_first_is_handled() -> None:
    inflight, reads, line = InFlight(1), Reads(), messages(AT_ONCE + 5)
    inflight.take(line, reads.read_all, reads.handle)
    assert reads.ahead == [AT_ONCE]
    assert len(line) == 5
    await work_off(inflight, reads, line)
    assert reads.handled == reads.read == list(range(AT_ONCE + 5))


@pytest.mark.parametrize("limit", [1, 3])
async def test_where_handlers_wait_now_and_then_little_is_read_twice(limit: int) -> None:
    count = 600
    inflight, reads, line = InFlight(limit), Reads(wait=lambda number: number % 2), messages(count)
    await work_off(inflight, reads, line)
    assert sorted(reads.handled) == list(range(count))
    assert len(reads.read) < 3 * count  # and not a hundred times as many
    assert max(reads.read.count(number) for number in range(AT_ONCE, count)) <= 4


async def test_where_every_handler_waits_each_message_is_read_once() -> None:
    inflight, reads, line = InFlight(1), Reads(wait=lambda number: True), messages(300)
    await work_off(inflight, reads, line)
    assert reads.handled == list(range(300))
    assert all(reads.read.count(number) == 1 for number in range(AT_ONCE, 300))


async def test_more_is_read_ahead_again_when_handlers_wait_no_more() -> None:
    inflight, reads, line = InFlight(1), Reads(wait=lambda number: number < 3), messages(AT_ONCE * 4)
    await work_off(inflight, reads, line)
    assert max(reads.ahead[1:]) == AT_ONCE


async def test_large_messages_are_not_all_held_at_once() -> None:
    inflight, reads, line = InFlight(1), Reads(), messages(20, b"x" * (AT_ONCE_BYTES // 4))
    await work_off(inflight, reads, line)
    assert reads.handled == list(range(20))
    assert max(reads.ahead) == 5


async def test_what_reading_sets_is_seen_by_its_own_handler_and_by_nobody_else() -> None:
    inflight, reads = InFlight(1), Reads(sets=True)
    await work_off(inflight, reads, messages(10))
    assert reads.saw == [str(number) for number in range(10)]
    assert whose.get() == "nobody's"


async def test_what_is_taken_back_while_it_is_handled_is_not_handled() -> None:
    inflight, reads, line = InFlight(1), Reads(), messages(10)

    async def handle(message: Delivery, read: Any) -> None:
        reads.handled.append(read)
        if read == 3:
            line.clear()

    inflight.take(line, reads.read_all, handle)
    assert reads.handled == [0, 1, 2, 3]
    await inflight.cut_off()
