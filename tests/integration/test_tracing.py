"""A trace goes on over each broker: from other clients, as they write it, over attempts, to batches."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import kombu
import nats
import pytest
from aiokafka import AIOKafkaProducer
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from eventmicro import Batch, Client, Context, Retry, Service, Topic
from eventmicro.telemetry.tracing import Tracing
from tests.integration.test_foreign_clients import BROKERS, faststream, plain, server, stream_of

Until = Callable[[Callable[[], object]], Awaitable[None]]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
# What says where an event is, and what does on which broker.
PLACES = ("messaging.kafka.", "messaging.rabbitmq.", "messaging.destination.partition.")
WHERE = {
    "kafka": {"messaging.destination.partition.id", "messaging.kafka.offset"},
    "rabbitmq": {"messaging.rabbitmq.destination.routing_key", "messaging.rabbitmq.message.delivery_tag"},
}
SAMPLED = f"00-{TRACE}-{SPAN}-01"
THEIRS = {"nats": "nats.NatsTelemetry", "jetstream": "nats.NatsTelemetry"} | {
    "rabbitmq": "rabbit.RabbitTelemetry",
    "kafka": "kafka.KafkaTelemetry",
}


class Traced:
    """What keeps the spans of a test."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider=self.provider)

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [each for each in self.exporter.get_finished_spans() if each.kind is kind]


@pytest.fixture
def traced() -> Traced:
    return Traced()


def ids(span: ReadableSpan) -> tuple[str, str]:
    """The trace and the parent of a span."""
    return f"{span.context.trace_id:032x}", "" if span.parent is None else f"{span.parent.span_id:016x}"


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", BROKERS)
async def test_a_trace_of_faststream_goes_on(
    broker: str, request: pytest.FixtureRequest, subject: str, traced: Traced, until: Until
) -> None:
    url = request.getfixturevalue(f"{broker}_url")
    module, _, name = THEIRS[broker].partition(".")
    telemetry = getattr(importlib.import_module(f"faststream.{module}.opentelemetry"), f"{name}Middleware")
    service, theirs = Service(subject, broker=url, middleware=[traced.tracing]), faststream(url)
    theirs.add_middleware(telemetry(tracer_provider=traced.provider))

    @service.subscribe(Topic(subject, int))
    async def take(number: int) -> None: ...

    async with service, theirs:
        await stream_of(theirs, url)(7, subject)
        await until(lambda: traced.of(SpanKind.CONSUMER))
    [came] = traced.of(SpanKind.CONSUMER)
    sent = {(each.context.trace_id, each.context.span_id) for each in traced.of(SpanKind.PRODUCER)}
    assert came.parent is not None
    assert (came.context.trace_id, came.parent.span_id) in sent


async def by_nats(url: str, subject: str) -> None:
    connection = await nats.connect(plain(url))
    await connection.publish(subject, b"7", headers={"Traceparent": SAMPLED})
    await connection.close()


async def by_aiokafka(url: str, subject: str) -> None:
    """As opentelemetry-instrumentation-aiokafka and -confluent-kafka do: bytes, beside headers of others."""
    async with AIOKafkaProducer(bootstrap_servers=server(url)) as producer:
        await producer.send_and_wait(subject, b"7", headers=[("one", b"\xff"), ("traceparent", SAMPLED.encode())])


async def by_aio_pika(url: str, subject: str) -> None:
    """As opentelemetry-instrumentation-aio-pika does, a text; and as bytes, beside headers of other types."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("events")
        for value in (SAMPLED, bytearray(SAMPLED, "ascii")):
            headers: Any = {"traceparent": value, "tries": 3, "deep": {"a": [1, None]}}
            await exchange.publish(aio_pika.Message(b"7", headers=headers, content_type="application/json"), subject)


async def by_kombu(url: str, subject: str) -> None:
    """As opentelemetry-instrumentation-celery does: among Celery's own headers, many of which are None."""
    with kombu.Connection(url) as connection:
        headers = {"traceparent": SAMPLED, "lang": "py", "retries": 0, "eta": None, "timelimit": [None, None]}
        producer = connection.Producer(serializer="json")
        producer.publish(7, exchange="events", routing_key=subject, headers=headers)


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize(
    ("broker", "publish", "count"),
    [
        ("nats", by_nats, 1),
        ("jetstream", by_nats, 1),
        ("kafka", by_aiokafka, 1),
        ("rabbitmq", by_aio_pika, 2),
        ("rabbitmq", by_kombu, 1),
    ],
)
async def test_a_trace_goes_on_as_others_write_it(
    broker: str, publish: Any, count: int, request: pytest.FixtureRequest, subject: str, traced: Traced, until: Until
) -> None:
    url = request.getfixturevalue(f"{broker}_url")
    service = Service(subject, broker=url, middleware=[traced.tracing])

    @service.subscribe(Topic(subject, int))
    async def take(number: int) -> None: ...

    async with service:
        await publish(url, subject)
        await until(lambda: len(traced.of(SpanKind.CONSUMER)) == count)
    assert [ids(each) for each in traced.of(SpanKind.CONSUMER)] == [(TRACE, SPAN)] * count
    for each in traced.of(SpanKind.CONSUMER):
        there = {word for word in each.attributes or {} if word.startswith(PLACES)}
        assert there == WHERE.get(broker, set())


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", ["jetstream", "rabbitmq", "kafka"])
async def test_attempts_link_to_those_before_and_batches_to_all_that_they_are_made_of(
    broker: str, request: pytest.FixtureRequest, subject: str, traced: Traced, until: Until
) -> None:
    url, topic = request.getfixturevalue(f"{broker}_url"), Topic(subject, int)
    service, sizes = Service(subject, broker=url, middleware=[traced.tracing]), list[int]()

    @service.subscribe(topic, retry=Retry(attempts=3, backoff=0.05))
    async def fail(number: int, context: Context) -> None:
        if context.attempt < 3:
            raise ValueError("not yet")

    @service.subscribe(topic, batch=Batch(2, 10))
    async def together(numbers: list[int]) -> None:
        sizes.append(len(numbers))

    async with service, Client(url, middleware=[traced.tracing]) as client:
        await client.publish(topic, 1)
        await client.publish(topic, 2)
        await until(lambda: len(traced.of(SpanKind.CONSUMER)) == 7)
    sent = {each.context.span_id for each in traced.of(SpanKind.PRODUCER)}
    came = traced.of(SpanKind.CONSUMER)
    [batch] = [each for each in came if (each.attributes or {}).get("messaging.batch.message_count")]
    assert sizes == [2]
    assert {link.context.span_id for link in batch.links} == sent
    by_event: dict[int, list[ReadableSpan]] = {}
    for each in came:
        if each is not batch:
            by_event.setdefault(each.context.trace_id, []).append(each)
    assert len(by_event) == 2
    for first, second, third in by_event.values():
        assert [(each.attributes or {}).get("eventmicro.attempt") for each in (first, second, third)] == [None, 2, 3]
        assert [link.context.span_id for link in second.links] == [first.context.span_id]
        assert [link.context.span_id for link in third.links] == [second.context.span_id]
        assert {each.parent.span_id for each in (first, second, third) if each.parent is not None} <= sent
