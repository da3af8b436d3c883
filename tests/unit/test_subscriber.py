"""subscriber: what is skipped, what is logged, and in which order events are handled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel

from eventmicro import Client, Context, MemoryBroker, Service, Topic
from eventmicro.errors import NotFound
from eventmicro.message import Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Number(BaseModel):
    value: int = 0


TOPIC = Topic("numbers.seen", Number)


def made(seen: list[int], concurrency: int = 1) -> Service:
    """A service that notes the numbers it sees, and fails at 13."""
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC, concurrency=concurrency)
    async def see(event: Number) -> None:
        if event.value == 13:
            raise KeyError("unlucky")
        seen.append(event.value)

    return service


UNREADABLE: list[tuple[bytes, dict[str, str] | None, str]] = [
    (b"no json", None, "not a valid Number (the body: Invalid JSON"),
    (b'{"value": "x"}', None, "not a valid Number (value: Input should be a valid integer"),
    (b"", None, "not a valid Number"),
    (b"{}", {"Content-Type": "text/xml"}, "in a form not taken here: content type 'text/xml' is not taken here"),
]


@pytest.mark.parametrize(("body", "headers", "words"), UNREADABLE, ids=[w[:32] for _, _, w in UNREADABLE])
async def test_an_event_that_cannot_be_read_is_skipped_and_said(
    body: bytes, headers: dict[str, str] | None, words: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    async with made(seen), MemoryBroker() as broker, Client(broker) as client:
        await broker.publish(Message("numbers.seen", body, headers))
        await client.publish(TOPIC, Number(value=1))
        await until(lambda: seen)
    assert seen == [1]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"numbers.see: event on numbers.seen skipped, it is {words}" in record.getMessage()
    assert record.exc_info is None


async def test_a_handler_that_fails_is_logged_with_its_traceback_and_the_next_event_is_handled(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    async with made(seen), Client("memory://") as client:
        await client.publish(TOPIC, Number(value=13))
        await client.publish(TOPIC, Number(value=1))
        await until(lambda: seen)
    assert "numbers.see: event on numbers.seen failed" in caplog.text
    assert "KeyError: 'unlucky'" in caplog.text


@pytest.mark.parametrize("error", [NotFound("x"), asyncio.CancelledError(), ValueError("x"), TimeoutError()])
async def test_whatever_a_handler_raises_the_subscription_goes_on(error: BaseException, until: Until) -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        seen.append(event.value)
        if event.value % 2:
            await asyncio.sleep(0)
        raise error

    async with service, Client("memory://") as client:
        for value in range(6):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: len(seen) == 6)


async def test_one_at_a_time_is_in_order_though_some_wait(until: Until) -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://")
    running = most = 0

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(event.value % 5):
            await asyncio.sleep(0)
        seen.append(event.value)
        running -= 1

    async with service, Client("memory://") as client:
        for value in range(200):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: len(seen) == 200)
    assert seen == list(range(200))
    assert most == 1


async def test_concurrency_lets_as_many_wait_at_the_same_time_and_no_more(until: Until) -> None:
    gate = asyncio.Event()
    running = most = done = 0
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC, concurrency=5)
    async def see(event: Number) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        done += 1

    async with service, Client("memory://") as client:
        for value in range(30):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: running == 5)
        gate.set()
        await until(lambda: done == 30)
    assert most == 5


async def test_a_subscriber_without_a_message_and_one_of_any_subject_get_what_there_is(until: Until) -> None:
    seen: list[str] = []
    service = Service("numbers", broker="memory://")

    @service.subscribe("numbers.>")
    async def all_of_them(context: Context) -> None:
        seen.append(f"{context.topic} {context.service}.{context.endpoint} {context.metadata} {context.attempt}")

    @service.subscribe("numbers.*")
    async def raw(body: bytes) -> None:
        seen.append(body.decode())

    async with service, Client("memory://") as client:
        await client.publish("numbers.one", b"\x31", metadata={"X-A": "b"})
        await until(lambda: len(seen) == 2)
    assert sorted(seen) == ["1", "numbers.one numbers.all_of_them {'X-A': 'b'} 1"]


async def test_a_service_gets_one_copy_for_each_subscriber_whatever_the_number_of_its_instances(until: Until) -> None:
    copies: list[str] = []

    def instance() -> Service:
        service = Service("numbers", broker="memory://")

        @service.subscribe(TOPIC)
        async def one(event: Number) -> None:
            copies.append("one")

        @service.subscribe(TOPIC)
        async def two(event: Number) -> None:
            copies.append("two")

        @service.subscribe(TOPIC, queue=None)
        async def every(event: Number) -> None:
            copies.append("every")

        return service

    async with instance(), instance(), instance(), Client("memory://") as client:
        for value in range(4):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: len(copies) == 4 + 4 + 12)
    assert [copies.count(name) for name in ("one", "two", "every")] == [4, 4, 12]


async def test_an_event_that_a_stop_cuts_off_is_said(caplog: pytest.LogCaptureFixture, until: Until) -> None:
    begun = False
    service = Service("numbers", broker="memory://", stop_timeout=0.01)

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        nonlocal begun
        begun = True
        await asyncio.Event().wait()

    async with service, Client("memory://") as client:
        await client.publish(TOPIC, Number())
        await until(lambda: begun)
    assert "numbers.see: event on numbers.seen cut off" in caplog.text
    assert "numbers.see: 1 cut off after 0.01 s" in caplog.text
