"""unsettled: what a handler with `ack="manual"` leaves and never settles is said once, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventmicro import Batch, Client, Context, DeliveryOptions, MemoryBroker, Service
from eventmicro.events import subscriber
from eventmicro.events.settling import Kept
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.events.unsettled import Unsettled
from eventmicro.message import Delivery

Until = Callable[[Callable[[], object]], Awaitable[None]]
SAID = "is not settled 0 s after its handler has returned"


@asynccontextmanager
async def running(seen: list[Context], **words: Any) -> AsyncIterator[Client]:
    """A service that leaves all its events to be settled by whoever has their contexts."""
    service = Service("numbers", broker="memory://")

    async def one(event: int, context: Context) -> None:
        seen.append(context)

    async def many(events: list[int], context: Context) -> None:
        seen.append(context)

    service.subscribe("numbers", name="see", **words)(many if "batch" in words else one)
    async with service:
        yield service.client


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "PATIENCE", 0.0)


@pytest.mark.parametrize("words", [{}, {"batch": Batch(1)}], ids=["alone", "batch"])
async def test_an_event_that_is_not_settled_is_named_once_a_subscriber(
    words: dict[str, Any], until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Context] = []
    async with running(seen, ack="manual", **words) as client:
        for number in range(3):
            await client.publish("numbers", number)
            await until(lambda: SAID in caplog.text and len(seen) == number + 1)  # noqa: B023
    assert caplog.text.count(SAID) == 1
    assert "numbers.see: event " in caplog.text
    delivery = seen[0].delivery if isinstance(seen[0].delivery, Delivery) else seen[0].delivery[0]
    assert f"event {delivery.id} on numbers" in caplog.text


@pytest.mark.parametrize("words", [{}, {"batch": Batch(1)}], ids=["alone", "batch"])
@pytest.mark.parametrize("ack", ["after_success", "before"])
async def test_nothing_is_said_where_the_subscriber_settles(
    ack: str, words: dict[str, Any], until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Context] = []
    async with running(seen, ack=ack, **words) as client:
        for number in range(3):
            await client.publish("numbers", number)
            await until(lambda: len(seen) == number + 1)  # noqa: B023
    assert SAID not in caplog.text


class Looks:
    """An `Unsettled` whose time has come, and what it has said."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.unsettled = Unsettled("numbers.see", 0.0)
        self._caplog = caplog

    @property
    async def said(self) -> list[str]:
        await asyncio.sleep(0)
        self.unsettled._look()
        return [record.getMessage().split()[2] for record in self._caplog.records]


async def test_what_is_settled_in_time_is_not_said_whatever_came_before_or_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = Looks(caplog)
    first, second, third = (Delivery("numbers", id=str(number)) for number in range(3))
    for delivery in (first, second, third):
        looks.unsettled.add(delivery)
    looks.unsettled.remove(first)
    looks.unsettled.remove(third)
    assert await looks.said == ["1"]
    looks.unsettled.close()


async def test_what_the_broker_has_taken_back_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(caplog)
    lapsed = Delivery("numbers", id="0", lapsed=True)
    looks.unsettled.add(lapsed)
    assert await looks.said == []
    looks.unsettled.add(Delivery("numbers", id="0"))
    assert await looks.said == ["0"]
    looks.unsettled.close()


async def test_they_are_counted_also_when_one_was_said_and_without_those_that_come_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(caplog)
    deliveries = [Delivery("numbers", id=str(number)) for number in range(3)]
    looks.unsettled.add(deliveries[0])
    assert await looks.said == ["0"]
    for delivery in deliveries[1:]:
        looks.unsettled.add(delivery)
    assert len(looks.unsettled) == 3
    looks.unsettled.remove(deliveries[0])
    deliveries[1].lapsed = True
    assert len(looks.unsettled) == 1
    monkeypatch.setattr("eventmicro.events.unsettled.MANY", 10)
    looks = Looks(caplog)
    for number in range(100):  # that nobody counts
        looks.unsettled.add(Delivery("numbers", id=str(number), lapsed=True))
    assert len(looks.unsettled._since) <= 10
    looks.unsettled.close()


async def test_a_stop_ends_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    async def see(event: None, context: Context) -> None: ...

    settling = Kept("numbers.see", MemoryBroker(), DeliveryOptions(queue="see", ack="manual"))
    by_hand = Subscriber(Work("numbers", "see", see, None, None, None, settling), 1)
    by_hand.receive(Delivery("numbers", id="7"))
    timer = by_hand.unsettled._timer
    assert timer is not None
    await by_hand.cut_off()
    assert timer.cancelled()
    by_hand.unsettled.add(Delivery("numbers", id="8"))  # by a handler that does not let itself be cancelled
    by_hand.unsettled._look()
    assert SAID not in caplog.text


@pytest.mark.parametrize("how", ["ack", "nack", "reject"])
async def test_what_is_settled_by_hand_after_its_handler_has_returned_is_not_said(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Context] = []

    async def see(event: None, context: Context) -> None:
        seen.append(context)

    options = DeliveryOptions(queue="see", ack="manual", dead_letter=False)
    settling = Kept("numbers.see", MemoryBroker(), options)
    by_hand = Subscriber(Work("numbers", "see", see, None, None, None, settling), 1)
    by_hand.receive(Delivery("numbers", id="7"))
    await getattr(seen[0], how)()
    by_hand.unsettled._look()
    assert SAID not in caplog.text
    await by_hand.cut_off()
