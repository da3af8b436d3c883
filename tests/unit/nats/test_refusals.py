"""Subscriptions over the server's limit: it says how many, and which is found out whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.refusals import TOO_MANY, Refusals


class Connection:
    """Takes so many subscriptions; its server answers in order, when it is told to."""

    def __init__(self, most: int) -> None:
        self.is_connected = True
        self.subscriptions: dict[int, Any] = {}
        self.told: list[str] = []
        self.refusals = Refusals(self, self._tell)
        self.most = most
        self.taken: list[int] = []
        self.late: list[Exception] = []  # in place of the next answers

    async def _tell(self, error: Exception) -> None:
        self.told.append(str(error).split('"')[1])

    async def subscribe(self, number: int) -> None:
        self.subscriptions[number] = SimpleNamespace(subject=f"a{number}", queue="", number=number)
        await self.ask_for(self.subscriptions[number])

    async def ask_for(self, subscription: Any) -> None:
        if len(self.taken) < self.most:
            self.taken.append(subscription.number)
        else:
            await self.refusals.take(f"'{TOO_MANY}'")

    async def flush(self, timeout: int) -> None:
        await asyncio.sleep(0)
        if self.late:
            raise self.late.pop(0)
        await asyncio.sleep(0)


async def sorted_out(connection: Connection) -> None:
    async with asyncio.timeout(20):
        while connection.refusals._finding is not None:
            await connection.refusals.sort_out()
            await asyncio.sleep(0)


async def test_one_is_named_though_the_server_is_slow_to_answer() -> None:
    connection = Connection(2)
    connection.late = [TimeoutError(), TimeoutError()]
    for number in (1, 2, 3):
        await connection.subscribe(number)
    await sorted_out(connection)
    assert connection.told == ["a3"]
    connection.refusals.close()


async def test_who_is_asked_for_again_and_who_is_new_are_told_apart() -> None:
    connection = Connection(2)
    for number in (1, 2, 3, 4):
        await connection.subscribe(number)
    await sorted_out(connection)
    assert sorted(connection.told) == ["a3", "a4"]
    connection.taken.remove(1)
    del connection.subscriptions[1]
    again = asyncio.create_task(connection.refusals._ask_once())
    await asyncio.sleep(0)
    new = asyncio.create_task(connection.subscribe(5))
    await asyncio.gather(again, new)
    await sorted_out(connection)
    refused = {number for number in connection.subscriptions if number not in connection.taken}
    assert set(connection.refusals._refused) == refused
    connection.refusals.close()


@pytest.mark.parametrize("turns", range(8))
async def test_each_that_is_not_taken_is_asked_for_again_whenever_it_was_refused(turns: int) -> None:
    connection = Connection(2)
    for number in (1, 2, 3):
        await connection.subscribe(number)
    await sorted_out(connection)
    again = asyncio.create_task(connection.refusals._ask_once())
    for _ in range(turns):
        await asyncio.sleep(0)
    await connection.subscribe(4)
    await again
    await sorted_out(connection)
    assert set(connection.refusals._refused) == {3, 4}
    connection.refusals.close()


async def test_what_a_lost_connection_refused_counts_no_more() -> None:
    connection = Connection(1)
    connection.late = [TimeoutError()]
    await connection.subscribe(1)
    await connection.subscribe(2)
    connection.taken.clear()
    connection.refusals.start_anew()
    for number in (1, 2):
        await connection.ask_for(connection.subscriptions[number])
    await sorted_out(connection)
    assert set(connection.refusals._refused) == {2}
    connection.refusals.close()
