"""Clients that are not ours, nats-py and a bare socket, call our endpoints and read our topics; and the other way."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from pydantic import BaseModel

from eventmicro.client import Client
from eventmicro.errors import Conflict, DecodeError, InternalError, Unavailable
from eventmicro.service import Service
from eventmicro.topic import Topic
from eventmicro.wire import ERROR, ERROR_CODE
from tests.servers.nats import flush


class Order(BaseModel):
    sku: str
    quantity: int = 1


class Quote(BaseModel):
    total: float


class Shop:
    """A service with an endpoint and a subscriber, under a name of its own on the shared server."""

    def __init__(self) -> None:
        self.name = f"shop-{secrets.token_hex(4)}"
        self.service = Service(self.name)
        self.placed = Topic(f"{self.name}.placed", Order)
        self.events: asyncio.Queue[Order] = asyncio.Queue()
        self.service.rpc(self.quote)
        self.service.rpc(self.fail)
        self.service.subscribe(self.placed)(self.note)

    async def quote(self, order: Order) -> Quote:
        if order.sku == "gone":
            raise Conflict("sold out\nsince über yesterday", id="stock")
        return Quote(total=4.5 * order.quantity)

    async def fail(self, order: Order) -> Quote:
        raise RuntimeError("the password is hunter2")

    async def note(self, order: Order) -> None:
        self.events.put_nowait(order)


async def test_a_plain_nats_client_calls_an_endpoint(nats_url: str) -> None:
    shop = Shop()
    await shop.service.start(nats_url)
    plain = await nats.connect(nats_url)
    try:
        reply = await plain.request(f"{shop.name}.quote", b'{"sku": "a", "quantity": 2}', timeout=5)
        assert (reply.data, reply.headers) == (b'{"total":9.0}', None)

        reply = await plain.request(f"{shop.name}.quote", b'{"quantity": "many"}', timeout=5)
        assert reply.headers == {ERROR: "the request is not a valid Order", ERROR_CODE: "400"}
        body = json.loads(reply.data)
        assert {e["loc"][0] for e in body["errors"]} == {"sku", "quantity"}
        assert (body["id"], body["code"], body["status"]) == (f"{shop.name}.quote", 400, "Bad Request")

        reply = await plain.request(f"{shop.name}.quote", b'{"sku": "gone"}', timeout=5)
        assert reply.headers == {ERROR: "sold out since ?ber yesterday", ERROR_CODE: "409"}
        assert json.loads(reply.data)["detail"] == "sold out\nsince über yesterday"

        reply = await plain.request(f"{shop.name}.fail", b'{"sku": "a"}', timeout=5)
        assert reply.headers is not None
        assert reply.headers[ERROR_CODE] == "500"
        assert "hunter2" not in f"{reply.headers}{reply.data!r}"

        wrong_type = {"content-type": "application/x-yaml; charset=utf-8"}
        reply = await plain.request(f"{shop.name}.quote", b"sku: a", timeout=5, headers=wrong_type)
        assert reply.headers is not None
        assert reply.headers[ERROR_CODE] == "415"

        with pytest.raises(NoRespondersError):
            await plain.request(f"{shop.name}.nothing", b"{}", timeout=5)
    finally:
        await plain.close()
        await shop.service.stop()


async def test_a_plain_nats_client_reads_and_writes_a_topic(nats_url: str) -> None:
    shop = Shop()
    await shop.service.start(nats_url)
    plain = await nats.connect(nats_url)
    try:
        read = await plain.subscribe(f"{shop.name}.>")
        await flush(plain)
        await shop.service.publish(shop.placed, Order(sku="a"), metadata={"traceparent": "00-1"})
        message = await read.next_msg(timeout=5)
        assert message.subject == f"{shop.name}.placed"
        assert (message.data, message.headers) == (b'{"sku":"a","quantity":1}', {"traceparent": "00-1"})
        assert await shop.events.get() == Order(sku="a")

        await plain.publish(f"{shop.name}.placed", b"no json")
        await plain.publish(f"{shop.name}.placed", b'{"sku": "b", "new": true}')
        assert await shop.events.get() == Order(sku="b")
    finally:
        await plain.close()
        await shop.service.stop()


async def test_a_plain_json_rpc_client_calls_an_endpoint(nats_url: str) -> None:
    shop = Shop()
    await shop.service.start(nats_url)
    plain = await nats.connect(nats_url)

    async def call(form: dict[str, Any]) -> tuple[Any, Any]:
        headers = {"Content-Type": "application/json-rpc"}
        reply = await plain.request(f"{shop.name}.quote", json.dumps(form).encode(), timeout=5, headers=headers)
        return json.loads(reply.data), reply.headers

    new = {"jsonrpc": "2.0", "id": "a", "method": f"{shop.name}.quote", "params": {"sku": "a", "quantity": 2}}
    try:
        assert await call(new) == ({"jsonrpc": "2.0", "id": "a", "result": {"total": 9.0}}, None)
        old = {"id": 7, "method": "quote", "params": [{"sku": "a"}]}
        assert await call(old) == ({"id": 7, "result": {"total": 4.5}, "error": None}, None)

        told, headers = await call({**new, "id": None, "params": {"sku": "gone"}})
        assert (told["id"], told["error"]["code"], told["error"]["message"]) == (
            None,
            409,
            "sold out\nsince über yesterday",
        )
        assert (headers[ERROR_CODE], headers["Content-Type"]) == ("409", "application/json-rpc")
        told, headers = await call({**new, "method": "order"})
        assert (told["error"]["code"], headers[ERROR_CODE]) == (-32601, "404")
        told, headers = await call({**new, "params": {}})
        assert (told["error"]["code"], headers[ERROR_CODE]) == (-32602, "400")
        assert told["error"]["data"]["errors"][0]["loc"] == ["sku"]
    finally:
        await plain.close()
        await shop.service.stop()


async def test_our_client_calls_a_plain_json_rpc_server(nats_url: str) -> None:
    name = f"plain-{secrets.token_hex(4)}"
    plain = await nats.connect(nats_url)

    async def answer(message: Msg) -> None:
        request = json.loads(message.data)
        (order,) = request["params"]
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"], "result": {"total": order["quantity"]}}
        if order["sku"] == "gone":
            reply = {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32001, "message": "sold out"}}
        await message.respond(json.dumps(reply).encode())

    await plain.subscribe(f"{name}.quote", "q", answer)
    await plain.flush()
    try:
        async with Client(nats_url, content_type="json-rpc") as client:
            assert await client.call(f"{name}.quote", Order(sku="a", quantity=3), Quote) == Quote(total=3)
            with pytest.raises(InternalError, match="sold out"):
                await client.call(f"{name}.quote", Order(sku="gone"), Quote)
    finally:
        await plain.close()


@pytest.mark.parametrize("content_type", ["msgpack", "cbor", "bson", "bson-rpc"])
async def test_bodies_that_are_no_text_travel_as_they_are(content_type: str, nats_url: str) -> None:
    shop = Shop()
    async with Client(nats_url, content_type=content_type, compression="zstd") as client:
        await shop.service.start(nats_url)
        try:
            order = Order(sku="ä" * 10_000, quantity=2)
            assert await client.call(f"{shop.name}.quote", order, Quote) == Quote(total=9)
            with pytest.raises(Conflict, match="sold out"):
                await client.call(f"{shop.name}.quote", Order(sku="gone"), Quote)
            await client.publish(shop.placed, order)
            assert await shop.events.get() == order
        finally:
            await shop.service.stop()


async def test_our_client_calls_a_plain_nats_responder(nats_url: str) -> None:
    name = f"plain-{secrets.token_hex(4)}"
    plain = await nats.connect(nats_url)

    async def answer(message: Msg) -> None:
        kind = json.loads(message.data)["sku"]
        headers = {"conflict": {ERROR_CODE: "409", ERROR: "sold out"}, "odd": {ERROR: "?", ERROR_CODE: "many"}}
        bodies = {"fine": b'{"total": 1.5}', "wrong": b"no json"}
        await plain.publish(message.reply, bodies.get(kind, b""), headers=headers.get(kind))

    await plain.subscribe(f"{name}.quote", queue="q", cb=answer)
    await flush(plain)
    try:
        async with Client(nats_url) as client:

            async def quote(sku: str) -> Quote:
                return await client.call(f"{name}.quote", Order(sku=sku), Quote)

            assert await quote("fine") == Quote(total=1.5)
            with pytest.raises(Conflict, match="sold out") as conflict:
                await quote("conflict")
            assert (conflict.value.id, conflict.value.code) == (f"{name}.quote", 409)
            with pytest.raises(InternalError):
                await quote("odd")
            with pytest.raises(DecodeError, match=f"the reply of {name}.quote is not a valid Quote"):
                await quote("wrong")
            with pytest.raises(Unavailable, match=r"is the service .* running"):
                await client.call(f"{name}.other", None, Quote)
    finally:
        await plain.close()


async def test_a_bare_socket_speaks_with_an_endpoint(nats_url: str) -> None:
    """What any language's client puts on the wire."""
    shop = Shop()
    await shop.service.start(nats_url)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(nats_url.rpartition(":")[2]))

    async def line() -> bytes:
        while (text := await reader.readline()).startswith((b"INFO", b"PING", b"PONG", b"+OK")):
            pass
        return text

    try:
        writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB mine.* 1\r\n')
        writer.write(f"PUB {shop.name}.quote mine.1 11\r\n".encode() + b'{"sku":"a"}\r\n')
        assert await line() == b"MSG mine.1 1 13\r\n"
        assert await line() == b'{"total":4.5}\r\n'
        writer.write(f"PUB {shop.name}.quote mine.2 0\r\n\r\n".encode())
        head = await line()
        assert head.startswith(b"HMSG mine.2 1 ")
        text = await reader.readexactly(int(head.split()[-1]))
        assert text.startswith(b"NATS/1.0\r\nNats-Service-Error: the request is not a valid Order\r\n")
        assert json.loads(text.partition(b"\r\n\r\n")[2])["code"] == 400
    finally:
        writer.close()
        await writer.wait_closed()
        await shop.service.stop()


async def test_a_caller_that_gives_up_is_seen_on_the_cancel_subject(nats_url: str) -> None:
    name = f"silent-{secrets.token_hex(4)}"
    plain = await nats.connect(nats_url)
    seen: dict[str, Any] = {}
    cancelled = asyncio.Event()

    async def take(message: Msg) -> None:
        seen["reply"] = message.reply

    async def cancel(message: Msg) -> None:
        seen["cancel"] = message.data.decode()
        cancelled.set()

    await plain.subscribe(f"{name}.endpoint", cb=take)
    await plain.subscribe(f"{name}.$cancel", cb=cancel)
    await flush(plain)
    try:
        async with Client(nats_url) as client:
            with pytest.raises(TimeoutError, match=rf"{name}.endpoint"):
                await client.call(f"{name}.endpoint", 1, timeout=0.05)
            await cancelled.wait()
            assert seen["cancel"] == seen["reply"]
            assert 1 <= int(seen["reply"].rpartition(".")[2].removesuffix("ms")) <= 50
    finally:
        await plain.close()
