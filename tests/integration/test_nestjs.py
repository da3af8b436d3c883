"""NestJS's own clients and servers over RabbitMQ, NATS and Kafka: its packets are models, both ways."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Generic, TypeVar

import pytest
from eventmicro_rabbitmq import RabbitExchange, RabbitQueue
from pydantic import BaseModel, ConfigDict, Field

from eventmicro import Client, Context, Service, Topic
from tests.integration.rabbitmq.kit import raw_channel
from tests.servers.npm import NESTJS, run_script

T = TypeVar("T")
pytestmark = pytest.mark.timeout_seconds(120)


class Packet(BaseModel, Generic[T]):
    """What its clients send; an event has no id."""

    pattern: str
    data: T
    id: str | None = None


class Answer(BaseModel, Generic[T]):
    """What its servers answer."""

    model_config = ConfigDict(populate_by_name=True)
    response: T
    is_disposed: bool = Field(default=True, alias="isDisposed")
    id: str | None = None


class Order(BaseModel):
    sku: str
    quantity: int = 1


# A client that calls and publishes, and a server that tells what it gets; it ends when it has got an event.
SCRIPT = """
import 'reflect-metadata';
import { Logger } from '@nestjs/common';
import { ClientKafka, ClientNats, ClientRMQ, ServerKafka, ServerNats, ServerRMQ } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
Logger.overrideLogger(false);
const [kind, url, subject] = process.argv.slice(2);
const say = (what, value) => console.log(JSON.stringify([what, value]));
let client, server, quote, placed, connected = async () => {};
if (kind === 'rabbitmq') {
  const queue = name => ({ urls: [url], queue: `${subject}.${name}`, noAssert: true });
  client = new ClientRMQ(queue('quote'));
  placed = new ClientRMQ(queue('placed'));
  const name = `${subject}-nest.price`, queueOptions = { durable: true, autoDelete: true };
  server = new ServerRMQ({ urls: [url], queue: name, queueOptions,
                           exchange: 'events.calls', exchangeType: 'topic', routingKey: name });
} else if (kind === 'nats') {
  client = placed = new ClientNats({ servers: url });
  server = new ServerNats({ servers: url, queue: 'nest' });
} else {
  const settings = { client: { brokers: [url], logLevel: 0 }, consumer: { groupId: subject },
                     subscribe: { fromBeginning: true } };
  client = new ClientKafka(settings);
  placed = client;
  server = new ServerKafka(settings);
  client.subscribeToResponseOf(`${subject}.quote`);
}
const done = new Promise(resolve => {
  const heard = async data => { say('heard', data); resolve(); };
  server.addHandler(kind === 'rabbitmq' ? 'told' : `${subject}.told`, heard, true);
});
const price = kind === 'rabbitmq' ? 'price' : `${subject}-nest.price`;
if (kind !== 'kafka') server.addHandler(price, async data => ({ total: 4.2 * data.quantity }));
await new Promise((resolve, reject) => server.listen(error => error ? reject(error) : resolve()));
await client.connect();
const sent = kind === 'rabbitmq' ? 'quote' : `${subject}.quote`;
say('quoted', await firstValueFrom(client.send(sent, { sku: 'tea', quantity: 2 })));
const event = kind === 'rabbitmq' ? 'placed' : `${subject}.placed`;
await firstValueFrom(placed.emit(event, { sku: 'tea' }), { defaultValue: 0 });
say('ready', null);
await done;
process.exit(0);
"""


async def run_nest(kind: str, url: str, subject: str) -> dict[str, Any]:
    """Run it; what it said, by what it was about."""
    printed = await asyncio.to_thread(run_script, SCRIPT, kind, url, subject, packages=NESTJS)
    return dict(map(json.loads, printed.splitlines()))


async def until_told(told: asyncio.Task[Any], tell: Any) -> Any:
    """Tell it again and again, as nobody says when it listens; what it said in the end."""
    while not told.done():
        await tell()
        await asyncio.wait([told], timeout=0.1)
    return told.result()


async def test_over_rabbitmq(rabbitmq_url: str, subject: str) -> None:
    service, got = Service(subject, broker=f"{rabbitmq_url}?new_queue_wait=0"), list[Any]()
    by_queue = RabbitExchange("")

    @service.rpc
    async def quote(packet: Packet[Order]) -> dict[str, float]:
        return {"total": 4.2 * packet.data.quantity}

    placed = Topic(f"{subject}.placed", Packet[Order], exchange=by_queue)

    @service.subscribe(placed, queue=RabbitQueue(f"{subject}.placed"))
    async def place(packet: Packet[Order]) -> None:
        got.append(packet)

    told = Topic(f"{subject}-nest.price", Packet[Order], exchange=by_queue)
    asked = Packet[Order](pattern="price", data=Order(sku="tea", quantity=2), id="a1")
    async with service, Client(rabbitmq_url) as client:
        running = asyncio.create_task(run_nest("rabbitmq", rabbitmq_url, subject))
        while not got and not running.done():
            await asyncio.wait([running], timeout=0.05)
        answer = await client.call(f"{subject}-nest.price", asked, Answer[dict[str, float]], timeout=20)
        said = await until_told(
            running, lambda: client.publish(told, Packet[Order](pattern="told", data=Order(sku="salt")))
        )
    async with raw_channel(rabbitmq_url) as channel:
        for queue in (f"{subject}.placed", f"dead.{subject}.{subject}.placed"):
            await channel.queue_delete(queue)
    assert said == {"quoted": {"total": 8.4}, "heard": {"sku": "salt", "quantity": 1}, "ready": None}
    assert got == [Packet[Order](pattern="placed", data=Order(sku="tea"))]
    assert answer == Answer[dict[str, float]](response={"total": 8.4})  # whose it is says its correlation_id


async def test_over_nats(nats_url: str, subject: str) -> None:
    service, got = Service(subject, broker=nats_url), list[Any]()

    @service.rpc
    async def quote(packet: Packet[Order]) -> Answer[dict[str, float]]:
        return Answer[dict[str, float]](response={"total": 4.2 * packet.data.quantity}, id=packet.id)

    @service.subscribe(Topic(f"{subject}.placed", Packet[Order]))
    async def place(packet: Packet[Order]) -> None:
        got.append(packet)

    asked = Packet[Order](pattern=f"{subject}-nest.price", data=Order(sku="tea", quantity=2), id="a1")
    async with service, Client(nats_url) as client:
        running = asyncio.create_task(run_nest("nats", nats_url, subject))
        while not got and not running.done():
            await asyncio.wait([running], timeout=0.05)
        answer = await client.call(f"{subject}-nest.price", asked, Answer[dict[str, float]], timeout=20)
        said = await until_told(running, lambda: client.publish(f"{subject}.told", Order(sku="salt")))
    assert said == {"quoted": {"total": 8.4}, "heard": {"sku": "salt", "quantity": 1}, "ready": None}
    assert got == [Packet[Order](pattern=f"{subject}.placed", data=Order(sku="tea"))]
    assert answer == Answer[dict[str, float]](response={"total": 8.4}, id="a1")


async def test_over_kafka(kafka_url: str, subject: str) -> None:
    """Values are as they are, without a packet; a request is a record whose headers say where it is answered."""
    service, got = Service(subject, broker=kafka_url), list[Any]()

    @service.subscribe(Topic(f"{subject}.quote", Order))
    async def quote(order: Order, context: Context) -> None:
        reply = Topic(context.metadata["kafka_replyTopic"], dict[str, float])
        about = {"kafka_correlationId": context.metadata["kafka_correlationId"], "kafka_nest-is-disposed": "1"}
        await service.publish(reply, {"total": 4.2 * order.quantity}, metadata=about)

    @service.subscribe(Topic(f"{subject}.placed", Order))
    async def place(order: Order) -> None:
        got.append(order)

    async with service, Client(kafka_url) as client:
        for name in ("quote.reply", "told"):  # Kafka makes none by itself here, and its client waits for none
            await client.publish(Topic(f"{subject}.{name}", Order), Order(sku="made"))
        running = asyncio.create_task(run_nest("kafka", kafka_url.partition("://")[2].partition("?")[0], subject))
        said = await until_told(running, lambda: client.publish(f"{subject}.told", Order(sku="salt")))
        while not got:
            await asyncio.sleep(0.01)
    assert said["quoted"] == {"total": 8.4}
    assert said["heard"]["sku"] in ("made", "salt")
    assert got == [Order(sku="tea")]
