"""Events in the framing of a schema registry: Confluent's own serializers read what we write, and we what they do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from eventmicro_kafka import KafkaRecord
from eventmicro_kafka.schema_registry import SchemaRegistry
from google.protobuf.wrappers_pb2 import StringValue
from pydantic import BaseModel

from eventmicro import Client, Depends, Retry, Service, Topic
from eventmicro.codec import NotReady
from eventmicro.codecs import Codecs
from eventmicro.errors import DecodeError, Disconnected, EncodeError, UsageError
from tests.conftest import Until
from tests.integration.kafka.admin import make_topic, running
from tests.integration.kafka.kit import records_of
from tests.servers.schema_registry import SchemaRegistryServer


class Colour(Enum):
    RED = "RED"
    BLUE = "BLUE"


class Order(BaseModel):
    sku: str
    quantity: int = 1
    price: Decimal = Decimal("1.50")
    at: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    colour: Colour = Colour.RED


AVRO = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "namespace": "shop",
        "fields": [
            {"name": "sku", "type": "string"},
            {"name": "quantity", "type": "int"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}},
        ],
    }
)
ORDER = Order(sku="tea", quantity=3, price=Decimal("12.34"), colour=Colour.BLUE)


@pytest.fixture
def server() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as server:
        yield server


@pytest.fixture
def registry(server: SchemaRegistryServer) -> SchemaRegistry:
    return SchemaRegistry(server.url)


@pytest.fixture
def theirs(server: SchemaRegistryServer) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": server.url})


class Bench:
    """A topic with a codec, a service that takes its events, and foreign serializers."""

    def __init__(self, url: str, subject: str, until: Until) -> None:
        self.url = url
        self.subject = subject
        self.until = until
        self.got: list[Any] = []
        self.context = SerializationContext(subject, MessageField.VALUE, headers=[])

    def service(self, topic: Topic[Any], **words: Any) -> Service:
        service = Service(f"s-{self.subject}")

        async def take(event: Any) -> None:
            self.got.append(event)

        words |= {"start": "all", "queue": f"{self.subject}.q", "dead_letter": f"{self.subject}.dead"}
        service.subscribe(topic, **words)(take)
        return service

    async def produce(self, body: bytes | None, headers: Any = None) -> None:
        """By confluent-kafka."""
        producer = Producer({"bootstrap.servers": self.url.removeprefix("kafka://")})
        producer.produce(self.subject, body, headers=headers)
        assert producer.flush(10) == 0

    async def values(self) -> list[bytes]:
        return [record.value async for record in records_of(self.url, self.subject)]


@pytest.fixture
def bench(kafka_url: str, subject: str, until: Until) -> Bench:
    return Bench(kafka_url, subject, until)


@pytest.mark.parametrize("kind", ["avro", "json", "protobuf"])
async def test_each_side_reads_what_the_other_wrote(
    kind: str, bench: Bench, registry: SchemaRegistry, theirs: SchemaRegistryClient, server: SchemaRegistryServer
) -> None:
    event: Any = ORDER
    if kind == "avro":
        codec = registry.avro(f"{bench.subject}-value", AVRO, register=True)
        write = AvroSerializer(theirs, AVRO, lambda order, _: order)
        read, written = AvroDeserializer(theirs), ORDER.model_dump() | {"colour": "BLUE"}
    elif kind == "json":
        codec = registry.json(f"{bench.subject}-value", register=True)
        schema = json.dumps({"title": "Order"} | Order.model_json_schema(mode="serialization"))
        write, read = JSONSerializer(schema, theirs), JSONDeserializer(schema)
        written = ORDER.model_dump(mode="json")
    else:
        event = written = StringValue(value="tea")
        codec = registry.protobuf(f"{bench.subject}-value", register=True)
        write = ProtobufSerializer(StringValue, theirs, {"use.deprecated.format": False})
        read = ProtobufDeserializer(StringValue, {"use.deprecated.format": False})
    topic: Topic[Any] = Topic(bench.subject, type(event), codec=codec)
    await make_topic(bench.url, bench.subject)
    async with Client(bench.url) as client, running(bench.service(topic), bench.url):
        await client.publish(topic, event)
        await client.publish_many(topic, [event, event])
        await bench.produce(write(written, bench.context))
        await bench.until(lambda: len(bench.got) == 4)
    assert bench.got == [event] * 4
    values = await bench.values()
    assert [read(value, bench.context) for value in values] == [written] * 4
    assert values[0] == values[1] == values[2]
    assert values[0][0] == 0
    assert len(server.requests) < 10, "each schema is asked for once"


async def test_what_the_newer_serializers_say_in_a_header_is_read(
    bench: Bench, registry: SchemaRegistry, theirs: SchemaRegistryClient
) -> None:
    topic = Topic(bench.subject, Order, codec=registry.avro(f"{bench.subject}-value"))
    write = AvroSerializer(theirs, AVRO, lambda order, _: order, {"schema.id.serializer": header_schema_id_serializer})
    headers: list[Any] = []
    context = SerializationContext(bench.subject, MessageField.VALUE, headers=headers)
    await make_topic(bench.url, bench.subject)
    async with running(bench.service(topic), bench.url):
        body = write(ORDER.model_dump() | {"colour": "BLUE"}, context)
        assert headers[0][0] == "__value_schema_id"
        await bench.produce(body, headers)
        await bench.until(lambda: bench.got)
    assert bench.got == [ORDER]


async def test_references_between_schemas_are_followed(
    bench: Bench, registry: SchemaRegistry, theirs: SchemaRegistryClient
) -> None:
    item = {"type": "record", "name": "Item", "namespace": "shop", "fields": [{"name": "sku", "type": "string"}]}
    basket = {
        "type": "record",
        "name": "Basket",
        "fields": [{"name": "items", "type": {"type": "array", "items": "shop.Item"}}],
    }
    theirs.register_schema("items", Schema(json.dumps(item), "AVRO"))
    reference = SchemaReference("shop.Item", "items", 1)
    theirs.register_schema(f"{bench.subject}-value", Schema(json.dumps(basket), "AVRO", [reference]))
    topic: Topic[Any] = Topic(bench.subject, dict[str, Any], codec=registry.avro(f"{bench.subject}-value"))
    async with Client(bench.url) as client, running(bench.service(topic), bench.url):
        await client.publish(topic, {"items": [{"sku": "tea"}, {"sku": "salt"}]})
        await bench.until(lambda: bench.got)
    assert bench.got == [{"items": [{"sku": "tea"}, {"sku": "salt"}]}]


async def test_events_wait_while_the_registry_is_away_and_are_none_the_worse_for_it(
    bench: Bench, server: SchemaRegistryServer, theirs: SchemaRegistryClient, caplog: pytest.LogCaptureFixture
) -> None:
    registry = SchemaRegistry(server.url)
    topic = Topic(bench.subject, Order, codec=registry.avro(f"{bench.subject}-value"))
    write = AvroSerializer(theirs, AVRO, lambda order, _: order)
    await make_topic(bench.url, bench.subject)
    await bench.produce(write(ORDER.model_dump() | {"colour": "BLUE"}, bench.context))
    server.away = True
    async with running(bench.service(topic, retry=Retry(attempts=1)), bench.url):
        await bench.until(lambda: "waits to be read" in caplog.text)
        server.away = False
        await bench.until(lambda: bench.got)
    assert bench.got == [ORDER]
    assert caplog.text.count("waits to be read") == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "not in the framing of a schema registry"),
        (b"\0\0\0\x03\xe7abc", "schema 999, which is not in"),
        (b"\0\0\0\0\1\xff", "not written by its schema"),
        (b"\0\0\0\0\1\6tea\6\4\4\xd2\0\0left over", "left over"),
        (b"", "not in the framing"),
    ],
    ids=str,
)
async def test_what_cannot_be_read_is_a_dead_letter_with_the_reason(
    body: bytes, said: str, bench: Bench, registry: SchemaRegistry, theirs: SchemaRegistryClient
) -> None:
    theirs.register_schema(f"{bench.subject}-value", Schema(AVRO, "AVRO"))
    topic = Topic(bench.subject, Order, codec=registry.avro(f"{bench.subject}-value"))
    reasons: list[bytes] = []
    service = bench.service(topic)

    @service.subscribe(f"{bench.subject}.dead", queue=f"{bench.subject}.letters", start="all")
    async def letter(body: bytes, record: Annotated[KafkaRecord, Depends(KafkaRecord.of)]) -> None:
        reasons.extend(record.values("Dead-Letter-Reason"))

    await make_topic(bench.url, bench.subject)
    async with running(service, bench.url):
        await bench.produce(body)
        await bench.until(lambda: reasons)
    assert said in reasons[0].decode()
    assert bench.got == []


async def test_what_a_schema_does_not_hold_is_not_written(bench: Bench, registry: SchemaRegistry) -> None:
    """fastavro itself would write another number."""
    topic = Topic(bench.subject, Order, codec=registry.avro(f"{bench.subject}-value", AVRO, register=True))
    async with Client(bench.url) as client:
        for wrong in (2**31, 1.5):
            with pytest.raises(EncodeError, match="cannot be written"):
                await client.publish(topic, Order.model_construct(**{**ORDER.model_dump(), "quantity": wrong}))
        await client.publish(topic, ORDER)
    assert len(await bench.values()) == 1


async def test_a_subject_that_is_not_there_or_of_another_kind_is_named(
    bench: Bench, registry: SchemaRegistry, theirs: SchemaRegistryClient
) -> None:
    theirs.register_schema("known-value", Schema(AVRO, "AVRO"))
    async with Client(bench.url) as client:
        for codec, said in (
            (registry.avro("unknown-value"), "no subject 'unknown-value'"),
            (registry.avro("unknown-value", AVRO), "register=True"),
            (registry.json("known-value"), "is AVRO, and this is JSON"),
        ):
            with pytest.raises(UsageError, match=said):
                await client.publish(Topic(bench.subject, Order, codec=codec), ORDER)


def test_what_cannot_be_is_refused_where_it_is_written_down() -> None:
    for wrong in ("localhost:8081", "ftp://a", "http://user:secret@a", []):
        with pytest.raises(UsageError, match="http://host:8081"):
            SchemaRegistry(wrong)  # type: ignore[arg-type]
    registry = SchemaRegistry("http://127.0.0.1:1")
    with pytest.raises(UsageError, match="the topic's codec says it"):
        Topic("t", Order, codec=registry.json("t-value"), content_type="json")
    with pytest.raises(UsageError, match="is no codec"):
        Topic("t", Order, codec="avro")  # type: ignore[arg-type]


async def read(registry: SchemaRegistry, body: bytes) -> Any:
    decode = registry.avro("orders-value").decoder(Order)
    while True:
        try:
            return decode(body)
        except NotReady as missing:
            await missing.fetch()


async def test_many_events_of_one_schema_ask_for_it_once(
    server: SchemaRegistryServer, registry: SchemaRegistry, theirs: SchemaRegistryClient
) -> None:
    theirs.register_schema("orders-value", Schema(AVRO, "AVRO"))
    codec, server.requests[:] = registry.avro("orders-value"), []
    encode = codec.encoder(Order)
    with pytest.raises(NotReady):
        encode(ORDER)
    bodies: list[bytes] = []
    while not bodies:
        try:
            bodies.append(encode(ORDER))
        except NotReady as missing:
            await missing.fetch()
    fresh = SchemaRegistry(server.url)
    server.requests.clear()
    assert await asyncio.gather(*(read(fresh, bodies[0]) for _ in range(50))) == [ORDER] * 50
    assert server.requests == ["GET /schemas/ids/1"]


async def test_a_schema_that_is_not_there_is_not_asked_for_by_each_event(
    server: SchemaRegistryServer, registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        with pytest.raises(DecodeError, match="written by schema 77, which is not in"):
            await read(registry, b"\0\0\0\0\x4d")
    assert server.requests == ["GET /schemas/ids/77"]
    for key, (_, error) in list(registry._absent.items()):  # some seconds later
        registry._absent[key] = (0.0, error)
    with pytest.raises(DecodeError):
        await read(registry, b"\0\0\0\0\x4d")
    assert server.requests == ["GET /schemas/ids/77"] * 2


async def test_a_login_goes_to_no_other_server_by_a_redirect(server: SchemaRegistryServer) -> None:
    """Python's own way follows, and takes the login along."""

    class Away(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", server.url + self.path)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Away) as away:
        threading.Thread(target=away.serve_forever, daemon=True).start()
        registry = SchemaRegistry(f"http://127.0.0.1:{away.server_port}", user="shop", password="secret")
        with pytest.raises(Disconnected, match="302"):
            await registry.schema(1)
        away.shutdown()
    assert server.requests == []


@pytest.mark.parametrize("make", ["avro", "json"])
def test_the_type_without_none_is_what_is_written(registry: SchemaRegistry, make: str) -> None:
    body = Codecs().body_by(Order | None, getattr(registry, make)("orders-value"))
    assert body.encode(None) == b""
    assert body.of_nothing() is None
    with pytest.raises(NotReady):
        body.encode(ORDER)
    assert Codecs().body_by(StringValue | None, registry.protobuf("texts-value")).encode(None) == b""
