"""Dapr's events by the bytes and labels that daprd 1.14 sends, over each broker, and ours for its subscribers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from eventmicro_rabbitmq import RabbitExchange
from pydantic import BaseModel

from eventmicro import Client, CloudEvent, Depends, Service, Topic

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Order(BaseModel):
    """With a field that each CloudEvent has, too."""

    id: str


def written(data: dict[str, Any], **attributes: str) -> bytes:
    """As its pubsub wraps what it is given: names in the order of the alphabet."""
    said = {
        "datacontenttype": "application/json",
        "id": "f4ed87df-5e51-4660-8fd1-a180b1cc15d9",
        "pubsubname": "orders-pubsub",
        "source": "shop",
        "specversion": "1.0",
        "time": "2026-11-30T17:27:30Z",
        "topic": "orders",
        "traceid": "00-00000000000000000000000000000000-0000000000000000-00",
        "traceparent": "00-00000000000000000000000000000000-0000000000000000-00",
        "tracestate": "",
        "type": "com.dapr.event.sent",
    }
    return json.dumps({"data": data, **said, **attributes}, separators=(",", ":")).encode()


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", ["jetstream", "rabbitmq", "kafka"])
async def test_what_dapr_publishes_is_handled(
    broker: str, request: pytest.FixtureRequest, subject: str, until: Until
) -> None:
    url, got = request.getfixturevalue(f"{broker}_url"), dict[str, CloudEvent | None]()
    exchange = RabbitExchange(subject, type="fanout") if broker == "rabbitmq" else None
    service = Service(subject, broker=url)

    @service.subscribe(Topic(subject, Order, exchange=exchange, cloudevents=True))
    async def take(order: Order, about: Annotated[CloudEvent | None, Depends(CloudEvent.find)]) -> None:
        got[order.id] = about

    label = "text/plain" if broker == "rabbitmq" else None
    async with service, Client(url) as dapr:
        theirs = Topic(subject, bytes, exchange=exchange, content_type=label)
        await dapr.publish(theirs, written({"id": "1"}))
        await dapr.publish(theirs, b'{"id":"2"}')  # with rawPayload
        await dapr.publish(Topic(subject, Order, exchange=exchange, cloudevents="structured"), Order(id="3"))
        await dapr.publish(Topic(subject, Order, exchange=exchange, cloudevents=True), Order(id="4"))
        await until(lambda: len(got) == 4)
    about = got["1"]
    assert about is not None
    assert (about.source, about.type) == ("shop", "com.dapr.event.sent")
    assert (about.extensions["topic"], about.extensions["pubsubname"]) == ("orders", "orders-pubsub")
    assert got["2"] is None
    assert [found.source for found in (got["3"], got["4"]) if found] == ["/client"] * 2
