"""leaving: subscriptions that end in the same turn of the loop wait together for one answer of the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_nats.connection import leaving
from eventmicro_nats.connection.leaving import Leaving

MANY = 1_000


class Server:
    """Answers pings, or does not."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.pings: list[asyncio.Future[bool]] = []

    def ping(self, answer: asyncio.Future[bool]) -> None:
        self.pings.append(answer)
        if self.answers:
            asyncio.get_running_loop().call_soon(lambda: answer.done() or answer.set_result(True))


def leave(leaving: Leaving, number: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(leaving.answer(f"orders.{each}")) for each in range(number)]


async def test_all_of_one_turn_ask_once_and_those_of_another_turn_again() -> None:
    server = Server()
    together = Leaving(server.ping)
    await asyncio.gather(*leave(together, MANY))
    assert len(server.pings) == 1
    await asyncio.gather(*leave(together, 3))
    assert len(server.pings) == 2


async def test_a_server_that_does_not_answer_is_waited_for_once_and_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaving, "ANSWER_TIMEOUT", 0.01)
    server = Server(answers=False)
    together = Leaving(server.ping)
    await asyncio.gather(*leave(together, MANY))
    await asyncio.gather(*leave(together, 1))
    assert [record.getMessage() for record in caplog.records] == [
        "orders.0 and 999 more: left without the server's answer within 0.01 s",
        "orders.0: left without the server's answer within 0.01 s",
    ]
    assert all(ping.cancelled() for ping in server.pings)  # so that the answer of another ping is not taken for its own


async def test_an_answer_that_is_there_when_the_time_is_over_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaving, "ANSWER_TIMEOUT", 0.0)  # as on a loop that was busy for all that time
    await asyncio.gather(*leave(Leaving(Server().ping), MANY))
    assert not caplog.records


async def test_who_is_cancelled_leaves_the_others_their_answer(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(answers=False)
    tasks = leave(Leaving(server.ping), MANY)
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks[::2])
    assert not any(task.done() for task in tasks[1::2])
    server.pings[0].set_result(True)
    outcomes: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [True, False] * (MANY // 2)
    assert not caplog.records


async def test_a_connection_that_is_closed_lets_all_go(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(answers=False)
    tasks = leave(Leaving(server.ping), 3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    server.pings[0].cancel()
    await asyncio.gather(*tasks)
    assert not caplog.records


async def test_a_connection_that_is_lost_lets_all_go_at_once(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(answers=False)
    together = Leaving(server.ping)
    tasks = leave(together, 3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(server.pings) == 1
    together.lost()
    await asyncio.gather(*tasks)
    assert not caplog.records


async def test_where_the_connection_is_lost_just_then_nothing_is_waited_for() -> None:
    server = Server()
    await asyncio.gather(*leave(Leaving(server.ping, lambda: False), 3))
    assert not server.pings
