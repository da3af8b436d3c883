"""Kafka: what a record has beyond its body: no value, binary and repeated headers, its place and time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from eventmicro_kafka import KafkaBroker, KafkaRecord
from pydantic import BaseModel

from eventmicro import Batch, Client, Context, Depends, Retry, Service, Topic
from eventmicro.broker import Durable
from eventmicro.errors import UsageError
from eventmicro.message import Copy, Delivery, Message
from tests.conftest import Until
from tests.integration.kafka.admin import foreign_producer, make_topic, running
from tests.integration.kafka.kit import records_of

Record = Annotated[KafkaRecord, Depends(KafkaRecord.of)]
HEADERS = [
    ("trace", b"\x00\xff"),
    ("hop", b"a"),
    ("hop", b"b"),
    ("note", b"text"),
    ("empty", None),
    ("Message-Id", b"e1"),
]


class Order(BaseModel):
    sku: str


class Orders:
    """A topic of this test alone, and its queue."""

    def __init__(self, url: str, subject: str) -> None:
        self.url = url
        self.topic = Topic(subject, Order | None, key="sku")
        self.queue = f"{subject}.q"
        self.dead = f"{subject}.dead"
        self.service = Service(subject.replace(".", "-"))
        self.words: dict[str, Any] = {"queue": self.queue, "dead_letter": self.dead, "start": "all"}


@pytest.fixture
def orders(kafka_url: str, subject: str) -> Orders:
    return Orders(kafka_url, subject)


async def test_none_is_published_without_a_value_and_comes_as_none(orders: Orders, until: Until) -> None:
    got: list[tuple[Order | None, bytes | None]] = []

    @orders.service.subscribe(orders.topic, **orders.words)
    async def take(order: Order | None, record: Record) -> None:
        got.append((order, record.key))

    async with Client(orders.url) as client, running(orders.service, orders.url):
        await client.publish(orders.topic, Order(sku="tea"))
        await client.publish(orders.topic, None, key="tea")
        await client.publish_many(orders.topic, [None, Order(sku="tea")], key=lambda _: "tea")
        with pytest.raises(UsageError, match="key="):
            await client.publish(orders.topic, None)
        await until(lambda: len(got) == 4)
    assert got == [(Order(sku="tea"), b"tea"), (None, b"tea"), (None, b"tea"), (Order(sku="tea"), b"tea")]
    values = [record.value async for record in records_of(orders.url, orders.topic.name)]
    assert values == [b'{"sku":"tea"}', None, None, b'{"sku":"tea"}']


async def test_a_tombstone_stays_one_through_retries_and_as_a_dead_letter(orders: Orders, until: Until) -> None:
    attempts: list[tuple[Order | None, int, int, datetime]] = []

    @orders.service.subscribe(orders.topic, retry=Retry(attempts=3, backoff=0.05), **orders.words)
    async def fail(order: Order | None, context: Context, record: Record) -> None:
        attempts.append((order, context.attempt, record.offset, record.timestamp))
        raise ValueError("unlucky")

    async with Client(orders.url) as client, running(orders.service, orders.url):
        await client.publish(orders.topic, None, key="tea")
        await until(lambda: len(attempts) == 3)
        letters = await letters_of(orders, until)
    assert [(order, attempt, offset) for order, attempt, offset, _ in attempts] == [(None, n, 0) for n in (1, 2, 3)]
    assert len({at for *_, at in attempts}) == 1, "a copy tells when its event was published"
    assert [(letter.value, letter.key) for letter in letters] == [(None, b"tea")]
    copies = [record.value async for record in records_of(orders.url, f"{orders.queue}.{orders.topic.name}.retry")]
    assert copies == [None, None]


async def test_a_tombstone_that_a_handler_cannot_take_is_a_dead_letter_that_says_so(
    orders: Orders, until: Until
) -> None:
    strict = Topic(orders.topic.name, Order)

    @orders.service.subscribe(strict, **orders.words)
    async def never(order: Order) -> None:
        raise AssertionError("there is none")

    async with running(orders.service, orders.url):
        async with foreign_producer(orders.url) as producer:
            await producer.send_and_wait(strict.name, None, key=b"tea")
        (letter,) = await letters_of(orders, until)
    reason = dict(letter.headers)["Dead-Letter-Reason"].decode()
    assert "tombstone" in reason
    assert "`Order | None`" in reason
    assert letter.value is None


async def test_headers_stay_as_they_came_through_retries_and_as_a_dead_letter(orders: Orders, until: Until) -> None:
    seen: list[KafkaRecord] = []

    @orders.service.subscribe(orders.topic, retry=Retry(attempts=3, backoff=0.05), **orders.words)
    async def fail(order: Order | None, record: Record) -> None:
        seen.append(record)
        raise ValueError("unlucky")

    async with running(orders.service, orders.url):
        async with foreign_producer(orders.url) as producer:
            at = await producer.send_and_wait(orders.topic.name, b'{"sku":"t"}', key=b"\xff", headers=HEADERS)
        (letter,) = await letters_of(orders, until)
    assert len(seen) == 3
    first = seen[0]
    assert (first.topic, first.partition, first.offset) == (orders.topic.name, at.partition, at.offset)
    assert first.timestamp == datetime.fromtimestamp(at.timestamp / 1000, UTC)
    assert first.timestamp_type == "create"
    assert first.key == b"\xff"
    assert first.values("hop") == [b"a", b"b"]
    assert first.values("empty") == []
    for record in seen:
        assert sorted(record.headers, key=repr) == sorted(HEADERS, key=repr)
        assert (record.topic, record.partition, record.offset) == (first.topic, first.partition, first.offset)
        assert (record.timestamp, record.key, record.value) == (first.timestamp, first.key, first.value)
    own = ("Dead-Letter-", "Message-Id")
    kept = [header for header in letter.headers if not header[0].startswith(own)]
    assert sorted(kept, key=repr) == sorted([h for h in HEADERS if h[0] != "Message-Id"], key=repr)
    assert (letter.key, letter.value) == (b"\xff", b'{"sku":"t"}')


async def test_a_batch_shows_all_its_records(orders: Orders, until: Until) -> None:
    shown: list[list[int]] = []

    @orders.service.subscribe(orders.topic, batch=Batch(3, within=30), **orders.words)
    async def take(batch: list[Order | None], context: Context) -> None:
        with pytest.raises(UsageError, match="all_of"):
            KafkaRecord.of(context)
        shown.append([record.offset for record in KafkaRecord.all_of(context)])

    await make_topic(orders.url, orders.topic.name)
    async with Client(orders.url) as client, running(orders.service, orders.url):
        await client.publish_many(orders.topic, [Order(sku="a"), None, Order(sku="b")], key=lambda _: "k")
        await until(lambda: shown)
    assert shown == [[0, 1, 2]]


async def test_a_live_subscription_shows_records_too(orders: Orders, until: Until) -> None:
    shown: list[tuple[str, bytes | None]] = []

    @orders.service.subscribe(orders.topic, queue=None)
    async def take(order: Order | None, record: Record) -> None:
        shown.append((record.topic, record.value))

    async with Client(orders.url) as client, running(orders.service, orders.url):
        await client.publish(orders.topic, None, key="k")
        await until(lambda: shown)
    assert shown == [(orders.topic.name, None)]


async def test_what_came_over_another_broker_has_no_record_and_says_so(until: Until) -> None:
    said: list[str] = []
    service = Service("elsewhere")

    @service.subscribe("orders.elsewhere", queue=None)
    async def take(body: bytes, context: Context) -> None:
        with pytest.raises(UsageError) as refused:
            KafkaRecord.of(context)
        said.append(str(refused.value))

    async with running(service, "memory://records"), Client("memory://records") as client:
        await client.publish("orders.elsewhere", b"x")
        await until(lambda: said)
    assert "not over Kafka" in said[0]


async def test_copies_of_other_brokers_deliveries_are_published_as_they_say(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Copy(subject, b"x", {"A": "a"}, of=Delivery("elsewhere", b"x", {"A": "a"})))
        await broker.publish(Message(subject, b""))
    records = [(record.value, record.headers) async for record in records_of(kafka_url, subject)]
    assert sorted(records) == [(b"", ()), (b"x", (("A", b"a"),))]


async def letters_of(orders: Orders, until: Until) -> list[Any]:
    """The dead letters, when the first is there."""
    found: list[Any] = []
    async with KafkaBroker(orders.url) as broker:
        came: list[Delivery] = []

        def take(delivery: Delivery) -> None:
            came.append(delivery)

        await broker.subscribe(orders.dead, take, queue=f"{orders.dead}.look", durable=Durable(start="all"))
        await until(lambda: came)
    async for record in records_of(orders.url, orders.dead):
        found.append(record)
    return found
