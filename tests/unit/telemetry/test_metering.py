"""What OpenTelemetry's metrics say of calls and events."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventmicro import (
    Ack,
    Batch,
    Client,
    Context,
    EncodeError,
    MemoryBroker,
    NotAllPublished,
    NotFound,
    Publish,
    Retry,
    Service,
    ServiceError,
    Topic,
    sides,
)
from eventmicro.broker import Durable
from eventmicro.context import Side
from eventmicro.errors import NotStored
from eventmicro.telemetry import metering
from eventmicro.telemetry.metering import NAMES, Metering

URL = "memory://metering"
ONE, TWO = Topic("one", int), Topic("two", int)


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                assert metric.unit == ("{message}" if metric.name.endswith(".messages") else "s")
                found[metric.name] = list(metric.data.data_points)
    return found


@pytest.mark.parametrize("destinations", [False, True])
async def test_calls_and_events_are_measured_on_all_sides(destinations: bool) -> None:
    reader = InMemoryMetricReader()
    measured = Metering(provider=MeterProvider([reader]), destinations=destinations)
    service, handled = Service("shop", broker=URL, middleware=[measured]), asyncio.Semaphore(0)

    @service.rpc
    async def get(number: int) -> int:
        if number < 0:
            raise NotFound("none")
        return number

    @service.subscribe(Topic("orders.*", int))
    async def bill(number: int) -> None:
        handled.release()

    async with service, Client(URL, middleware=[measured]) as client:
        await client.call("shop.get", 1, int)
        with pytest.raises(NotFound):
            await client.call("shop.get", -1, int)
        for number in range(3):
            await client.publish(f"orders.{number}", number, id=str(number))
            await asyncio.wait_for(handled.acquire(), 5)
    found = points(reader)
    for name in ("rpc.client.call.duration", "rpc.server.call.duration"):
        counts = {each.attributes["rpc.response.status_code"]: each.count for each in found[name]}
        assert counts == {"200": 1, "404": 1}
    for name in ("messaging.client.operation.duration", "messaging.process.duration"):
        assert sum(each.count for each in found[name]) == 3
        assert len(found[name]) == (3 if destinations else 1)
        assert not any("messaging.message.id" in each.attributes for each in found[name])


async def test_events_are_counted_one_by_one_also_those_of_a_batch_and_those_that_fail() -> None:
    reader, taken = InMemoryMetricReader(), asyncio.Semaphore(0)
    service = Service("shop", broker=URL, middleware=[Metering(provider=MeterProvider([reader]))])

    @service.subscribe(Topic("orders", int), batch=Batch(3, 60))
    async def together(numbers: list[int]) -> None:
        taken.release()

    @service.subscribe(Topic("orders", int), retry=Retry(attempts=2, backoff=0.01))
    async def bill(number: int, context: Context) -> None:
        taken.release()
        if number == 2 and context.attempt == 1:
            raise ValueError("not yet")

    async with service:
        await service.publish_many("orders", [1, 2, 3])
        for _ in range(1 + 4):
            await asyncio.wait_for(taken.acquire(), 5)
    found = points(reader)
    assert [each.value for each in found["messaging.client.sent.messages"]] == [3]
    counts = {
        (each.attributes["messaging.consumer.group.name"], each.attributes.get("error.type")): each.value
        for each in found["messaging.client.consumed.messages"]
    }
    assert counts == {("shop.together", None): 3, ("shop.bill", None): 3, ("shop.bill", "ValueError"): 1}
    assert sum(each.count for each in found["messaging.process.duration"]) == 1 + 4


async def test_an_event_that_is_dealt_with_has_no_error() -> None:
    reader, taken = InMemoryMetricReader(), asyncio.Semaphore(0)
    service = Service("shop", broker=URL, middleware=[Metering(provider=MeterProvider([reader]))])

    @service.subscribe(Topic("orders", int))
    async def bill(number: int) -> None:
        taken.release()
        raise Ack("there is nothing to do")

    async with service:
        await service.publish("orders", 1)
        await asyncio.wait_for(taken.acquire(), 5)
    found = points(reader)
    for name in ("messaging.process.duration", "messaging.client.consumed.messages"):
        assert [each.attributes.get("error.type") for each in found[name]] == [None]


def sent(reader: InMemoryMetricReader) -> dict[str | None, int]:
    """How many events are counted as sent, by what became of them."""
    found = points(reader).get("messaging.client.sent.messages", [])
    return {each.attributes.get("error.type"): each.value for each in found}


async def test_of_several_at_once_each_is_counted_by_what_the_broker_says_of_it() -> None:
    reader = InMemoryMetricReader()
    async with MemoryBroker(URL, queue_limit=1) as broker:
        await broker.subscribe("full", lambda _: None, queue="full", durable=Durable())
        async with Client(broker, middleware=[Metering(provider=MeterProvider([reader]))]) as client:
            with pytest.raises(NotAllPublished) as refused:
                await client.publish_many("full", [1, 2, 3], timeout=0.01)
    assert (refused.value.confirmed, len(refused.value.failed)) == (1, 2)
    assert sent(reader) == {None: 1, "NotStored": 2}


async def test_of_several_at_once_those_that_were_never_sent_are_not_counted() -> None:
    reader = InMemoryMetricReader()

    @sides("publisher")
    async def keep_back(event: Any, context: Context, call_next: Any) -> None:
        if isinstance(event, str) or event % 2:
            await call_next(event, context)

    measured = Metering(provider=MeterProvider([reader]))
    async with Client(URL, middleware=[measured, keep_back]) as client:
        with pytest.raises(EncodeError):
            await client.publish_many(ONE, cast("Any", [1, 3, "not one"]))
        assert sent(reader) == {}
        await client.publish_many(ONE, range(600))  # in several turns
    assert sent(reader) == {None: 300}


@pytest.mark.parametrize("is_refused", [False, True])
async def test_of_a_transaction_those_that_it_has_published_are_counted(
    is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, ended = InMemoryMetricReader(), asyncio.Event()
    broker = MemoryBroker(URL)
    service = Service("shop", broker=broker, middleware=[Metering(provider=MeterProvider([reader]))])

    @service.subscribe(Topic("orders", int), transactional=True, retry=Retry(attempts=1))
    async def bill(number: int) -> tuple[Annotated[list[int], Publish(ONE)], Annotated[int, Publish(TWO)]]:
        return [number, number], number

    publish_and_ack = broker.publish_and_ack

    async def settle(messages: Any, deliveries: Any, *, timeout: float = 10.0) -> None:
        try:
            assert [message.subject for message in messages] == ["one", "one", "two"]
            if is_refused:
                raise NotStored("full")
            await publish_and_ack(messages, deliveries, timeout=timeout)
        finally:
            asyncio.get_running_loop().call_soon(ended.set)

    monkeypatch.setattr(broker, "publish_and_ack", settle)
    async with broker, service, Client(broker) as client:
        await client.publish("orders", 1)
        await asyncio.wait_for(ended.wait(), 5)
    assert sent(reader) == ({"NotStored": 3} if is_refused else {None: 3})


async def test_what_ids_and_peers_make_up_is_counted_as_one_behind_a_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metering, "BOUNDED", dict.fromkeys(metering.BOUNDED, 3))
    reader = InMemoryMetricReader()
    measured = Metering(provider=MeterProvider([reader]), destinations=True)
    service = Service("shop", broker=URL)

    @service.rpc
    async def fail(code: int) -> None:
        raise ServiceError("no", code=code)

    async with service, Client(URL, middleware=[measured]) as client:
        for number in range(8):
            await client.publish(f"orders.{number}", number)
            with pytest.raises(ServiceError):
                await client.call("shop.fail", 700 + number, None)
    found = points(reader)
    subjects = {each.attributes["messaging.destination.name"]: each.count for each in found[NAMES[Side.PUBLISHER][0]]}
    assert subjects == {"orders.0": 1, "orders.1": 1, "orders.2": 1, "_OTHER": 5}
    codes = {each.attributes["rpc.response.status_code"]: each.count for each in found[NAMES[Side.CLIENT][0]]}
    assert codes == {"700": 1, "701": 1, "702": 1, "_OTHER": 5}
    said = [record.getMessage() for record in caplog.records if "there are more than 3" in record.getMessage()]
    assert len(said) == 3  # each once: of the subjects, of the codes twice, as they are `error.type`, too


async def test_topics_with_named_tokens_are_told_apart_by_these() -> None:
    reader, logs = InMemoryMetricReader(), Topic("logs.{level}", int)
    async with Client(URL, middleware=[Metering(provider=MeterProvider([reader]))]) as client:
        for number in range(3):
            await client.publish(logs.at(level=str(number)), number)
    [point] = points(reader)[NAMES[Side.PUBLISHER][0]]
    assert (point.count, point.attributes["messaging.destination.template"]) == (3, "logs.{level}")
    assert "messaging.destination.name" not in point.attributes


async def test_without_an_sdk_nothing_is_around_a_message() -> None:
    async def inner(message: Any, context: Context) -> None: ...

    for side in Side:
        assert Metering().around(side, inner, URL) is inner
