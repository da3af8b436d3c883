"""Calls of others, and their replies: what is valid is taken, whatever it is labelled as, and the answer is in kind."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, DecodeError, MemoryBroker, Service
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://foreign-labels"


class Order(BaseModel):
    sku: str


service = Service("shop", broker=URL)


@service.rpc
async def upper(request: str) -> str:
    return request.upper()


@service.rpc
async def quote(request: Order) -> Order:
    return Order(sku=request.sku * 2)


@service.rpc
async def length(request: bytes) -> int:
    return len(request)


ORDER, TWICE = b'{"sku":"a"}', b'{"sku":"aa"}'
JSON, TEXT = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
UTF_8 = {"Content-Type": "text/plain; charset=utf-8"}
# What is asked, with which headers, and the answer with its own.
CALLS: list[tuple[str, bytes, dict[str, str] | None, bytes, dict[str, str] | None]] = [
    ("upper", b"hey", TEXT, b"HEY", None),
    ("upper", b'"hey"', JSON, b'"HEY"', None),
    ("upper", b'"hey"', None, b'"HEY"', None),
    ("upper", b"hey", None, b'"HEY"', None),
    ("upper", "größer".encode("latin-1"), {"Content-Type": "text/plain; charset=latin-1"}, "GRÖSSER".encode(), UTF_8),
    ("quote", ORDER, {"Content-Type": "application/vnd.acme+json"}, TWICE, None),
    ("quote", ORDER, {"content-type": "text/json"}, TWICE, None),
    ("quote", ORDER, TEXT, TWICE, JSON),
    ("quote", ORDER, {"Content-Type": "application/octet-stream"}, TWICE, JSON),
    ("quote", ORDER, {"Content-Type": "image/png"}, TWICE, JSON),
    ("quote", ORDER, {"Content-Encoding": "gzip"}, TWICE, None),
    ("quote", gzip.compress(ORDER, mtime=0), {"Content-Encoding": "x-gzip", **JSON}, TWICE, None),
    ("quote", ORDER, {"Content-Encoding": "utf-8", **JSON}, TWICE, None),
    ("length", ORDER, JSON, b"11", None),
    ("length", b"\xff", {"Content-Type": "nonsense"}, b"1", JSON),
]


@pytest.mark.parametrize(("endpoint", "body", "headers", "answer", "said"), CALLS)
async def test_a_request_is_read_as_it_is_and_answered_in_kind(
    endpoint: str, body: bytes, headers: dict[str, str] | None, answer: bytes, said: dict[str, str] | None, until: Until
) -> None:
    replies: list[Delivery] = []
    async with service, MemoryBroker(URL) as broker:
        await broker.subscribe("mine", replies.append)
        await broker.publish(Message(f"shop.{endpoint}", body, headers, "mine"))
        await until(lambda: replies)
    assert [(reply.body, reply.headers) for reply in replies] == [(answer, said)]


# What a foreign service answers, to a request in this content type, and what its caller gets.
REPLIES: list[tuple[str | None, bytes, dict[str, str] | None, Any, Any]] = [
    (None, b"hey", TEXT, str, "hey"),
    (None, b"hey", None, str, "hey"),
    (None, b'"hey"', JSON, str, "hey"),
    (None, ORDER, TEXT, Order, Order(sku="a")),
    (None, ORDER, {"Content-Type": "application/vnd.acme+json"}, Order, Order(sku="a")),
    (None, ORDER, {"Content-Type": "application/octet-stream"}, Order, Order(sku="a")),
    (None, ORDER, {"Content-Encoding": "gzip"}, Order, Order(sku="a")),
    (None, ORDER, {"Content-Encoding": "utf-8", **JSON}, Order, Order(sku="a")),
    (None, gzip.compress(ORDER, mtime=0), {"Content-Encoding": "gzip"}, Order, Order(sku="a")),
    (None, ORDER, {"Content-Type": "image/png"}, bytes, ORDER),
    ("msgpack", ORDER, None, Order, Order(sku="a")),
    ("msgpack", b"\x81\xa3sku\xa1a", None, Order, Order(sku="a")),
    ("text", b"hey", None, str, "hey"),
]


@pytest.mark.parametrize(("asked", "body", "headers", "kind", "value"), REPLIES)
async def test_a_reply_is_read_as_it_is(
    asked: str | None, body: bytes, headers: dict[str, str] | None, kind: Any, value: Any
) -> None:
    async with MemoryBroker(URL) as broker, Client(URL) as client:

        async def answer(delivery: Delivery) -> None:
            await broker.send(Message(delivery.reply, body, headers))

        await broker.subscribe("their.thing", answer, queue="q")
        request: Any = "hey" if asked == "text" else Order(sku="a")
        assert await client.call("their.thing", request, kind, content_type=asked) == value


async def test_a_reply_that_is_valid_neither_way_is_told_with_both_reasons() -> None:
    async with MemoryBroker(URL) as broker, Client(URL) as client:

        async def answer(delivery: Delivery) -> None:
            await broker.send(Message(delivery.reply, b"<order/>", {"Content-Type": "text/xml"}))

        await broker.subscribe("their.thing", answer, queue="q")
        with pytest.raises(DecodeError, match=r"reply of their.thing: content type 'text/xml' is not .* Invalid JSON"):
            await client.call("their.thing", None, Order)
