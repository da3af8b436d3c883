"""Traces of calls and events: what their spans say, how they hang together, and that nothing is done without an SDK."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from eventmicro import (
    Ack,
    Batch,
    Client,
    Context,
    LogFields,
    MemoryBroker,
    Nack,
    NotFound,
    Reject,
    Retry,
    Service,
    ServiceError,
    Topic,
    UsageError,
)
from eventmicro.context import Side
from eventmicro.message import Delivery
from eventmicro.telemetry.attributes import Few, describe_broker, describe_place
from eventmicro.telemetry.tracing import REMEMBERED, Attempts, Tracing

PLACED = Topic("orders.placed", int)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


class World:
    """A service and a client with spans that are kept."""

    def __init__(self, name: str, sample: float = 1.0, **words: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(sample=sample, provider=self.provider)
        self.url = f"memory://{name}"
        self.service = Service("shop", broker=self.url, middleware=[self.tracing], **words)

    def client(self) -> Client:
        return Client(self.url, middleware=[self.tracing])

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str, kind: SpanKind | None = None) -> ReadableSpan:
        [span] = [each for each in self.spans if each.name == name and kind in (None, each.kind)]
        return span


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    return World(request.node.name)


async def test_a_call_is_a_span_on_each_side_of_one_trace(world: World) -> None:
    @world.service.rpc
    async def double(number: int) -> int:
        return 2 * number

    async with world.service, world.client() as client:
        assert await client.call("shop.double", 2, int) == 4
    made, served = world.named("shop/double", SpanKind.CLIENT), world.named("shop/double", SpanKind.SERVER)
    assert made.parent is None
    assert parent(served) == made.context.span_id
    assert served.context.trace_id == made.context.trace_id
    for span in (made, served):
        assert about(span)["rpc.system.name"] == "eventmicro"
        assert about(span)["rpc.method"] == "shop/double"
        assert about(span)["rpc.response.status_code"] == "200"
        assert span.status.status_code is StatusCode.UNSET


async def test_an_answer_is_no_error_of_the_service_and_a_failure_is_one_on_both_sides(world: World) -> None:
    @world.service.rpc
    async def refuse(fails: bool) -> None:
        if fails:
            raise ValueError("secret")
        raise NotFound("no such order")

    async with world.service, world.client() as client:
        with pytest.raises(NotFound):
            await client.call("shop.refuse", False, None)
        with pytest.raises(ServiceError):
            await client.call("shop.refuse", True, None)
    answered, asked, failed, in_vain = world.spans
    assert [each.status.status_code.name for each in (answered, asked, failed, in_vain)] == ["UNSET", *["ERROR"] * 3]
    assert [about(each)["error.type"] for each in (answered, asked, failed, in_vain)] == [
        "404",
        "404",
        "ValueError",
        "500",
    ]
    assert [each.name for each in failed.events] == ["exception"]
    assert not in_vain.events
    assert "secret" not in str(in_vain.status.description)


async def test_an_event_goes_on_with_the_trace_of_the_call_that_published_it(world: World) -> None:
    handled = asyncio.Event()

    @world.service.rpc
    async def place(number: int) -> None:
        await world.service.publish(PLACED, number, id="ev-1")

    @world.service.subscribe(PLACED)
    async def bill(number: int) -> None:
        handled.set()

    async with world.service, world.client() as client:
        await client.call("shop.place", 2, None)
        await asyncio.wait_for(handled.wait(), 5)
    served, sent = world.named("shop/place", SpanKind.SERVER), world.named("publish orders.placed")
    done = world.named("process orders.placed")
    assert (sent.kind, done.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert (parent(sent), parent(done)) == (served.context.span_id, sent.context.span_id)
    assert about(sent)["messaging.message.id"] == "ev-1"
    assert about(done) | {"messaging.message.id": ""} == {
        "messaging.system": "memory",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders.placed",
        "messaging.consumer.group.name": "shop.bill",
        "messaging.message.id": "",
        "server.address": about(done)["server.address"],
    }


async def test_a_further_attempt_links_to_the_one_before(world: World) -> None:
    handled = asyncio.Event()

    @world.service.subscribe(PLACED, retry=Retry(attempts=3, backoff=0.01))
    async def bill(number: int, context: Context) -> None:
        if context.attempt < 3:
            raise ValueError("not yet")
        handled.set()

    async with world.service, world.client() as client:
        await client.publish(PLACED, 1)
        await asyncio.wait_for(handled.wait(), 5)
    first, second, third = (each for each in world.spans if each.name == "process orders.placed")
    assert [about(each).get("eventmicro.attempt") for each in (first, second, third)] == [None, 2, 3]
    assert first.links == ()
    assert [[link.context.span_id for link in each.links] for each in (second, third)] == [
        [first.context.span_id],
        [second.context.span_id],
    ]
    assert {each.context.trace_id for each in world.spans} == {first.context.trace_id}


async def test_an_event_that_is_dealt_with_is_no_failed_attempt(world: World) -> None:
    handled = asyncio.Event()

    @world.service.subscribe(PLACED, retry=Retry(attempts=2, backoff=0.01))
    async def bill(number: int, context: Context) -> None:
        if context.attempt == 1:
            raise ValueError("not yet")
        handled.set()
        raise Ack("there is nothing to do")

    async with world.service, world.client() as client:
        await client.publish(PLACED, 1)
        await asyncio.wait_for(handled.wait(), 5)
    last = [each for each in world.spans if each.name == "process orders.placed"][-1]
    assert (about(last).get("error.type"), last.status.status_code) == (None, StatusCode.UNSET)
    assert not world.tracing._attempts._failed  # nothing is remembered of what never comes again


async def test_what_is_refused_on_its_way_within_a_trace_has_nothing_traced_that_comes_later() -> None:
    world = World("refused-on-its-way", sample=0)
    async with world.client() as client:
        with world.provider.get_tracer("own").start_as_current_span("own"), pytest.raises(UsageError):
            await client.publish(PLACED, 1, metadata={"no header\n": "x"})
        await client.publish(PLACED, 1)
        await client.publish_many(PLACED, [2, 3])
    assert [each.name for each in world.spans] == ["own"]


async def test_a_batch_links_to_all_that_it_is_made_of(world: World) -> None:
    handled = asyncio.Event()

    @world.service.subscribe(PLACED, batch=Batch(3, 5.0))
    async def bill(numbers: list[int], context: Context) -> None:
        assert context.is_batch
        handled.set()

    async with world.service, world.client() as client:
        for number in range(3):
            await client.publish(PLACED, number)
        await asyncio.wait_for(handled.wait(), 5)
    sent = [each.context.span_id for each in world.spans if each.name == "publish orders.placed"]
    done = world.named("process orders.placed")
    assert done.parent is None
    assert sorted(link.context.span_id for link in done.links) == sorted(sent)
    assert about(done)["messaging.batch.message_count"] == 3


async def test_a_stream_is_one_span_until_its_end(world: World) -> None:
    @world.service.rpc
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async with world.service, world.client() as client:
        seen = []
        async for number in client.stream("shop.count", 3, int):
            seen.append(number)
            assert not [each for each in world.spans if each.kind is SpanKind.CLIENT]
        assert seen == [0, 1, 2]
    made, served = world.named("shop/count", SpanKind.CLIENT), world.named("shop/count", SpanKind.SERVER)
    assert parent(served) == made.context.span_id


@pytest.mark.parametrize(("read_on", "code"), [(True, "200"), (False, "499")])
async def test_a_reading_that_is_given_up_ends_no_span_unless_it_is_the_last(read_on: bool, code: str) -> None:
    world, gate = World(f"given-up-{code}"), asyncio.Event()

    @world.service.rpc
    async def count() -> AsyncIterator[int]:
        await gate.wait()
        yield 1

    async with world.service, world.client() as client, client.stream("shop.count", None, int) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(stream)
        assert not [each for each in world.spans if each.kind is SpanKind.CLIENT]
        if read_on:
            gate.set()
            assert [number async for number in stream] == [1]
    made, served = world.named("shop/count", SpanKind.CLIENT), world.named("shop/count", SpanKind.SERVER)
    assert (about(made)["rpc.response.status_code"], about(served)["rpc.response.status_code"]) == (code, code)


async def test_what_a_handler_calls_between_the_messages_of_its_stream_belongs_to_its_span(world: World) -> None:
    tracer, service = world.provider.get_tracer("own"), world.service

    @service.rpc
    async def ping(number: int) -> None: ...

    @service.rpc
    async def count(to: int) -> AsyncIterator[int]:
        await service.call("shop.ping", 1)
        yield 1
        with tracer.start_as_current_span("own"):
            yield 2
            await service.call("shop.ping", 2)
        yield 3
        await service.call("shop.ping", 3)

    async with service, world.client() as client:
        assert [number async for number in client.stream("shop.count", 3, int)] == [1, 2, 3]
    served = world.named("shop/count", SpanKind.SERVER).context.span_id
    pings = [parent(each) for each in world.spans if each.name == "shop/ping" and each.kind is SpanKind.CLIENT]
    assert pings == [served, world.named("own").context.span_id, served]
    assert parent(world.named("own")) == served


async def test_a_span_ends_also_where_its_handler_exits_or_nobody_drives_its_call_any_more(world: World) -> None:
    @world.service.rpc
    async def leave() -> None:
        raise SystemExit(3)

    @world.service.rpc
    async def hang() -> None:
        await asyncio.Event().wait()

    async with world.service, world.client() as client:
        with pytest.raises(ServiceError, match="the endpoint failed"):
            await client.call("shop.leave")
        call = client.call("shop.hang", timeout=0.1)
        call.send(None)
        call.close()
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert about(world.named("shop/leave", SpanKind.SERVER))["error.type"] == "SystemExit"
    assert about(world.named("shop/hang", SpanKind.CLIENT))["rpc.response.status_code"] == "499"


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
async def test_a_foreign_trace_goes_on_whatever_the_case_of_its_header(name: str) -> None:
    world = World(f"foreign-{name}")

    @world.service.rpc
    async def ping(context: Context) -> None: ...

    async with world.service, Client(world.url) as client:
        await client.call("shop.ping", None, None, metadata={name: SAMPLED, "tracestate": "a=b"})
    [served] = world.spans
    assert f"{served.context.trace_id:032x}" == TRACE
    assert f"{parent(served):016x}" == SPAN
    assert served.context.trace_state.to_header() == "a=b"


@pytest.mark.parametrize("said", ["", "x", "00-0-0-01", f"ff-{TRACE}-{SPAN}-01", "0" * 5000])
async def test_what_is_no_trace_begins_a_new_one(said: str) -> None:
    world = World(f"wrong-{len(said)}")

    @world.service.rpc
    async def ping() -> None: ...

    async with world.service, Client(world.url) as client:
        await client.call("shop.ping", None, None, metadata={"traceparent": said or " "})
    [served] = world.spans
    assert served.parent is None


async def test_what_is_not_sampled_has_neither_span_nor_header_and_what_comes_with_a_trace_has_both() -> None:
    world, seen = World("sampled", sample=0.0), list[dict[str, str]]()

    @world.service.rpc
    async def inner(context: Context) -> None:
        seen.append(dict(context.metadata))

    @world.service.rpc
    async def outer(context: Context) -> None:
        await world.service.call("shop.inner", None, None)
        await world.service.publish("nobody", 1)

    async with world.service, world.client() as client, Client(world.url) as foreign:
        await client.call("shop.outer", None, None)
        assert (world.spans, seen) == ([], [{}])
        await foreign.call("shop.outer", None, None, metadata={"traceparent": SAMPLED})
    assert {f"{each.context.trace_id:032x}" for each in world.spans} == {TRACE}
    assert sorted(f"{each.name} {each.kind.name}" for each in world.spans) == [
        "publish nobody PRODUCER",
        "shop/inner CLIENT",
        "shop/inner SERVER",
        "shop/outer SERVER",
    ]
    assert seen[1]["traceparent"].startswith(f"00-{TRACE}-")


async def test_a_call_that_is_wanted_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    rolls = iter([0.4, 0.6, 0.4])
    monkeypatch.setattr("eventmicro.telemetry.tracing.random", lambda: next(rolls, 1.0))
    world = World("asked", sample=0.5)

    @world.service.rpc
    async def ping() -> None: ...

    async with world.service, world.client() as client:
        await client.call("shop.ping", None, None)  # asked by the client; the service goes on with that
        await client.call("shop.ping", None, None)
    kinds = [each.kind for each in world.spans]
    assert kinds == [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.SERVER]


async def test_no_trace_begins_amidst_a_handler_that_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    rolls = iter([1.0, 1.0])  # of the endpoint and of the subscriber; whatever is asked beside them is traced
    monkeypatch.setattr("eventmicro.telemetry.tracing.random", lambda: next(rolls, 0.0))
    world, handled = World("amidst", sample=0.5), asyncio.Event()

    @world.service.subscribe("placed")
    async def pack(number: int) -> None:
        await world.service.publish("packed", number)
        handled.set()

    @world.service.rpc
    async def place(number: int) -> None:
        await world.service.publish("placed", number)

    async with world.service, Client(world.url) as foreign, world.client() as client:
        await foreign.call("shop.place", 1, None)
        await handled.wait()
        assert world.spans == []
        await client.publish("placed", 2)  # outside of a handler a trace begins as ever
    assert {each.name for each in world.spans} >= {"publish placed"}


async def test_a_client_within_a_handler_of_which_nobody_asks_begins_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro.telemetry.tracing.random", lambda: 0.0)
    world = World("own", sample=0.5)
    plain, own = Service("plain", broker=world.url), world.client()

    @plain.rpc
    async def place(number: int) -> None:
        await own.publish("placed", number)

    async with own, plain, Client(world.url) as foreign:
        await foreign.call("plain.place", 1, None)
    assert [each.name for each in world.spans] == ["publish placed"]


async def test_without_an_sdk_nothing_is_around_a_message() -> None:
    async def inner(message: Any, context: Context) -> None: ...

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    for side in Side:
        assert Tracing().around(side, inner, "memory://") is inner
    async with Client("memory://none", middleware=[Tracing()]) as client:
        assert client._caller.is_plain
        assert not client._publisher.has_middleware


@pytest.mark.parametrize("sample", [-0.1, 1.1, "1", True, None])
def test_a_share_that_is_none_is_refused(sample: Any) -> None:
    with pytest.raises(UsageError, match="a share of what begins here, from 0 to 1"):
        Tracing(sample=sample)


async def test_an_exporter_that_fails_harms_no_call() -> None:
    class Away(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise ConnectionError("away")

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Away()))
    service = Service("shop", broker="memory://away", middleware=[Tracing(provider=provider)])

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    async with service, Client("memory://away") as client:
        assert await client.call("shop.double", 2, int) == 4


async def test_baggage_goes_on_from_peer_to_peer_as_the_trace_does(world: World) -> None:
    seen: list[object] = []

    @world.service.rpc
    async def inner() -> None:
        seen.append(baggage.get_baggage("tenant"))

    @world.service.rpc
    async def outer() -> None:
        await world.service.call("shop.inner", None, None)

    async with world.service, Client(world.url) as foreign:
        await foreign.call("shop.outer", None, None, metadata={"traceparent": SAMPLED, "Baggage": "tenant=acme"})
        assert baggage.get_baggage("tenant") is None
    assert seen == ["acme"]
    assert {f"{each.context.trace_id:032x}" for each in world.spans} == {TRACE}


async def test_what_comes_by_a_pattern_is_named_by_that_and_not_by_its_ids(world: World) -> None:
    seen: list[str] = []
    logs = Topic("logs.{level}", int)

    @world.service.subscribe(logs)
    async def look(number: int, context: Context) -> None:
        seen.append(context.pattern)

    async with world.service, world.client() as client:
        for number in range(3):
            await client.publish(logs.at(level=f"l{number}"), number, metadata={"Correlation-Id": "c-7"})
    sent = [each for each in world.spans if each.kind is SpanKind.PRODUCER]
    came = [each for each in world.spans if each.kind is SpanKind.CONSUMER]
    assert seen == ["logs.*"] * 3
    assert [each.name for each in sent] == ["publish logs.{level}"] * 3
    assert [each.name for each in came] == ["process logs.*"] * 3
    for spans, template in ((sent, "logs.{level}"), (came, "logs.*")):
        assert [about(each)["messaging.destination.name"] for each in spans] == ["logs.l0", "logs.l1", "logs.l2"]
        assert {about(each)["messaging.destination.template"] for each in spans} == {template}
        assert {about(each)["messaging.message.conversation_id"] for each in spans} == {"c-7"}


async def test_names_that_are_made_up_without_end_are_bounded_and_that_is_said_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(world.tracing, "_names", Few("names of spans", 3))
    async with world.client() as client:
        for number in range(6):
            await client.publish(f"orders.{number}", number)
    assert [each.name for each in world.spans] == [f"publish orders.{n}" for n in range(3)] + ["publish"] * 3
    assert [about(each)["messaging.destination.name"] for each in world.spans] == [f"orders.{n}" for n in range(6)]
    assert len([record for record in caplog.records if "more than 3 names of spans" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("nats://127.0.0.1:4222", ("127.0.0.1", 4222)),
        ("kafka://one:9092,two:9093/?x=1", ("one", 9092)),
        ("amqp://guest@[::1]:5672/vhost", ("::1", 5672)),
        ("amqps://rabbit", ("rabbit", None)),
        ("memory://test:a/b", ("test", None)),
        ("memory://", (None, None)),
    ],
)
def test_where_a_broker_is_is_said_by_address_and_port(url: str, place: tuple[str | None, int | None]) -> None:
    said = describe_broker(Side.PUBLISHER, url)
    assert (said.get("server.address"), said.get("server.port")) == place


@pytest.mark.parametrize(
    ("system", "word", "value"),
    [
        ("kafka", "messaging.kafka.message.key", "k-1"),
        ("rabbitmq", "messaging.rabbitmq.destination.routing_key", "orders.placed"),
    ],
)
def test_what_only_one_broker_has_is_said_in_its_words(system: str, word: str, value: str) -> None:
    class Keyed(Delivery):
        key = "k-1"

    delivery = Keyed("orders.placed")
    context = Context(Side.SUBSCRIBER, "shop", "bill", "orders.placed", delivery=delivery)
    assert describe_place(context, system) == {word: value}
    assert describe_place(context, "nats") == {}


def test_what_kafka_and_rabbitmq_have_of_an_event_is_said_but_of_a_key_in_bytes_nothing() -> None:
    kafka = pytest.importorskip("eventmicro_kafka.received")

    class Tagged(Delivery):
        tag = 7

    record = kafka.KafkaRecord("orders", 3, 41, datetime.now(UTC), "create", b"\xff\x00", (), None)
    live = kafka.LiveDelivery(record, None)
    assert describe_place(Context(Side.SUBSCRIBER, topic="orders", delivery=live), "kafka") == {
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 41,
        "messaging.kafka.message.tombstone": True,
    }
    about = describe_place(Context(Side.SUBSCRIBER, topic="orders", delivery=Tagged("orders")), "rabbitmq")
    assert about["messaging.rabbitmq.message.delivery_tag"] == 7


async def test_an_error_in_which_there_is_no_text_costs_no_span() -> None:
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
    world = World("half")
    broker = MemoryBroker(world.url)
    form = b'{"detail": "half \\ud800", "code": 503}'
    async with broker, world.client() as client:
        headers = {"Nats-Service-Error": "no", "Nats-Service-Error-Code": "503"}

        def answer(delivery: Delivery) -> None:
            assert broker.try_send(delivery.reply, form, headers)

        await broker.subscribe("theirs.get", answer)
        with pytest.raises(ServiceError, match="half"):
            await client.call("theirs.get", None, int)
    [span] = world.spans
    assert span.status.description == "theirs.get: 503 Service Unavailable: half \\ud800"
    assert b"half" in encoder.encode_spans(world.spans).SerializeToString()


async def test_an_exporter_that_hangs_holds_up_neither_a_call_nor_the_stop() -> None:
    released = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            released.wait(30)
            return SpanExportResult.FAILURE

        def shutdown(self) -> None:
            released.set()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Hanging(), 8, schedule_delay_millis=1, max_export_batch_size=8))
    service = Service("shop", broker="memory://hanging", middleware=[Tracing(provider=provider)])

    @service.rpc
    async def ping() -> None: ...

    async with service:
        for _ in range(50):  # more than its queue may hold
            await service.call("shop.ping", None, None)
    assert not released.is_set()  # nobody has waited for it
    released.set()
    provider.shutdown()


def test_no_more_attempts_are_remembered_than_a_bound() -> None:
    attempts, failed = Attempts(), trace.INVALID_SPAN_CONTEXT

    class Event:
        def __init__(self, number: int) -> None:
            self.id, self.attempt = str(number), 2

    events: list[Any] = [Event(number) for number in range(2 * REMEMBERED)]
    for event in events:
        attempts.ended(event, failed)
    assert sum(attempts.of(event) is not None for event in events) == REMEMBERED
    attempts.ended(events[-1], None)
    assert attempts.of(events[-1]) is None


@pytest.mark.parametrize("names", [("traceparent", "tracestate"), ("Traceparent", "TraceState")])
async def test_a_span_of_ones_own_stands_in_the_place_of_the_trace_that_goes_on_by_itself(names: Sequence[str]) -> None:
    world, seen = World(f"own-{names[0]}", forward=names), list[dict[str, str]]()

    @world.service.rpc
    async def inner(context: Context) -> None:
        seen.append(dict(context.metadata))

    @world.service.rpc
    async def outer() -> None:
        with trace.use_span(trace.INVALID_SPAN):  # a trace that has nothing to do with that of the call
            await world.service.call("shop.inner")

    async with world.service, Client(world.url) as client:
        await client.call("shop.outer", metadata={"traceparent": SAMPLED, "tracestate": "a=b"})
    made = world.named("shop/inner", SpanKind.CLIENT)
    assert made.context.trace_id != int(TRACE, 16)
    assert [*seen[0]] == ["traceparent"]
    assert seen[0]["traceparent"].startswith(f"00-{made.context.trace_id:032x}-{made.context.span_id:016x}-")


# -- the lines of the log ----------------------------------------------------------------------------------------


async def test_a_line_says_the_span_that_is_current_or_the_trace_of_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World("lines")
    log = logging.getLogger("shop.lines")
    caplog.handler.addFilter(LogFields())

    @world.service.rpc
    async def traced() -> None:
        log.warning("traced")

    plain = Service("plain", broker=world.url)

    @plain.rpc
    async def untraced() -> None:
        log.warning("untraced")

    @plain.subscribe(PLACED, durable=True, retry=Retry(attempts=1))
    async def refuse(number: int) -> None:
        raise Reject("no")

    try:
        async with world.service, plain, world.client() as client:
            await client.call("shop.traced", None, None)
            for said in ("nonsense", SAMPLED):
                async with Client(world.url) as other:
                    await other.call("plain.untraced", None, None, metadata={"traceparent": said})
            async with Client(world.url) as other:
                await other.publish(PLACED, 1, metadata={"traceparent": SAMPLED})
            while plain.statistics().subscribers[0].dead_letters == 0:
                await asyncio.sleep(0)
    finally:
        caplog.handler.removeFilter(caplog.handler.filters[-1])
    served = world.named("shop/traced", SpanKind.SERVER).context
    lines = [vars(record) for record in caplog.records if record.name == "shop.lines"]
    assert [(line["trace_id"], line["span_id"]) for line in lines] == [
        (f"{served.trace_id:032x}", f"{served.span_id:016x}"),
        (None, None),
        (TRACE, SPAN),
    ]
    [given_up] = [vars(record) for record in caplog.records if "went to" in record.getMessage()]
    assert (given_up["trace_id"], given_up["handler"]) == (TRACE, "refuse")


async def test_what_is_said_of_a_failure_has_the_ids_of_the_span_in_which_it_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World("failures")
    caplog.handler.addFilter(LogFields())

    @world.service.rpc
    async def fail() -> None:
        raise ValueError("no")

    @world.service.subscribe(PLACED, order_by=str, durable=True, retry=Retry(attempts=1))
    async def refuse(number: int) -> None:
        raise ValueError("no")

    @world.service.subscribe("orders.paid", batch=Batch(size=2, within=0.01), durable=True, retry=Retry(attempts=1))
    async def collect(numbers: list[int]) -> None:
        raise Nack

    try:
        async with world.service, Client(world.url) as client:
            with pytest.raises(ServiceError):
                await client.call("shop.fail", None, None)
            for number in (1, 1):
                await client.publish(PLACED, number, metadata={"traceparent": SAMPLED})
            await client.publish_many("orders.paid", [1, 2], metadata={"traceparent": SAMPLED})
            while sum(each.dead_letters for each in world.service.statistics().subscribers) < 4:
                await asyncio.sleep(0)
    finally:
        caplog.handler.removeFilter(caplog.handler.filters[-1])
    for handler, name, count in (
        ("fail", "shop/fail", 1),
        ("refuse", "process orders.placed", 4),
        ("collect", "process orders.paid", 2),
    ):
        spans = {f"{each.context.span_id:016x}" for each in world.spans if each.name == name}
        lines = [vars(record) for record in caplog.records if vars(record)["handler"] == handler]
        assert {line["span_id"] for line in lines} == spans, handler
        assert len(lines) == count, handler
