"""Services of MassTransit on the same RabbitMQ, by the envelope and the exchanges that it documents."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from aiormq.abc import AbstractChannel
from eventmicro_rabbitmq import MassTransit, MassTransitMessage, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from eventmicro.client import Client
from eventmicro.context import Context, Side
from eventmicro.errors import EncodeError, UsageError
from eventmicro.handlers.depends import Depends
from eventmicro.service import Service
from eventmicro.topic import Topic
from tests.integration.rabbitmq.kit import Properties, Until, raw_channel

LABEL = "application/vnd.masstransit+json"


class Placed(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    order_id: str
    amount: float = 0


class Status(BaseModel):
    text: str


def enveloped(kind: str, message: Any, **members: Any) -> bytes:
    """As MassTransit 8 writes it, with System.Text.Json: what is null is there, too."""
    nothing = dict.fromkeys(("requestId", "correlationId", "initiatorId", "responseAddress", "faultAddress"))
    around = {
        "messageId": str(uuid4()),
        **nothing,
        "conversationId": str(uuid4()),
        "sourceAddress": "rabbitmq://localhost/HOST_Shop_bus_x?temporary=true",
        "destinationAddress": f"rabbitmq://localhost/{kind}",
        "messageType": [f"urn:message:{kind}", "urn:message:Shop:IEvent"],
        "message": message,
        "expirationTime": None,
        "sentTime": "2026-11-30T16:00:00.1234567Z",
        "headers": {"Tenant": "acme", "Retries": 2},
        "host": {"machineName": "HOST", "massTransitVersion": "8.5.12"},
    }
    return json.dumps({**around, **members}).encode()


async def publish(channel: AbstractChannel, exchange: str, body: bytes) -> None:
    """As its transport does: a fanout exchange of the type's name, no routing key, its label as property and header."""
    await channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
    properties = Properties(
        content_type=LABEL, delivery_mode=2, message_id=str(uuid4()), headers={"Content-Type": LABEL, "publishId": "1"}
    )
    await channel.basic_publish(body, exchange=exchange, properties=properties)


async def test_what_masstransit_publishes_is_handled(url: str, subject: str, until: Until) -> None:
    service, got = Service(subject, broker=url), list[Any]()
    kind = MassTransit(f"{subject}:Placed")
    topic = Topic(subject, Placed, codec=kind, exchange=kind.exchange)
    plain = Topic(f"{subject}.plain", dict[str, Any], exchange=kind.exchange)

    @service.subscribe(topic)
    async def keep(event: Placed, about: Annotated[MassTransitMessage, Depends(MassTransitMessage.of)]) -> None:
        got.append((event, about))

    others = Service(f"{subject}-others", broker=url, codecs=[MassTransit()])

    @others.subscribe(plain)
    async def by_its_label(
        event: dict[str, Any], about: Annotated[MassTransitMessage | None, Depends(MassTransitMessage.find)]
    ) -> None:
        got.append((event, about))

    async with service, others, raw_channel(url) as channel:
        await publish(channel, kind.exchange.name, enveloped(f"{subject}:Placed", {"orderId": "7", "amount": 0.1}))
        await until(lambda: len(got) == 2)
        await channel.exchange_delete(kind.exchange.name)
    events = [event for event, _ in got]
    assert Placed(order_id="7", amount=0.1) in events
    assert {"orderId": "7", "amount": 0.1} in events
    for _, about in got:
        assert about.types == (f"{subject}:Placed", "Shop:IEvent")
        assert (about.headers, about.host["machineName"]) == ({"Tenant": "acme", "Retries": 2}, "HOST")
        assert UUID(about.message_id)
        assert about.response_address is None


async def test_what_is_published_is_what_masstransit_reads(url: str, subject: str) -> None:
    """A consumer of it has a queue on an exchange of the queue's name, on that of the type."""
    kind = MassTransit(f"{subject}:Placed", "Shop:IEvent")
    async with raw_channel(url) as channel, Client(url) as client:
        for name in (kind.exchange.name, subject):
            await channel.exchange_declare(name, exchange_type="fanout", durable=True)
        await channel.queue_declare(subject, exclusive=True)
        await channel.exchange_bind(subject, kind.exchange.name)
        await channel.queue_bind(subject, subject)
        topic = Topic(subject, Placed, codec=kind, exchange=kind.exchange)
        await client.publish(topic, Placed(order_id="7"))
        await client.publish(topic, Placed(order_id="8"))
        got = [await channel.basic_get(subject, no_ack=True) for _ in range(2)]
        for name in (kind.exchange.name, subject):
            await channel.exchange_delete(name)
    first, second = (json.loads(each.body) for each in got)
    assert got[0].header.properties.content_type == LABEL
    assert first["message"] == {"orderId": "7", "amount": 0.0}
    assert first["messageType"] == [f"urn:message:{subject}:Placed", "urn:message:Shop:IEvent"]
    assert first["destinationAddress"] == f"exchange:{subject}:Placed"
    assert (first["headers"], "requestId" in first) == ({}, False)
    ids = {UUID(each[name]) for each in (first, second) for name in ("messageId", "conversationId")}
    assert len(ids) == 4


@pytest.mark.parametrize("address", ["rabbitmq://localhost:5672/vhost/{}?temporary=true", "queue:{}", "exchange:{}"])
async def test_a_request_of_masstransit_is_answered_where_it_says(url: str, subject: str, address: str) -> None:
    asks, answers = MassTransit(f"{subject}:Check"), MassTransit(f"{subject}:Status")
    service = Service(subject, broker=url)
    status = Topic("status", Status, codec=answers)

    @service.subscribe(Topic(subject, Placed, codec=asks, exchange=asks.exchange), queue=None)
    async def check(order: Placed, about: Annotated[MassTransitMessage, Depends(MassTransitMessage.of)]) -> None:
        await service.publish(about.answers(status), Status(text=f"{order.order_id} is on its way"))

    said = {"requestId": str(uuid4()), "conversationId": str(uuid4())}
    async with service, raw_channel(url) as channel:
        queue = f"{subject}_bus_1"
        await channel.exchange_declare(queue, exchange_type="fanout", auto_delete=True)
        await channel.queue_declare(queue, exclusive=True, auto_delete=True)
        await channel.queue_bind(queue, queue)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        await channel.basic_consume(queue, arrived.put, no_ack=True)
        request = enveloped(f"{subject}:Check", {"orderId": "7"}, responseAddress=address.format(queue), **said)
        await publish(channel, asks.exchange.name, request)
        answer = json.loads((await arrived.get()).body)
        await channel.exchange_delete(asks.exchange.name)
    assert answer["message"] == {"text": "7 is on its way"}
    assert answer["messageType"] == [f"urn:message:{subject}:Status"]
    assert {name: answer[name] for name in said} == said
    assert answer["destinationAddress"] == address.format(queue)


async def test_masstransit_answers_a_request_from_here(url: str, subject: str, until: Until) -> None:
    """Its consumer responds to the exchange that the request names, as to one of its own."""
    ids = {"7": uuid4()}
    asks = MassTransit(
        f"{subject}:Check", answers_to=f"{subject}-answers", request_id=lambda order: ids[order.order_id]
    )
    service, got = Service(subject, broker=url), list[Any]()
    where = RabbitExchange(f"{subject}-answers", type="fanout")

    @service.subscribe(Topic(f"{subject}.answers", Status, codec=MassTransit(), exchange=where), queue=None)
    async def answered(status: Status, about: Annotated[MassTransitMessage, Depends(MassTransitMessage.of)]) -> None:
        got.append((status.text, about.request_id))

    async with service, raw_channel(url) as channel:
        await channel.exchange_declare(asks.exchange.name, exchange_type="fanout", durable=True)
        await channel.queue_declare(subject, exclusive=True)
        await channel.queue_bind(subject, asks.exchange.name)
        await service.publish(Topic(subject, Placed, codec=asks, exchange=asks.exchange), Placed(order_id="7"))
        request = json.loads((await channel.basic_get(subject, no_ack=True)).body)
        answer = enveloped(f"{subject}:Status", {"text": "fine"}, requestId=request["requestId"])
        await publish(channel, request["responseAddress"].removeprefix("exchange:"), answer)
        await until(lambda: got)
        for name in (asks.exchange.name, where.name):
            await channel.exchange_delete(name)
    assert got == [("fine", str(ids["7"]))]


async def test_what_is_in_no_envelope_is_taken_as_it_is_and_a_wrong_one_is_a_dead_letter(
    url: str, subject: str, until: Until
) -> None:
    kind, got, letters = MassTransit(f"{subject}:Placed"), list[Any](), list[Any]()
    service = Service(subject, broker=url)
    topic = Topic(subject, Placed, codec=kind, exchange=kind.exchange)

    @service.subscribe(topic, dead_letter=f"{subject}.dead", queue=RabbitQueue(subject))
    async def keep(
        event: Placed, about: Annotated[MassTransitMessage | None, Depends(MassTransitMessage.find)]
    ) -> None:
        got.append((event.order_id, about))

    @service.subscribe(f"{subject}.dead")
    async def dead(letter: bytes) -> None:
        letters.append(letter)

    async with service, raw_channel(url) as channel, RabbitBroker(url):
        await channel.exchange_declare(kind.exchange.name, exchange_type="fanout", durable=True)
        raw = Properties(content_type="application/json")  # by its UseRawJsonSerializer
        await channel.basic_publish(b'{"orderId": "8"}', exchange=kind.exchange.name, properties=raw)
        bodies = [b"{", enveloped("x:Y", {"other": 1}), b"[]", b'{"messageType": 1, "message": 2}']
        for body in bodies:
            await publish(channel, kind.exchange.name, body)
        await until(lambda: len(letters) == len(bodies))
        await channel.exchange_delete(kind.exchange.name)
        for name in (subject, f"{subject}.dead", f"{subject}.dead.retry"):
            await channel.queue_delete(name)
    assert got == [("8", None)]
    assert sorted(letters) == sorted(bodies)


def test_what_cannot_be_is_refused_where_it_is_written() -> None:
    with pytest.raises(UsageError, match="namespace and name"):
        MassTransit("OrderPlaced")
    with pytest.raises(UsageError, match="exchange"):
        MassTransit("Shop:Ord€r")
    with pytest.raises(UsageError, match="write the type"):
        _ = MassTransit().exchange
    with pytest.raises(EncodeError, match="only reads"):
        MassTransit().encoder(Status)(Status(text=""))
    with pytest.raises(EncodeError, match="Status"):
        MassTransit("Shop:Status").encoder(Status)({"no": "status"})
    asks = MassTransit("Shop:Check", answers_to="here", request_id=lambda order: order.text)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="return a UUID"):
        asks.encoder(Status)(Status(text="7"))
    about = MassTransitMessage(types=())
    with pytest.raises(UsageError, match="no answer is awaited"):
        about.answers(Topic("status", Status, codec=MassTransit("Shop:Status")))
    with pytest.raises(UsageError, match="codec=MassTransit"):
        MassTransitMessage(types=(), response_address="queue:x").answers(Topic("status", Status))


async def test_what_is_said_of_a_message_is_asked_for_where_there_is_one() -> None:
    context = Context(Side.SUBSCRIBER, "orders")
    assert MassTransitMessage.find(context) is None
    with pytest.raises(UsageError, match="in no envelope of MassTransit"):
        MassTransitMessage.of(context)
