"""A dead letter that cannot be published: its event is kept, and its handler has had its attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Batch, Client, Context, MemoryBroker, Reject, Retry, Service
from eventmicro.errors import Disconnected, MessageTooLarge, NotStored, Unconfirmed, UsageError
from eventmicro.events import settling
from eventmicro.message import Message

Until = Callable[[Callable[[], object]], Awaitable[None]]

REFUSALS = [
    NotStored("no"),
    MessageTooLarge("big"),
    UsageError("bad"),
    Disconnected("away"),
    Unconfirmed("?"),
    OSError(),
]


class NoLetters(MemoryBroker):
    """A broker that refuses dead letters until it is told otherwise."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error
        self.refused = 0

    async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
        if message.subject.startswith("dead.") and self.error is not None:
            self.refused += 1
            raise self.error
        await super().publish(message, timeout=timeout)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "LEAST_PAUSE", 0.001)
    monkeypatch.setattr("eventmicro.events.subscriber.UNSETTLED_PAUSE", 0.001)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "words", [{}, {"order_by": lambda number: number % 2}, {"batch": Batch(2, 0.01)}], ids=["plain", "keyed", "batch"]
)
async def test_the_handler_is_not_run_beyond_its_attempts(
    error: Exception, words: dict[str, Any], until: Until
) -> None:
    broker, runs, letters = NoLetters(error), 0, []
    service = Service("numbers", broker=broker)

    async def see(event: Any) -> None:
        nonlocal runs
        runs += 1
        raise ValueError("never")

    see.__annotations__["event"] = list[int] if "batch" in words else int
    retry = Retry(attempts=2, backoff=0, longest=0)
    service.subscribe("numbers", retry=retry, **words)(see)

    @service.subscribe("dead.numbers.see", queue="dead.numbers.see")
    async def letter(number: int, context: Context) -> None:
        letters.append((number, context.metadata["Dead-Letter-Attempts"], context.metadata["Dead-Letter-Reason"]))

    async with broker, service, Client(broker) as client:
        await client.publish("numbers", 7)
        await until(lambda: broker.refused > 15)  # also when it was delivered more often than a worn-out one is
        assert runs == 2
        broker.error = None
        await until(lambda: letters)
    assert letters == [(7, "2", "failed 2 times, the last time by ValueError: never")]
    assert runs == 2


async def test_each_try_is_said_with_the_reason(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    broker = NoLetters(NotStored("the stream is full"))
    service = Service("numbers", broker=broker)

    @service.subscribe("numbers", retry=Retry(attempts=1, longest=0), order_by=lambda number: 0)
    async def see(number: int) -> None:
        raise Reject("bad")

    async with broker, service, Client(broker) as client:
        await client.publish("numbers", 7)
        await until(lambda: broker.refused > 4)
    said = "numbers.see: event on numbers is kept, its dead letter: the stream is full; tried again in 0.001 s"
    assert caplog.text.count(said) >= 2


async def test_of_very_many_the_first_are_forgotten(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "MAX_OWED", 3)
    monkeypatch.setattr(settling, "LEAST_PAUSE", 600.0)
    broker = NoLetters(NotStored("no"))
    service = Service("numbers", broker=broker)

    @service.subscribe("numbers", retry=Retry(attempts=1))
    async def see(number: int) -> None:
        raise Reject("bad")

    async with broker, service, Client(broker) as client:
        for number in range(9):
            await client.publish("numbers", number)
        await until(lambda: broker.refused >= 9)
        await asyncio.sleep(0)
        assert service._node is not None
        handler = service._node._parts.handlers[0]
        assert len(handler.settling._owed) == 3  # type: ignore[union-attr]


async def test_a_letter_that_is_refused_for_its_headers_goes_without_them(until: Until) -> None:
    class Picky(MemoryBroker):
        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            if message.subject.startswith("dead.") and "X-Order" in (message.headers or {}):
                raise NotStored("wrong order")
            await super().publish(message, timeout=timeout)

    broker, letters = Picky(), []
    service = Service("numbers", broker=broker)

    @service.subscribe("numbers")
    async def see(number: int) -> None:
        raise Reject("bad")

    @service.subscribe("dead.numbers.see", queue="dead.numbers.see")
    async def letter(number: int, context: Context) -> None:
        letters.append(dict(context.metadata))

    async with broker, service, Client(broker) as client:
        metadata = {"X-Order": "1", "Content-Type": "application/json"}
        await client.publish("numbers", 7, metadata=metadata)
        await until(lambda: letters)
    assert letters[0]["Dead-Letter-Reason"] == "rejected: bad"
    assert letters[0]["Content-Type"] == "application/json"
    assert "X-Order" not in letters[0]
