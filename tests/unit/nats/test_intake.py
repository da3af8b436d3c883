"""The intakes of the NATS adapters: what comes is handed over, whatever the consumer does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.intake import Intake
from eventmicro_nats.jetstream.deliveries import JetStreamDelivery
from eventmicro_nats.jetstream.ordered_intake import OrderedIntake

from eventmicro.broker import Receive

COUNT = 5


def plain(receive: Receive) -> Any:
    return Intake(receive, lambda: None, 100, 10_000)


def ordered(receive: Receive) -> Any:
    intake = OrderedIntake(receive, lambda: True)
    intake.open_gate()
    return intake


class Nowhere:
    """Where deliveries are settled that come from no server."""

    def settle(self, delivery: JetStreamDelivery, word: bytes) -> None: ...


def delivery(sequence: int) -> JetStreamDelivery:
    return JetStreamDelivery(Nowhere(), sequence, b"0", b"", 0.0, "a", b"", None, 1)


@pytest.mark.parametrize("make", [plain, ordered])
async def test_a_consumer_that_raises_does_not_stop_the_intake(make: Any) -> None:
    got: list[int] = []

    def receive(delivery: Any) -> None:
        got.append(delivery.sequence)
        raise ValueError

    intake = make(receive)
    for sequence in range(COUNT):
        intake.take(delivery(sequence))
    assert got == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", [plain, ordered])
async def test_a_wait_for_room_that_fails_does_not_stop_the_intake(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    got: list[int] = []

    async def fail() -> None:
        raise ValueError

    def receive(delivery: Any) -> Awaitable[None]:
        got.append(delivery.sequence)
        return fail()

    intake = make(receive)
    for sequence in range(COUNT):
        intake.take(delivery(sequence))
    while intake._pump is not None:
        await intake._pump
    assert got == [0, 1, 2, 3, 4]
    assert [record.message for record in caplog.records] == ["a consumer raised when it had room again"] * COUNT


@pytest.mark.parametrize("make", [plain, ordered])
async def test_a_wait_for_room_that_is_cancelled_does_not_stop_the_intake(make: Any) -> None:
    """As where whoever was to say that there is room has ended."""
    got: list[int] = []
    rooms: list[asyncio.Future[None]] = []

    def receive(delivery: Any) -> Awaitable[None]:
        got.append(delivery.sequence)
        rooms.append(asyncio.get_running_loop().create_future())
        return rooms[-1]

    intake = make(receive)
    for sequence in range(COUNT):
        intake.take(delivery(sequence))
    for number in range(COUNT):
        await asyncio.sleep(0)
        rooms[number].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert got == [0, 1, 2, 3, 4]
