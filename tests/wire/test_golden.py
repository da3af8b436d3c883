"""What travels, byte for byte, as tests/wire/golden/messages.json has it on record and docs/wire.md describes it.

A change here is a change of the wire: other versions and other languages read these bytes. What is new is printed by
`python -m pytest tests/wire -k travels -vv`, and written beside what is on record, which stays once it is released.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import wrappers_pb2
from pydantic import BaseModel

from eventmicro import Client, MemoryBroker, Service, Topic
from eventmicro.errors import NotFound, ServiceError, Unavailable
from eventmicro.message import Delivery

GOLDEN = json.loads((Path(__file__).parent / "golden" / "messages.json").read_text())
Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://wire"


class QuoteRequest(BaseModel):
    sku: str
    quantity: int = 1


class Quote(BaseModel):
    total: float


class OrderPlaced(BaseModel):
    order_id: str
    note: str | None = None


Words = wrappers_pb2.StringValue
PLACED = Topic("orders.placed", OrderPlaced)
WORDS = Topic("words.said", Words)

service = Service("orders", broker=URL)


@service.rpc
async def quote(request: QuoteRequest) -> Quote:
    return Quote(total=4.5 * request.quantity)


@service.rpc
async def find(request: QuoteRequest) -> Quote:
    raise NotFound(f"no such thing as {request.sku}\nanywhere")


@service.rpc
async def ping() -> None:
    return None


@service.rpc
async def hang() -> None:
    await asyncio.Event().wait()


@service.rpc
async def shout(request: Words) -> Words:
    return Words(value=request.value.upper())


@service.rpc
async def count(request: Words) -> Quote:
    return Quote(total=len(request.value))


@service.rpc
async def blob(request: bytes) -> bytes:
    return request[::-1]


async def call(client: Client) -> None:
    await client.call("orders.quote", QuoteRequest(sku="ä", quantity=2), Quote)


async def call_with_metadata(client: Client) -> None:
    await client.call("orders.quote", QuoteRequest(sku="a"), Quote, metadata={"traceparent": "00-1-2-01"})


async def call_without_request(client: Client) -> None:
    await client.call("orders.ping")


async def call_that_fails(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.call("orders.find", QuoteRequest(sku="a"), Quote)


async def call_with_wrong_field(client: Client) -> None:
    with pytest.raises(ServiceError):
        await client.call("orders.quote", {"quantity": "x"}, Quote)


async def call_that_times_out(client: Client) -> None:
    with pytest.raises(TimeoutError):
        await client.call("orders.hang", timeout=0.01)


async def call_in_protobuf(client: Client) -> None:
    await client.call("orders.shout", Words(value="hey"), Words)


async def call_in_protobuf_answered_in_json(client: Client) -> None:
    await client.call("orders.count", Words(value="hey"), Quote)


async def call_in_bytes(client: Client) -> None:
    await client.call("orders.blob", b"\x00\xff", bytes)


async def event(client: Client) -> None:
    await client.publish(PLACED, OrderPlaced(order_id="7"))


async def event_with_metadata(client: Client) -> None:
    await client.publisher(PLACED).publish(OrderPlaced(order_id="7", note="x"), metadata={"X-Tenant": "acme"})


async def event_in_protobuf(client: Client) -> None:
    await client.publish(WORDS, Words(value="hey"))


async def event_in_bytes(client: Client) -> None:
    await client.publish("blobs.made", b"\x00\xff")


CASES = [
    call,
    call_with_metadata,
    call_without_request,
    call_that_fails,
    call_with_wrong_field,
    call_that_times_out,
    call_in_protobuf,
    call_in_protobuf_answered_in_json,
    call_in_bytes,
    event,
    event_with_metadata,
    event_in_protobuf,
    event_in_bytes,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_what_travels_is_what_is_on_record(case: Callable[[Client], Awaitable[None]], until: Until) -> None:
    expected = GOLDEN[case.__name__]
    recorded: list[Delivery] = []
    async with service, MemoryBroker(URL) as wire, Client(URL) as client:
        await wire.subscribe(">", recorded.append)
        await case(client)
        await until(lambda: len(recorded) >= len(expected))
        await asyncio.sleep(0)
    assert [form(delivery) for delivery in recorded] == expected


async def test_nobody_there_is_told_as_nats_server_tells_it(until: Until) -> None:
    recorded: list[Delivery] = []
    async with MemoryBroker(URL) as wire, Client(URL) as client:
        await wire.subscribe("_INBOX.>", recorded.append)
        with pytest.raises(Unavailable):
            await client.call("orders.quote", QuoteRequest(sku="a"), Quote)
        await until(lambda: recorded)
    told, *asked = (form(delivery) for delivery in recorded)  # the client asks whether the service is there at all
    assert [told] == GOLDEN["nobody_there"]
    assert [each["headers"] for each in asked] == [told["headers"]]


def test_every_record_has_its_case() -> None:
    assert set(GOLDEN) == {case.__name__ for case in CASES} | {"nobody_there"}


def form(delivery: Delivery) -> dict[str, Any]:
    """A delivery as the record has it: only what is not empty; a body that is no text as hexadecimal digits."""
    try:
        body = {"body": delivery.body.decode("utf-8")}
        if not body["body"].isprintable():
            raise ValueError
    except ValueError:
        body = {"body": "hex " + delivery.body.hex()}
    if delivery.subject.endswith(".$cancel"):
        body = {"body": neutral(body["body"])}
    whole = {
        "subject": neutral(delivery.subject),
        "reply": neutral(delivery.reply),
        "headers": delivery.headers,
        **body,
    }
    return {key: value for key, value in whole.items() if value}


def neutral(subject: str) -> str:
    """A reply subject without what differs from run to run: the inbox, and the milliseconds."""
    return re.sub(r"^_INBOX\.\w+\.(\d+)\.\d+ms$", r"<inbox>.\1.<milliseconds>ms", subject)
