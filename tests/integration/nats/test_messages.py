"""NatsMessage: what NATS tells of a message, over core NATS and JetStream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import nats
import pytest
from eventmicro_nats import NatsMessage

from eventmicro import Batch, Client, Context, Depends, Retry, Service
from eventmicro.errors import UsageError
from tests.integration.jetstream.kit import Until, administrator, jetstream, work
from tests.servers import NatsServer

RAW = b"NATS/1.0\r\nTag: a\r\nOne: 1\r\nTag: b\r\ntag: c\r\nNats-Msg-Id: ev-1\r\n\r\n"


async def publish_raw(port: int, subject: str, body: bytes = b"7", reply: str = "", raw: bytes = RAW) -> None:
    """As a client that repeats headers: nats-py knows one value a name."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    words = f"HPUB {subject} {reply} {len(raw)} {len(raw) + len(body)}\r\n".encode()
    await client._send_command(words + raw + body + b"\r\n")
    await client.flush()
    await client.close()


async def test_a_message_of_core_nats_shows_all_that_it_had(until: Until) -> None:
    service, seen = Service("orders"), list[NatsMessage]()

    @service.subscribe("things.*")
    async def place(number: int, message: Annotated[NatsMessage, Depends(NatsMessage.of)]) -> None:
        seen.append(message)

    @service.rpc
    async def double(number: int, context: Context) -> str:
        return NatsMessage.of(context).reply

    with NatsServer() as server:
        await service.start(server.url)
        async with Client(server.url) as client:
            await publish_raw(server.port, "things.placed", reply="answers.here")
            await client.publish("things.plain", 8)
            await until(lambda: len(seen) == 2)
            assert (await client.call("orders.double", 1, str)).startswith("_INBOX.")
        await service.stop()
    first, plain = seen
    assert (first.subject, first.reply) == ("things.placed", "answers.here")
    assert first.headers == (("Tag", "a"), ("One", "1"), ("Tag", "b"), ("tag", "c"), ("Nats-Msg-Id", "ev-1"))
    assert (first.values("TAG"), first.values("none")) == (["a", "b", "c"], [])
    assert plain == NatsMessage(subject="things.plain", reply="", headers=())
    assert (first.stream, first.timestamp, first.delivered) == (None, None, None)


async def test_a_message_of_jetstream_shows_its_place(until: Until) -> None:
    service, seen = Service("orders"), list[NatsMessage]()

    @service.subscribe("orders.placed", retry=Retry(attempts=3, backoff=0, longest=0))
    async def place(number: int, context: Context) -> None:
        seen.append(NatsMessage.of(context))
        if len(seen) == 1:
            raise ValueError("once")

    with NatsServer('jetstream: { store_dir: "streams", domain: "hub" }') as server:
        await service.start(server.jetstream_url)
        before = datetime.now(UTC)
        async with Client(server.jetstream_url) as client:
            await client.publish("orders.placed", 7, id="ev-1")
        await until(lambda: len(seen) == 2)
        await service.stop()
    first, again = seen
    assert (first.subject, first.stream, first.consumer) == ("orders.placed", "EVENTS", "orders=place")
    assert (first.stream_sequence, first.consumer_sequence, first.delivered, first.pending) == (1, 1, 1, 0)
    assert (again.stream_sequence, again.consumer_sequence, again.delivered) == (1, 2, 2)
    assert first.timestamp is not None
    assert abs(first.timestamp - before) < timedelta(minutes=1)
    assert first.timestamp == again.timestamp
    assert first.headers == (("Nats-Msg-Id", "ev-1"),)


async def test_a_batch_has_all_of_its_messages(until: Until) -> None:
    service, seen = Service("orders"), list[Any]()

    @service.subscribe("orders.placed", batch=Batch(size=10))
    async def place(numbers: list[int], context: Context) -> None:
        with pytest.raises(UsageError, match=r"NatsMessage\.all_of"):
            NatsMessage.of(context)
        seen.extend(zip(numbers, NatsMessage.all_of(context), strict=True))

    with NatsServer(jetstream=True) as server:
        await service.start(server.jetstream_url)
        async with Client(server.jetstream_url) as client:
            for number in range(1, 4):
                await client.publish("orders.placed", number)
        await until(lambda: len(seen) == 3)
        await service.stop()
    assert [(number, message.stream_sequence) for number, message in seen] == [(1, 1), (2, 2), (3, 3)]


async def test_what_came_over_another_broker_is_named() -> None:
    service, said = Service("orders"), list[str]()

    @service.rpc
    async def look(number: int, context: Context) -> None:
        for read in (NatsMessage.of, NatsMessage.all_of):
            with pytest.raises(UsageError) as caught:
                read(context)
            said.append(str(caught.value))

    await service.start("memory://nats-messages")
    async with Client("memory://nats-messages") as client:
        await client.call("orders.look", 1)
    await service.stop()
    assert said == ["this came over another broker than NATS: as Delivery of eventmicro"] * 2
    with pytest.raises(UsageError, match="no message came here"):
        NatsMessage.of(Context(side="client"))  # type: ignore[arg-type]


async def test_a_dead_letter_keeps_all_values_of_a_header(until: Until) -> None:
    service = Service("orders")

    @service.subscribe("orders.placed", retry=Retry(attempts=1))
    async def place(number: int) -> None:
        raise ValueError("never")

    with NatsServer(jetstream=True) as server:
        await service.start(server.jetstream_url)
        async with jetstream(server) as broker, administrator(server.port) as admin:
            dead = await work(broker, "dead.orders.place", "dead.orders.place")
            await publish_raw(server.port, "orders.placed")
            await until(lambda: dead.deliveries)
            assert dead.deliveries[0].headers is not None
            raw: bytes = dead.deliveries[0].raw_headers  # type: ignore[attr-defined]
            lines = raw.decode().split("\r\n")
            assert [line for line in lines if line.lower().startswith(("tag", "one"))] == [
                "Tag: a",
                "Tag: b",
                "One: 1",
                "tag: c",
            ]
            assert admin
        await service.stop()
