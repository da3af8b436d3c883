"""AsyncAPI documents: what is in them, that they hold together, and that the official parser takes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eventmicro_rabbitmq import RabbitBinding, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel, Field

from eventmicro import Service, Topic
from eventmicro.broker import Broker
from eventmicro.generating.asyncapi import ERROR, write_document
from eventmicro.generating.components import Components
from eventmicro.generating.page import write_page
from eventmicro.registry import EndpointRecord, ServiceRecord
from eventmicro.running.recording import make_service_record

PARSER = Path(__file__).parents[3] / ".venv" / "asyncapi"


class Line(BaseModel):
    sku: str
    quantity: int = Field(1, description="how <many>")


class Order(BaseModel):
    id: str
    lines: list[Line]
    parent: Order | None = None


class Quote(BaseModel):
    total: float


def other_line() -> type[BaseModel]:
    class Line(BaseModel):
        weight: float

    return Line


def shop() -> Service:
    service = Service("shop", version="1.2.0")

    @service.rpc
    async def quote(order: Order) -> Quote:
        return Quote(total=len(order.lines))

    @service.rpc(timeout=5)
    async def watch(order: Order) -> AsyncIterator[Quote]:
        yield Quote(total=1)

    @service.rpc
    async def ping() -> None: ...

    @service.rpc
    async def raw(body: bytes) -> list[Line]:
        return []

    @service.rpc(internal=True)
    async def hidden(line: Line) -> None: ...

    @service.subscribe(Topic("orders.*.placed", Order))
    async def bill(order: Order) -> None: ...

    @service.subscribe(Topic("logs.>", Line), queue=None)
    async def log(line: Line) -> None: ...

    @service.subscribe(Topic("logs.>", dict[str, Order]), queue="other")
    async def weigh(lines: dict[str, Order]) -> None: ...

    return service


def record(service: Service, broker: Broker | None = None) -> ServiceRecord:
    parts = service.endpoints.values(), service.subscribers.values()
    return make_service_record(service.name, service.version, service.metadata, *parts, broker, broker)


def joined() -> Service:
    """On exchanges and queues of others."""
    service = Service("joined")
    red = RabbitExchange("red", type="fanout")
    kinds = RabbitExchange("kinds", type="x-consistent-hash", durable=False)
    new = RabbitBinding(exchange=kinds, key="7", arguments={"kind": "new"})
    placed = Topic("orders.placed", Order, exchange=red)

    @service.rpc
    async def quote(order: Order) -> Quote:
        return Quote(total=1)

    @service.subscribe(placed, queue=RabbitQueue("billing", type="classic", bind=[RabbitBinding(), new]))
    async def bill(order: Order) -> None: ...

    @service.subscribe("orders.placed", queue=None)
    async def see(order: Order) -> None: ...

    @service.subscribe("orders.*")
    async def count(order: Order) -> None: ...

    @service.subscribe(Topic("invoices", Order, exchange=RabbitExchange("")), queue=RabbitQueue("invoices"))
    async def invoice(order: Order) -> None: ...

    return service


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def find(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for word in reference[2:].split("/"):
        document = document[word.replace("~1", "/").replace("~0", "~")]
    return document


def test_endpoints_and_subscribers_are_operations_on_channels() -> None:
    document = write_document(
        [record(shop())], "jetstream://a:4222", {"shop": "Sells.", "shop.quote": "What it costs."}
    )
    assert document["info"] == {"title": "shop", "version": "1.2.0", "description": "Sells."}
    assert list(document["operations"]) == [
        f"shop.{name}" for name in ["ping", "quote", "raw", "watch", "log", "weigh", "bill"]
    ]
    quote = document["operations"]["shop.quote"]
    assert quote["description"] == "What it costs."
    assert quote["bindings"] == {"nats": {"queue": "q"}}
    channel = find(document, quote["channel"]["$ref"])
    assert channel["address"] == "shop.quote"
    [request] = quote["messages"]
    assert find(document, find(document, request["$ref"])["$ref"])["payload"] == {"$ref": "#/components/schemas/Order"}
    assert find(document, quote["reply"]["channel"]["$ref"])["address"] is None
    reply, error = (find(document, find(document, each["$ref"])["$ref"]) for each in quote["reply"]["messages"])
    assert reply["payload"] == {"$ref": "#/components/schemas/Quote"}
    assert find(document, error["payload"]["$ref"]) == ERROR
    assert document["operations"]["shop.watch"]["x-stream"] == "server"
    bill = document["operations"]["shop.bill"]
    assert "reply" not in bill
    assert bill["bindings"] == {"nats": {"queue": "shop.bill"}}
    topic = find(document, bill["channel"]["$ref"])
    assert (topic["address"], topic["x-subject"]) == ("orders.{token2}.placed", "orders.*.placed")
    assert list(topic["parameters"]) == ["token2"]
    assert "bindings" not in document["operations"]["shop.log"]
    logs = document["channels"]["logs.>"]
    assert (logs["address"], len(logs["messages"])) == ("logs.{rest}", 2)


def test_on_rabbitmq_it_says_by_which_exchange_events_come_and_how_a_queue_is_bound() -> None:
    document = write_document([record(joined(), RabbitBroker("amqp://a/shop?exchange=sales"))], "amqp://a/shop")
    channels = {name: each["bindings"]["amqp"] for name, each in document["channels"].items() if each["address"]}
    exchanges = {
        name: (each["exchange"]["name"], each["exchange"]["type"], each["exchange"]["vhost"])
        for name, each in channels.items()
        if each["is"] == "routingKey"
    }
    assert exchanges == {
        "orders.*": ("sales", "topic", "shop"),
        "orders.placed": ("red", "fanout", "shop"),
        "orders.placed@sales": ("sales", "topic", "shop"),
    }
    queues = {name: each["queue"]["name"] for name, each in channels.items() if each["is"] == "queue"}
    assert queues == {"joined.quote": "joined.quote", "invoices": "invoices"}
    of = {name: each["bindings"]["amqp"] for name, each in document["operations"].items()}
    bound = {
        name: [(b["exchange"]["name"], b["routingKey"], b.get("arguments")) for b in each.get("x-bindings", ())]
        for name, each in of.items()
    }
    assert bound == {
        "joined.quote": [("sales.calls", "joined.quote", None)],
        "joined.bill": [("red", "orders.placed", None), ("kinds", "7", {"kind": "new"})],
        "joined.see": [("sales", "orders.placed", None)],
        "joined.count": [("sales", "orders.*", None)],
        "joined.invoice": [],
    }
    kinds = of["joined.bill"]["x-bindings"][1]["exchange"]
    assert (kinds["x-type"], kinds["durable"], "type" in kinds) == ("x-consistent-hash", False, False)
    assert of["joined.bill"]["x-queue"]["arguments"] == {"x-queue-type": "classic"}
    assert of["joined.count"]["x-queue"]["name"] == "joined.count"
    assert of["joined.count"]["x-queue"]["arguments"]["x-queue-type"] == "quorum"
    assert "x-queue" not in of["joined.see"]


def test_by_which_header_types_are_told_apart_is_one_of_the_message() -> None:
    service = Service("till")
    topic: Topic[Line | Quote] = Topic("till.events", Line | Quote, told_by="Event-Type")

    @service.subscribe(topic)
    async def see(event: Line | Quote) -> None: ...

    document = write_document([record(service)])
    (message,) = document["components"]["messages"].values()
    assert message["headers"] == {
        "type": "object",
        "required": ["Event-Type"],
        "properties": {"Event-Type": {"enum": ["Line", "Quote"]}},
    }


def test_what_a_record_says_of_bindings_and_nobody_can_read_is_left_out() -> None:
    for text in ("{", "[]", '{"channel": 1}'):
        odd = EndpointRecord(name="x", metadata={"subscriber": "true", "topic": "a", "queue": "q", "bindings": text})
        document = write_document([ServiceRecord(name="shop", endpoints=[odd])])
        assert document["operations"]["shop.x"]["x-queue"] == "q"
        assert "bindings" not in document["channels"]["a"]


def test_every_reference_leads_somewhere_and_none_is_left_of_a_type_of_its_own() -> None:
    document = write_document([record(shop())], "kafka://me:secret@a:9092,b:9092?sasl=PLAIN")
    found = list(references(document))
    assert found
    for reference in found:
        find(document, reference)
    assert "$defs" not in json.dumps(document)
    assert "secret" not in json.dumps(document)


def test_types_of_one_name_that_are_unlike_are_two_and_alike_ones_one() -> None:
    components = Components()
    one, other, again = (components.add(kind.model_json_schema(), "x") for kind in (Line, other_line(), Line))
    assert one == again != other
    assert list(components.schemas) == ["Line", "Line2"]
    components.add({"$defs": {"Line": Line.model_json_schema()}, "items": {"$ref": "#/$defs/Line"}}, "x")
    assert list(components.schemas) == ["Line", "Line2"]


@dataclass(frozen=True)
class Login:
    url: str
    protocol: str
    hosts: tuple[str, ...]
    schemes: dict[str, str]


LOGINS = [
    Login("nats://a:4222", "nats", ("a:4222",), {}),
    Login("tls://token@a:4222", "nats", ("a:4222",), {"token": "apiKey"}),
    Login(
        "amqps://u:p@a:5671/shop?tls_cert=c.pem", "amqps", ("a:5671",), {"user": "userPassword", "certificate": "X509"}
    ),
    Login("kafkas://u:p@a:1,b:2", "kafka-secure", ("a:1", "b:2"), {"sasl": "scramSha256"}),
    Login("kafka://u:p@a:1?sasl=SCRAM-SHA-512", "kafka", ("a:1",), {"sasl": "scramSha512"}),
]


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.url.partition(":")[0])
def test_a_brokers_url_gives_its_servers_and_how_one_logs_in(login: Login) -> None:
    document = write_document([record(shop())], login.url)
    servers = document["servers"].values()
    assert tuple(server["host"] for server in servers) == login.hosts
    assert {server["protocol"] for server in servers} == {login.protocol}
    schemes = document["components"].get("securitySchemes", {})
    assert {name: each["type"] for name, each in schemes.items()} == login.schemes
    assert all(len(server.get("security", ())) == len(login.schemes) for server in servers)


def test_two_versions_of_a_service_are_both_there() -> None:
    old = ServiceRecord(name="shop", version="1.0.0", endpoints=[EndpointRecord(name="quote")])
    new = ServiceRecord(
        name="shop", version="2.0.0", endpoints=[EndpointRecord(name="quote", request={"type": "string"})]
    )
    document = write_document([old, new])
    assert list(document["operations"]) == ["shop.quote", "shop.quote@2.0.0"]
    assert len(document["channels"]["shop.quote"]["messages"]) == 2
    assert document["info"]["description"] == "shop 1.0.0\nshop 2.0.0"


def test_the_page_has_all_of_it_and_nothing_runs_in_it() -> None:
    about = {"shop": "<script>alert(1)</script>", "shop.quote": "a & b"}
    page = write_page(write_document([record(shop())], "nats://a", about))
    assert "<script" not in page
    assert "how &lt;many&gt;" in page
    assert "a &amp; b" in page
    for name in ("shop.quote", "shop.bill", "orders.*.placed", "type-Order"):
        assert name in page
    hostile = ServiceRecord(
        name="shop",
        endpoints=[EndpointRecord(name="x", request={"title": "'><img src=x>", "properties": {"'>": True}})],
    )
    assert "<img" not in write_page(write_document([hostile]))


def parse(*files: Path) -> subprocess.CompletedProcess[str]:
    command = ["node", str(Path(__file__).with_name("check_asyncapi.mjs")), str(PARSER.resolve()), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(
    not (PARSER / "version").is_file() or not shutil.which("node"),
    reason="AsyncAPI's parser is not here: install Node.js, then make servers",
)
def test_the_official_parser_takes_them(tmp_path: Path) -> None:
    urls = None, "jetstream://u:p@a:4222,b:4222", "amqps://u:p@a:5671/shop?tls_cert=c", "kafka://u:p@a:1"
    files = [tmp_path / f"{number}.json" for number in range(len(urls))]
    for url, file in zip(urls, files, strict=True):
        file.write_text(json.dumps(write_document([record(shop())], url)), encoding="utf-8")
    files.append(tmp_path / "joined.json")
    files[-1].write_text(json.dumps(write_document([record(joined(), RabbitBroker())], "amqp://a")), encoding="utf-8")
    done = parse(*files)
    assert done.returncode == 0, done.stderr
    document = write_document([record(shop())])
    del document["channels"]["shop.quote"]
    files[0].write_text(json.dumps(document), encoding="utf-8")
    assert "shop.quote" in parse(files[0]).stderr
