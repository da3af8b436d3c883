"""Calls between us and others over RabbitMQ: whoever writes reply_to and correlation_id is answered, and answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import AbstractChannel, DeliveredMessage
from eventmicro_rabbitmq import RabbitBroker, RabbitMessage
from eventmicro_rabbitmq.calls.addresses import ReplyAddress, is_direct_address, reply_of
from pydantic import BaseModel

from eventmicro import Client, Context, Depends, NotFound, Service, Unavailable
from eventmicro.message import Message
from eventmicro.rpc.replies import is_nobody
from tests.integration.rabbitmq.kit import Properties, Until, raw_channel

DIRECT = "amq.rabbitmq.reply-to"


class Order(BaseModel):
    sku: str
    quantity: int = 1


class Packet(BaseModel):
    """What a client of NestJS sends."""

    pattern: str
    data: Order
    id: str


@asynccontextmanager
async def quoting(url: str, name: str) -> AsyncIterator[list[RabbitMessage]]:
    """A service that is called by others, and what it has seen of each request."""
    service, seen = Service(name), list[RabbitMessage]()

    @service.rpc
    async def quote(order: Order, message: Annotated[RabbitMessage, Depends(RabbitMessage.of)]) -> dict[str, float]:
        seen.append(message)
        if order.sku == "none":
            raise NotFound("no such sku")
        return {"total": 4.2 * order.quantity}

    @service.rpc
    async def left(context: Context) -> float | None:
        return context.remaining()

    await service.start(url)
    try:
        yield seen
    finally:
        await service.stop()


# How others address an endpoint: by its queue's name, by the exchange for calls, and by that for events.
WAYS = ["", "events.calls", "events"]


@pytest.mark.parametrize("exchange", WAYS)
async def test_a_client_of_aio_pika_is_answered(url: str, subject: str, exchange: str) -> None:
    answers: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with quoting(url, subject) as seen, await aio_pika.connect(url.partition("?")[0]) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.consume(answers.put, no_ack=True)
        to = await channel.get_exchange(exchange) if exchange else channel.default_exchange
        for number, order in enumerate([{"sku": "tea", "quantity": 2}, {"sku": "none"}, {}]):
            asked = aio_pika.Message(
                json.dumps(order).encode(),
                content_type="application/json",
                reply_to=queue.name,
                correlation_id=f"call-{number}",
                app_id="theirs",
            )
            await to.publish(asked, f"{subject}.quote")
        got = {(answer := await answers.get()).correlation_id: answer for _ in range(3)}
    assert json.loads(got["call-0"].body) == {"total": 8.4}
    assert got["call-0"].content_type == "application/json"
    assert got["call-0"].headers == {}
    assert got["call-1"].headers["Nats-Service-Error-Code"] == "404"
    assert json.loads(got["call-2"].body)["errors"][0]["loc"] == ["sku"]
    assert (seen[0].app_id, seen[0].exchange, seen[0].correlation_id) == ("theirs", exchange, "call-0")


async def test_a_direct_reply_is_one(url: str, subject: str) -> None:
    """As in RabbitMQ's own tutorials, and in NestJS: without a queue for replies."""
    answers: asyncio.Queue[Any] = asyncio.Queue()
    async with quoting(url, subject) as seen, raw_channel(url) as channel:
        await channel.basic_consume(DIRECT, answers.put, no_ack=True)
        properties = Properties(reply_to=DIRECT, correlation_id="one")
        await channel.basic_publish(b'{"sku": "tea"}', routing_key=f"{subject}.quote", properties=properties)
        answer = await answers.get()
    assert json.loads(answer.body) == {"total": 4.2}
    assert answer.header.properties.correlation_id == "one"
    assert (seen[0].reply_to or "").startswith(f"{DIRECT}.")


async def test_a_client_of_kombu_is_answered_and_reads_the_answer_by_its_label(url: str, subject: str) -> None:
    async with quoting(url, subject):
        answer = await asyncio.to_thread(_call_by_kombu, url.partition("?")[0], f"{subject}.quote")
    assert answer == {"total": 8.4}


def _call_by_kombu(url: str, queue: str) -> Any:
    import kombu

    answers: list[Any] = []
    with kombu.Connection(url) as connection:
        channel: Any = connection.channel()
        own = kombu.Queue(f"{queue}.answers", exclusive=True, auto_delete=True)
        take = [lambda body, _: answers.append(body)]
        with kombu.Consumer(channel, [own], callbacks=take, accept=["json"], no_ack=True):
            kombu.Producer(channel).publish(
                {"sku": "tea", "quantity": 2},
                routing_key=queue,
                serializer="json",
                reply_to=own.name,
                correlation_id="kombu-1",
                headers={"nameko.call_id_stack": ["web.1", "orders.2"]},
            )
            connection.drain_events(timeout=20)
    return answers[0]


async def test_a_request_of_faststream_is_answered(url: str, subject: str) -> None:
    from faststream.rabbit import RabbitBroker as FastStream

    async with quoting(url, subject), FastStream(url.partition("?")[0], logger=None) as broker:
        await broker.start()
        reply = await broker.request({"sku": "tea", "quantity": 2}, f"{subject}.quote", timeout=20)
        assert await reply.decode() == {"total": 8.4}


async def test_nestjs_and_its_envelope(url: str, subject: str) -> None:
    """Its client sends to a queue `{pattern, data, id}` and takes `{response, isDisposed, err}`, by the same id."""
    service = Service(subject)

    @service.rpc
    async def nest(packet: Packet) -> dict[str, Any]:
        return {"response": {"total": 4.2 * packet.data.quantity}, "isDisposed": True, "id": packet.id}

    answers: asyncio.Queue[Any] = asyncio.Queue()
    await service.start(url)
    async with raw_channel(url) as channel:
        await channel.basic_consume(DIRECT, answers.put, no_ack=True)
        packet = {"pattern": "quote", "data": {"sku": "tea"}, "id": "a1b2"}
        properties = Properties(reply_to=DIRECT, correlation_id="a1b2")
        await channel.basic_publish(json.dumps(packet).encode(), routing_key=f"{subject}.nest", properties=properties)
        answer = await answers.get()
    await service.stop()
    assert json.loads(answer.body) == {"response": {"total": 4.2}, "isDisposed": True, "id": "a1b2"}
    assert answer.header.properties.correlation_id == "a1b2"


async def test_the_expiration_of_a_foreign_request_is_its_time(url: str, subject: str) -> None:
    async with quoting(url, subject), raw_channel(url) as channel:
        answers: asyncio.Queue[Any] = asyncio.Queue()
        await channel.basic_consume(DIRECT, answers.put, no_ack=True)
        left = {}
        for expiration in (None, "30000"):
            properties = Properties(reply_to=DIRECT, correlation_id="x", expiration=expiration)
            await channel.basic_publish(b"", routing_key=f"{subject}.left", properties=properties)
            left[expiration] = json.loads((await answers.get()).body)
    assert left[None] is None
    assert 0 < left["30000"] <= 30


@pytest.mark.parametrize(
    "address",
    [
        f"{DIRECT}.xyz.==",
        f"{DIRECT}.g1h2AA5yZXBseUA.key",
        f"{DIRECT}.g3cBYQ==.key",  # an atom, and no process
        f"{DIRECT}.",
        DIRECT + "x",
    ],
)
async def test_an_address_that_is_none_costs_no_connection(
    url: str, subject: str, until: Until, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ ends the connection of whoever publishes to most of them."""
    async with quoting(url, subject) as seen, raw_channel(url) as channel, Client(url) as client:
        properties = Properties(reply_to=address, correlation_id="one")
        await channel.basic_publish(b'{"sku": "tea"}', routing_key=f"{subject}.quote", properties=properties)
        await until(lambda: seen)
        assert await client.call(f"{subject}.quote", Order(sku="tea"), dict[str, float]) == {"total": 4.2}
    assert "connection lost" not in caplog.text


async def test_the_addresses_that_rabbitmq_makes_are_known(url: str) -> None:
    async with raw_channel(url) as channel:
        address = await _made_by_rabbitmq(channel)
    assert is_direct_address(address)
    process, _, key = address.removeprefix(f"{DIRECT}.").partition(".")
    assert not is_direct_address(f"{DIRECT}.{process[:-4]}.{key}")


async def _made_by_rabbitmq(channel: AbstractChannel) -> str:
    await channel.basic_consume(DIRECT, lambda _: asyncio.sleep(0), no_ack=True)
    queue = (await channel.queue_declare(exclusive=True)).queue or ""
    await channel.basic_publish(b"", routing_key=queue, properties=Properties(reply_to=DIRECT))
    while not (message := await channel.basic_get(queue, no_ack=True)).header:
        pass
    return str(message.header.properties.reply_to)


def test_a_reply_is_awaited_where_a_request_says() -> None:
    assert reply_of(Properties()) == ""
    assert reply_of(Properties(correlation_id="one")) == ""
    plain = reply_of(Properties(reply_to="answers", correlation_id="one"))
    assert isinstance(plain, ReplyAddress)
    assert (plain, plain.queue, plain.correlation_id) == ("one", "answers", "one")
    nameless = reply_of(Properties(reply_to="answers", expiration="500"))
    assert nameless == "answers.500ms"
    ours = reply_of(Properties(reply_to="answers", correlation_id="_INBOX.a.1.1500ms", expiration="1500"))
    assert ours == "_INBOX.a.1.1500ms"
    inbox = reply_of(Properties(reply_to="_INBOX.a.1", correlation_id="_INBOX.a.1"))
    assert not isinstance(inbox, ReplyAddress), "a subject, of one of us"
    queue = reply_of(Properties(reply_to="a.b", correlation_id="a.b"))
    assert isinstance(queue, ReplyAddress), "a queue, of one who has named its correlation so"
    assert queue.queue == "a.b"


async def test_we_call_a_server_of_aio_pika(url: str, subject: str) -> None:
    """Its queue is bound to the exchange for calls; what it answers with is any server's: reply_to, correlation_id."""
    async with await aio_pika.connect(url.partition("?")[0]) as connection, Client(url) as client:
        channel = await connection.channel()
        calls = await channel.declare_exchange("events.calls", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(f"{subject}.theirs", exclusive=True)
        await queue.bind(calls, f"{subject}.theirs")
        asked: list[AbstractIncomingMessage] = []

        async def answer(message: AbstractIncomingMessage) -> None:
            asked.append(message)
            assert message.reply_to is not None
            body = json.dumps({"got": json.loads(message.body)}).encode()
            reply = aio_pika.Message(body, correlation_id=message.correlation_id, content_type="application/json")
            await channel.default_exchange.publish(reply, message.reply_to, mandatory=False)

        await queue.consume(answer, no_ack=True)
        reply = await client.call(f"{subject}.theirs", {"sku": "tea"}, dict[str, Any], timeout=20)
    assert reply == {"got": {"sku": "tea"}}
    assert asked[0].content_type == "application/json"
    assert int(asked[0].expiration * 1000 if isinstance(asked[0].expiration, float) else 1) > 0
    assert asked[0].headers == {}


async def test_where_a_queue_of_that_name_is_not_bound_the_error_says_how_that_is_done(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, Client(url) as client:
        queue = f"{subject}.theirs"
        await channel.queue_declare(queue)
        with pytest.raises(Unavailable) as nobody:
            await client.call(queue, timeout=20)
        text, bind = str(nobody.value), f"source=events.calls destination={queue} routing_key={queue}"
        assert f"the queue '{queue}' is there, with 0 consumers, and no call gets to it" in text
        assert bind in text
        assert is_nobody(nobody.value)
        with pytest.raises(Unavailable, match=f"is the service '{subject}' running"):
            await client.call(f"{subject}.other", timeout=20)

        async def answer(message: DeliveredMessage) -> None:
            about = message.header.properties
            reply = Properties(correlation_id=about.correlation_id)
            await channel.basic_publish(b"7", routing_key=str(about.reply_to), properties=reply)

        await channel.basic_consume(queue, answer, no_ack=True)
        await channel.queue_bind(queue, "events.calls", queue)
        assert await client.call(queue, None, int, timeout=20) == 7
        await channel.queue_delete(queue)


async def test_a_plain_client_of_a_stream_that_goes_stops_it(url: str, subject: str, until: Until) -> None:
    """Where its queue is gone RabbitMQ says so, and where its connection is, of a direct reply, its time ends it."""
    service, ended = Service(subject), list[int]()

    @service.rpc
    async def watch() -> AsyncIterator[int]:
        try:
            for number in range(10**9):
                yield number
                await asyncio.sleep(0.001)
        finally:
            ended.append(1)

    await service.start(url)
    async with raw_channel(url) as channel:
        queue = (await channel.queue_declare(exclusive=True)).queue or ""
        got: list[Any] = []

        async def take(message: Any) -> None:
            got.append(message.body)

        await channel.basic_consume(queue, take, no_ack=True)
        properties = Properties(reply_to=queue, correlation_id="w")
        await channel.basic_publish(b"", routing_key=f"{subject}.watch", properties=properties)
        await until(lambda: len(got) > 5)
        await channel.queue_delete(queue)
        await until(lambda: ended)
    await service.stop()
    assert got[:3] == [b"0", b"1", b"2"]


async def test_what_is_sent_elsewhere_names_its_answer_as_a_subject(url: str, subject: str, until: Until) -> None:
    """A reply subject that is no inbox of the sender's is one all the same."""
    got: list[bytes] = []
    async with RabbitBroker(url) as one, RabbitBroker(url) as other:
        inbox = one.inbox()
        await one.subscribe(f"{inbox}.>", lambda delivery: got.append(delivery.body))

        def answer(request: Any) -> Any:
            return other.send(Message(request.reply, b"answer"))

        await other.subscribe(f"{subject}.ask", answer, queue="q")
        await other.flush()
        async with RabbitBroker(url) as third:
            await third.send(Message(f"{subject}.ask", b"", reply=f"{inbox}.7"))
            await until(lambda: got == [b"answer"])


async def test_who_has_named_its_correlation_as_its_queue_is_answered(url: str, subject: str, until: Until) -> None:
    answers = list[bytes]()
    async with quoting(url, subject), raw_channel(url) as channel:
        queue = (await channel.queue_declare(f"{subject}.answers", exclusive=True)).queue or ""

        async def take(message: Any) -> None:
            answers.append(message.body)

        await channel.basic_consume(queue, take, no_ack=True)
        properties = Properties(reply_to=queue, correlation_id=queue)
        await channel.basic_publish(b'{"sku": "tea"}', routing_key=f"{subject}.quote", properties=properties)
        await until(lambda: answers)
    assert json.loads(answers[0]) == {"total": 4.2}
