"""CloudEvents: written and read in both modes, beside the official SDK, and by handlers that know nothing of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from cloudevents.core.bindings import http, kafka
from cloudevents.core.bindings import rabbitmq as rabbit
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as TheirEvent
from pydantic import BaseModel

from eventmicro import Client, CloudEvent, CloudEvents, Context, Depends, MemoryBroker, Retry, Service, Topic
from eventmicro.cloudevents import PLAIN, TEXT, UNDERSCORED, Binding, read_headers, read_time
from eventmicro.codecs import Codecs
from eventmicro.codecs import cloudevents as reading
from eventmicro.context import Received, Side
from eventmicro.errors import DecodeError, UsageError
from eventmicro.message import Delivery, Message, Tombstone
from eventmicro.wire import MAX_CONTENT_TYPE, media_type

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://cloudevents"
AT = datetime(2026, 11, 30, 12, 0, 0, 123456, UTC)
FORMAT = JSONFormat()


class Placed(BaseModel):
    order_id: str
    amount: float = 1.5


async def published(until: Until, topic: Topic[Any], event: Any, service: str | None = None, **words: Any) -> Delivery:
    """The event as it travels."""
    seen: list[Delivery] = []
    async with MemoryBroker(URL) as broker:
        await broker.subscribe(topic.name, seen.append)
        whoever: Any = Client(URL) if service is None else Service(service, broker=URL)
        async with whoever:
            await whoever.publish(topic, event, **words)
            await until(lambda: seen)
    return seen[0]


def context_of(delivery: Delivery) -> Context:
    def fill(context: Received) -> None:
        Context.__init__(context, Side.SUBSCRIBER, topic=delivery.subject, metadata=delivery.headers)

    return Received(delivery, fill)


SAID = CloudEvents(
    source="/shop",
    type="com.example.order.placed",
    subject=lambda event: f"order {event.order_id} größer 100%",
    time=lambda event: AT,
    dataschema="https://example.com/placed.json",
    extensions={"tenant": "acme", "tries": 3, "test": True, "traceparent": "00-1-2-03"},
)
STRUCTURED = (
    CloudEvents(
        "structured",  # type: ignore[call-arg]
    )
    if False
    else CloudEvents(
        mode="structured",
        source=SAID.source,
        type=SAID.type,
        subject=SAID.subject,
        time=SAID.time,
        dataschema=SAID.dataschema,
        extensions=SAID.extensions,
    )
)


async def test_the_attributes_are_headers_and_the_body_is_what_it_is_without(until: Until) -> None:
    topic = Topic("orders.placed", Placed, key="order_id", id="order_id", cloudevents=SAID)
    came = await published(until, topic, Placed(order_id="7"))
    assert came.body == b'{"order_id":"7","amount":1.5}'
    assert came.headers == {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "7",
        "ce-source": "/shop",
        "ce-type": "com.example.order.placed",
        "ce-subject": "order%207%20gr%C3%B6%C3%9Fer%20100%25",
        "ce-time": "2026-11-30T12:00:00.123456Z",
        "ce-dataschema": "https://example.com/placed.json",
        "ce-tenant": "acme",
        "ce-tries": "3",
        "ce-test": "true",
        "ce-traceparent": "00-1-2-03",
        "ce-partitionkey": "7",
    }
    theirs = http.from_http_event(http.HTTPMessage(headers=came.headers, body=came.body))
    assert (theirs.get_id(), theirs.get_source(), theirs.get_time()) == ("7", "/shop", AT)
    assert theirs.get_subject() == "order 7 größer 100%"
    assert theirs.get_data() == {"order_id": "7", "amount": 1.5}


async def test_structured_is_one_json_object(until: Until) -> None:
    topic = Topic("orders.placed", Placed, cloudevents=STRUCTURED)
    came = await published(until, topic, Placed(order_id="7"), id="ev-1", metadata={"tenant": "acme"})
    assert came.headers == {"tenant": "acme", "Content-Type": "application/cloudevents+json"}
    assert json.loads(came.body) == {
        "specversion": "1.0",
        "id": "ev-1",
        "source": "/shop",
        "type": "com.example.order.placed",
        "subject": "order 7 größer 100%",
        "time": "2026-11-30T12:00:00.123456Z",
        "dataschema": "https://example.com/placed.json",
        "tenant": "acme",
        "tries": 3,
        "test": True,
        "traceparent": "00-1-2-03",
        "datacontenttype": "application/json",
        "data": {"order_id": "7", "amount": 1.5},
    }
    theirs = http.from_http_event(
        http.HTTPMessage(headers={"content-type": came.headers["Content-Type"]}, body=came.body)
    )
    assert (theirs.get_extension("tries"), theirs.get_data()) == (3, {"order_id": "7", "amount": 1.5})


@pytest.mark.parametrize(("service", "source"), [(None, "/client"), ("shop", "/shop")])
async def test_what_nothing_is_said_of_has_a_default(service: str | None, source: str, until: Until) -> None:
    topic = Topic("orders.placed", Placed, cloudevents=True)
    before = datetime.now(UTC)
    first = CloudEvent.of(context_of(await published(until, topic, Placed(order_id="7"), service)))
    second = CloudEvent.of(context_of(await published(until, topic, Placed(order_id="7"), service)))
    assert (first.source, first.type, first.subject) == (source, "orders.placed", None)
    assert first.id != second.id
    assert first.time is not None
    assert before <= first.time <= datetime.now(UTC)
    assert (first.datacontenttype, first.extensions) == ("application/json", {})


PLACED = {"order_id": "7", "amount": 1.5}
PACKED = "gqhvcmRlcl9pZKE3pmFtb3VudMs/+AAAAAAAAA=="
DATA: list[tuple[Any, Any, str | None, str, dict[str, Any]]] = [
    (Placed, Placed(order_id="7"), None, "application/json", {"data": PLACED}),
    (
        Placed,
        Placed(order_id="7"),
        "msgpack",
        "application/msgpack",
        {"data_base64": PACKED},
    ),
    (str, "größer", None, "application/json", {"data": "größer"}),
    (str, "größer", "text", "text/plain", {"data": "größer"}),
    (bytes, b"\x00\x01", None, "application/octet-stream", {"data_base64": "AAE="}),
    (bytes, b"{no json", "image/png", "image/png", {"data_base64": "e25vIGpzb24="}),
    (int, 12345678901234567890, None, "application/json", {"data": 12345678901234567890}),
    (None, None, None, "application/octet-stream", {}),
    (
        Placed,
        Placed(order_id="7"),
        "application/vnd.acme+json",
        "application/vnd.acme+json",
        {"data": {"order_id": "7", "amount": 1.5}},
    ),
]


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(("kind", "event", "content_type", "label", "data"), DATA)
async def test_data_of_every_form_comes_back(
    kind: Any, event: Any, content_type: str | None, label: str, data: dict[str, Any], mode: Any, until: Until
) -> None:
    topic: Topic[Any] = Topic("data.sent", kind, content_type=content_type, cloudevents=mode)
    got: list[tuple[Any, CloudEvent]] = []
    service = Service("taking", broker=URL)

    async def take(event: Any, about: Annotated[CloudEvent, Depends(CloudEvent.of)]) -> None:
        got.append((event, about))

    service.subscribe(topic)(take)

    async with service:
        came = await published(until, topic, event)
        await until(lambda: got)
    assert got[0][0] == event
    assert got[0][1].datacontenttype == label
    if mode == "structured":
        members = json.loads(came.body)
        assert {
            name: members[name] for name in members if name.startswith("data") and name != "datacontenttype"
        } == data


THEIRS = TheirEvent(
    {
        "id": "1",
        "source": "/theirs",
        "type": "placed",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "subject": "2%25 off größer",
        "time": AT,
        "partitionkey": "k",
        "flag": "true",
    },
    {"order_id": "7"},
)


def by_hand(prefix: str) -> dict[str, str]:
    """What the binding for AMQP 1.0 writes, as a bridge to RabbitMQ hands it on."""
    moment = str(int(AT.timestamp() * 1000))
    said = {"id": "1", "source": "/theirs", "type": "placed", "specversion": "1.0", "time": moment}
    more = {"subject": "2%25 off größer", "partitionkey": "k", "flag": "true"}
    return {f"{prefix}{name}": value for name, value in (said | more).items()}


def messages() -> list[tuple[str, Binding, dict[str, str], bytes, str]]:
    """One event in all its forms: where it is from, the binding, headers, body, and its time."""
    binary, structured = http.to_binary_event(THEIRS), http.to_structured_event(THEIRS)
    record, by_rabbit = kafka.to_binary_event(THEIRS), rabbit.to_binary(THEIRS, FORMAT)
    moment, rough = AT.isoformat(), AT.replace(microsecond=123000).isoformat()
    body = b'{"order_id": "7"}'
    texts = {name: value.decode() for name, value in record.headers.items()}
    typed = {"content-type": by_rabbit.content_type or ""}
    return [
        ("http", PLAIN, binary.headers, binary.body, moment),
        ("http structured", PLAIN, structured.headers, structured.body, moment),
        ("kafka", UNDERSCORED, texts, record.value or b"", moment),
        ("rabbitmq", TEXT, by_rabbit.headers | typed, by_rabbit.body, moment),
        ("amqp 1.0", TEXT, by_hand("cloudEvents_") | typed, body, rough),
        ("amqp 1.0 colon", TEXT, by_hand("cloudEvents:") | typed, body, rough),
        ("amqp 1.0 on NATS", PLAIN, by_hand("cloudEvents:") | typed, body, rough),
        ("shouting", UNDERSCORED, {name.upper(): value for name, value in texts.items()}, record.value or b"", moment),
    ]


class Bound(Delivery):
    """A delivery of a broker with another binding."""

    binding = PLAIN

    @property
    def cloudevents(self) -> Binding:
        return self.binding


@pytest.mark.parametrize(
    ("name", "binding", "headers", "body", "moment"), messages(), ids=lambda x: x if isinstance(x, str) else ""
)
async def test_what_the_sdk_writes_for_each_protocol_is_read(
    name: str, binding: Binding, headers: dict[str, str], body: bytes, moment: str, until: Until
) -> None:
    bound = Bound("orders.placed", body, headers)
    bound.binding = binding  # type: ignore[misc]
    about = CloudEvent.of(context_of(bound))
    assert (about.id, about.source, about.type, about.specversion) == ("1", "/theirs", "placed", "1.0")
    assert about.subject == "2%25 off größer"
    assert about.time == datetime.fromisoformat(moment)
    assert about.datacontenttype == "application/json"
    assert about.extensions == {"partitionkey": "k", "flag": "true"}
    got: list[Placed] = []
    service = Service("reading", broker=URL)

    @service.subscribe("orders.*")
    async def take(event: Placed) -> None:
        got.append(event)

    async with service, MemoryBroker(URL) as broker:
        await broker.publish(Message("orders.placed", body, headers))
        await until(lambda: got)
    assert got == [Placed(order_id="7")]


@pytest.mark.parametrize("binding", [PLAIN, TEXT, UNDERSCORED])
def test_what_a_binding_writes_it_reads(binding: Binding) -> None:
    said = {"id": "1", "subject": 'two words "100%" größer %25', "tries": 3, "test": True}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
    assert read_headers(binding.write(said), percent=binding.percent) == texts


TIMES = [
    ("2026-11-30T12:00:00Z", "2026-11-30T12:00:00+00:00"),
    ("2026-11-30t12:00:00.5z", "2026-11-30T12:00:00.500000+00:00"),
    ("2026-11-30T12:00:00+01:00", "2026-11-30T12:00:00+01:00"),
    ("2026-11-30T12:00:00.123456789Z", "2026-11-30T12:00:00.123456+00:00"),
    ("2026-11-30T12:00:00", "2026-11-30T12:00:00+00:00"),
    ("1796040000000", "2026-11-30T12:00:00+00:00"),
    (1796040000000, "2026-11-30T12:00:00+00:00"),
    ("tomorrow", None),
    ("9" * 40, None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("said", "moment"), TIMES)
def test_a_time_is_read_in_the_forms_that_there_are(said: object, moment: str | None) -> None:
    found = read_time(said)
    assert (None if found is None else found.isoformat()) == moment


WRAPPED = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":%s}'
NONE: list[tuple[dict[str, str] | None, bytes]] = [
    (None, b"{}"),
    ({"Content-Type": "application/json", "tenant": "acme"}, b"{}"),
    ({"ce-id": "1", "ce-source": "/s"}, b"{}"),
    ({"Content-Type": "application/cloudevents+json"}, b"no json"),
    ({"Content-Type": "application/cloudevents+json"}, b"[]"),
    ({"Content-Type": "application/cloudevents+json"}, b'{"id":1,"source":"/s","type":"t"}'),
    ({"Content-Type": "application/cloudevents+json", "Content-Encoding": "gzip"}, WRAPPED % b"1"),
    ({"Content-Type": "application/cloudevents-batch+json"}, b"[]"),
]


@pytest.mark.parametrize(("headers", "body"), NONE)
def test_what_is_none_is_said_to_be_none(headers: dict[str, str] | None, body: bytes) -> None:
    context = context_of(Delivery("orders.placed", body, headers))
    assert CloudEvent.find(context) is None
    assert CloudEvent.all_of(context) == [None]
    with pytest.raises(UsageError, match=r"the message on orders\.placed is no CloudEvent"):
        CloudEvent.of(context)


class Own(BaseModel):
    """A type of somebody's own for the whole event."""

    specversion: str
    id: str
    data: dict[str, Any]


ENVELOPED: list[tuple[Any, str, bytes, Any]] = [
    (Placed, "application/cloudevents+json; charset=UTF-8", WRAPPED % b'{"order_id":"7"}', Placed(order_id="7")),
    (dict[str, Any], "application/cloudevents+json", WRAPPED % b'{"a":1.10}', {"a": 1.1}),
    (Own, "application/cloudevents+json", WRAPPED % b'{"a":1}', Own(specversion="1.0", id="1", data={"a": 1})),
    (bytes, "application/cloudevents+json", b"no envelope", b"no envelope"),
    (str, "application/cloudevents+json", WRAPPED % b'"hey"', "hey"),
    (
        list[Placed],
        "application/cloudevents-batch+json",
        b"[%s, %s]" % ((WRAPPED % b'{"order_id":"7"}',) * 2),
        [Placed(order_id="7")] * 2,
    ),
    (list[int], "application/cloudevents-batch+json", b"[]", []),
]


@pytest.mark.parametrize(("kind", "label", "body", "value"), ENVELOPED)
async def test_a_structured_event_reaches_a_plain_handler_as_its_data(
    kind: Any, label: str, body: bytes, value: Any, until: Until
) -> None:
    service, got = Service("reading", broker=URL), list[Any]()

    async def take(event: Any) -> None:
        got.append(event)

    service.subscribe(Topic("orders.placed", kind))(take)

    async with service, MemoryBroker(URL) as broker:
        await broker.publish(Message("orders.placed", body, {"content-type": label}))
        await until(lambda: got)
    assert got == [value]


UNREADABLE: list[tuple[str, bytes, str]] = [
    (
        "application/cloudevents-batch+json",
        b"[]",
        "application/cloudevents-batch+json holds several events, and Placed is one",
    ),
    (
        "application/cloudevents+protobuf",
        b"\x0a",
        "'application/cloudevents+protobuf' is not read here: send application/cloud",
    ),
    ("application/cloudevents+json", WRAPPED % b"7", "not a valid Placed"),
    ("application/cloudevents+json", b"no json", "not a CloudEvent in JSON"),
    ("application/cloudevents+json", b'{"id":"1"}', "not a CloudEvent: it has no specversion"),
    *(
        (
            "application/cloudevents+json",
            b'{"specversion":"1.0","datacontenttype":%s,"data":{}}' % label,
            "not a CloudEvent: its datacontenttype is no text",
        )
        for label in (b"5", b"true", b"[]", b'{"a":1}', b"0", b"false")
    ),
    *(
        (
            "application/cloudevents+json",
            b'{"specversion":"1.0","datacontenttype":"%s","data":{"specversion":"1.0","data":{}}}' % label,
            "a CloudEvent within a CloudEvent",
        )
        for label in (b"application/cloudevents+json; charset=latin-1", b"Application/CloudEvents-Batch+JSON")
    ),
]


@pytest.mark.parametrize(("label", "body", "words"), UNREADABLE)
async def test_what_cannot_be_read_is_a_dead_letter_with_its_reason(
    label: str, body: bytes, words: str, until: Until
) -> None:
    service, dead = Service("reading", broker=URL), list[Delivery]()

    @service.subscribe("orders.placed", durable=True, dead_letter="orders.dead")
    async def take(event: Placed) -> None:
        raise AssertionError("it is not to be read")

    async with service, MemoryBroker(URL) as broker:
        await broker.subscribe("orders.dead", dead.append)
        await broker.publish(Message("orders.placed", body, {"content-type": label}))
        await until(lambda: dead)
    assert words in (dead[0].headers or {})["Dead-Letter-Reason"]
    assert dead[0].body == body


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_retries_and_dead_letters_are_the_same_event(mode: Any, until: Until) -> None:
    topic = Topic("orders.kept", Placed, cloudevents=mode, compression="gzip")
    service, dead, tries = Service("keeping", broker=URL), list[Delivery](), list[CloudEvent]()

    @service.subscribe(topic, dead_letter="orders.dead", retry=Retry(attempts=3, backoff=0.001))
    async def take(event: Placed, about: Annotated[CloudEvent, Depends(CloudEvent.of)]) -> None:
        tries.append(about)
        raise ValueError("unlucky")

    async with service, MemoryBroker(URL) as broker:
        await broker.subscribe("orders.dead", dead.append)
        await service.publish(topic, Placed(order_id="x" * 10_000), id="ev-1")
        await until(lambda: dead)
    assert len(tries) == 3
    assert len(set(map(repr, tries))) == 1
    assert CloudEvent.of(context_of(dead[0])) == tries[0]
    assert tries[0].id == "ev-1"


async def test_an_event_that_is_made_of_another_says_nothing_of_that_but_what_its_handler_passes_on(
    until: Until,
) -> None:
    first, second = Topic("orders.first", Placed, cloudevents=SAID), Topic("orders.second", Placed, cloudevents=True)
    service, seen = Service("passing", broker=URL), list[Delivery]()

    @service.subscribe(first)
    async def pass_on(event: Placed, context: Context) -> None:
        await service.publish(second, event, metadata=context.metadata)

    async with service, MemoryBroker(URL) as broker:
        await broker.subscribe("orders.second", seen.append)
        await service.publish(first, Placed(order_id="7"), id="ev-1")
        await until(lambda: seen)
    about = CloudEvent.of(context_of(seen[0]))
    assert about.id != "ev-1"
    assert (about.source, about.type, about.subject, about.dataschema) == ("/passing", "orders.second", None, None)
    assert about.extensions == {"tenant": "acme", "tries": "3", "test": "true", "traceparent": "00-1-2-03"}


async def test_middleware_and_several_at_once_go_the_same_way(until: Until) -> None:
    async def look(message: Any, context: Any, call_next: Any) -> Any:
        context.metadata["tenant"] = "acme"
        return await call_next(message, context)

    topic, seen = Topic("orders.placed", Placed, id="order_id", cloudevents=True), list[Delivery]()
    async with MemoryBroker(URL) as broker, Client(URL, middleware=[look]) as client, Client(URL) as plain:
        await broker.subscribe("orders.placed", seen.append)
        await client.publish(topic, Placed(order_id="1"))
        await client.publish_many(topic, [Placed(order_id="2"), Placed(order_id="3")])
        await plain.publish_many(topic, [Placed(order_id="4"), Placed(order_id="5")])
        await plain.publisher(topic).publish(Placed(order_id="6"))
        await until(lambda: len(seen) == 6)
    assert [CloudEvent.of(context_of(each)).id for each in seen] == ["1", "2", "3", "4", "5", "6"]
    assert [(each.headers or {}).get("tenant") for each in seen] == ["acme"] * 3 + [None] * 3


async def test_a_batch_of_handled_events_has_what_each_says(until: Until) -> None:
    from eventmicro import Batch

    topic, got = Topic("orders.many", Placed, id="order_id", cloudevents=True), list[list[CloudEvent | None]]()
    service = Service("together", broker=URL)

    @service.subscribe(topic, batch=Batch(size=3, within=5))
    async def take(events: list[Placed], context: Context) -> None:
        got.append(CloudEvent.all_of(context))

    async with service:
        await service.publish_many(topic, [Placed(order_id=str(number)) for number in range(2)])
        await service.publish("orders.many", Placed(order_id="plain"))
        await until(lambda: got)
    assert [about and about.id for about in got[0]] == ["0", "1", None]


async def test_a_partition_key_is_the_events_key(until: Until) -> None:
    said = CloudEvents(extensions=lambda event: {"partitionkey": event.order_id})
    topic = Topic("orders.placed", Placed, cloudevents=said)
    async with Client(URL) as client:
        message = client._publisher.routes.find(topic).message(Placed(order_id="7"), None, None, None)
    assert message.key == "7"


async def test_large_data_is_apart_and_the_attributes_are_not(until: Until) -> None:
    topic, got = Topic("files.sent", bytes, large="object", cloudevents=True), list[tuple[int, CloudEvent]]()
    broker = MemoryBroker("memory://cloudevents-large", max_payload=10_000)
    service = Service("files", broker=broker)

    @service.subscribe(topic)
    async def take(event: bytes, about: Annotated[CloudEvent, Depends(CloudEvent.of)]) -> None:
        got.append((len(event), about))

    async with broker, service:
        await service.publish(topic, b"x" * 50_000, id="ev-1")
        await service.publish_many(topic, [b"x" * 60_000], id=len)
        await until(lambda: len(got) == 2)
        with pytest.raises(UsageError, match="do not go together"):
            await service.publish(Topic("files.sent", bytes, cloudevents="structured"), b"", large="object")
    assert [(size, about.id) for size, about in got] == [(50_000, "ev-1"), (60_000, "60000")]


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Topic("a", Placed, cloudevents="batch"), "mode='batch'"),  # type: ignore[call-overload]
    (lambda: Topic("a", Placed, cloudevents=7), "cloudevents=7: write True, 'structured' or CloudEvents"),  # type: ignore[call-overload]
    (lambda: Topic("a", Placed, cloudevents="structured", large="object"), "do not go together"),
    (lambda: CloudEvents(source=""), "attribute source=''"),
    (lambda: CloudEvents(type="two\nlines"), "write a text of one line"),
    (lambda: CloudEvents(time=AT), "write a function of the event"),  # type: ignore[arg-type]
    (lambda: CloudEvents(extensions={"Tenant": "acme"}), "extension 'Tenant': write lower-case letters and digits"),
    (lambda: CloudEvents(extensions={"id": "1"}), "extension 'id'"),
    (lambda: CloudEvents(extensions={"tenant": 1.5}), "attribute tenant=1.5"),  # type: ignore[dict-item]
    (lambda: CloudEvents(extensions=["tenant"]), "write a dict"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_what_cannot_be_written_is_refused_where_it_is_said(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


async def test_what_a_function_gives_that_cannot_be_written_is_refused_and_nothing_is_sent() -> None:
    wrong = [
        CloudEvents(subject=lambda event: "two\nlines"),
        CloudEvents(time=lambda event: "now"),
        CloudEvents(type=lambda event: None),
        CloudEvents(extensions=lambda event: {"No": 1}),
    ]
    async with Client(URL) as client:
        for said in wrong:
            with pytest.raises(UsageError):
                await client.publish(Topic("a", Placed, cloudevents=said), Placed(order_id="7"))


def test_cloudevents_within_one_another_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level looks through all that is below it: a peer that sends a hundred would stop the event loop."""
    scanned: list[int] = []
    scan = reading.members_of
    monkeypatch.setattr(reading, "members_of", lambda text: scanned.append(len(text)) or scan(text))
    before = b'{"specversion":"1.0","datacontenttype":"application/cloudevents+json","data":'
    body = before * 150 + b'{"order_id":7}' + b"}" * 150
    with pytest.raises(DecodeError, match="a CloudEvent within a CloudEvent"):
        Codecs().body(Placed).load(body, "application/cloudevents+json")
    assert scanned == [len(body)]


def test_of_the_label_of_data_no_more_is_kept_than_of_any() -> None:
    label = "text/plain;" + "x" * 100_000
    media_type.cache_clear()  # other tests may have filled it
    body = json.dumps({"specversion": "1.0", "datacontenttype": label, "data": "tea"}).encode()
    assert Codecs().body(str).load(body, "application/cloudevents+json") == "tea"
    assert media_type.cache_info().currsize == 1
    assert media_type("text/plain;" + "x" * (MAX_CONTENT_TYPE - len("text/plain;"))) == "text/plain"
    assert media_type.cache_info().currsize == 1


OPTIONAL: list[tuple[Any, dict[str, Any]]] = [
    ("binary", {}),
    ("structured", {}),
    ("binary", {"large": "object"}),
    (None, {"large": "object"}),
    (None, {}),
]


@pytest.mark.parametrize(("mode", "words"), OPTIONAL)
@pytest.mark.parametrize("has_middleware", [False, True])
async def test_none_is_a_tombstone_whatever_else_is_said_of_its_topic(
    mode: Any, words: dict[str, Any], has_middleware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(MemoryBroker, "try_publish", lambda self, message: sent.append(message) or True)
    kind: Any = Placed | None
    topic: Topic[Any] = Topic("orders.placed", kind, cloudevents=mode, **words)

    async def pass_on(event: Any, context: Context, call_next: Any) -> Any:
        return await call_next(event, context)

    async with Client(URL, middleware=[pass_on] if has_middleware else []) as client:
        await client.publish(topic, None, key="o-1", id="e-1")
        await client.publish(topic, Placed(order_id="o-1"), key="o-1")
    assert [type(each) is Tombstone for each in sent] == [True, False]
    assert (sent[0].subject, sent[0].key, sent[0].id, sent[0].body) == ("orders.placed", "o-1", "e-1", b"null")
    said = read_headers(sent[0].headers, percent=True)
    assert (said.get("id"), said.get("partitionkey")) == (("e-1", "o-1") if mode else (None, None))


async def test_a_function_that_takes_no_none_is_named() -> None:
    topic: Topic[Any] = Topic("orders.placed", Placed | None, cloudevents=SAID)  # type: ignore[call-overload]
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=r"orders.placed: a function of CloudEvents\(...\) takes no None"):
            await client.publish(topic, None, key="o-1")
