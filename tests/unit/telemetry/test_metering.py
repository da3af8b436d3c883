"""What OpenTelemetry's metrics say of calls and events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventmicro import (
    Batch,
    Client,
    Context,
    MemoryBroker,
    NotAllPublished,
    NotFound,
    Retry,
    Service,
    ServiceError,
    Topic,
)
from eventmicro.broker import Durable
from eventmicro.context import Side
from eventmicro.telemetry import metering
from eventmicro.telemetry.metering import NAMES, Metering

URL = "memory://metering"


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


async def test_of_several_at_once_the_broker_s_refusal_is_counted_by_the_publisher_alone() -> None:
    reader = InMemoryMetricReader()
    async with MemoryBroker(URL, queue_limit=1) as broker:
        await broker.subscribe("full", lambda _: None, queue="full", durable=Durable())
        async with Client(broker, middleware=[Metering(provider=MeterProvider([reader]))]) as client:
            with pytest.raises(NotAllPublished) as refused:
                await client.publish_many("full", [1, 2, 3], timeout=0.01)
    assert (refused.value.confirmed, len(refused.value.failed)) == (1, 2)
    [point] = points(reader)["messaging.client.sent.messages"]
    assert (point.value, "error.type" in point.attributes) == (3, False), "docs/operations.md says so"


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
