"""ADR-32, to the letter: each node answers who it is, what it has and what it has done. On memory here; NATS' own
programs read the same in tests/integration/nats/test_services_api.py.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import BadRequest, Client, MemoryBroker, Service
from eventmicro.discovery import asking
from eventmicro.discovery.asking import ask_all
from eventmicro.information import MAX_ANSWER, WHOLE, read_information, record_of
from eventmicro.message import Delivery, Message
from eventmicro.registry import ServiceRecord

URL = "memory://services-api"


class Quote(BaseModel):
    """A doc string with “quotes”."""

    total: float = 0.0


def service(id: str = "one", **words: Any) -> Service:
    service = Service(
        "orders", version="1.2.3", description="Takes orders.", metadata={"team": "shop"}, id=id, broker=URL, **words
    )

    @service.rpc
    async def quote(request: Quote) -> Quote:
        if request.total < 0:
            raise BadRequest("less than nothing\nat all")
        return request

    @service.rpc(internal=True)
    async def secret() -> None: ...

    @service.subscribe("orders.placed")
    async def bill(event: Quote) -> None: ...

    return service


async def answers(subject: str, **words: Any) -> list[dict[str, Any]]:
    async with MemoryBroker(URL) as broker:
        return [json.loads(answer.body) for answer in await ask_all(broker, subject, **words)]


METADATA = {"team": "shop", "framework": "eventmicro", "broker": "memory"}
WHO = {"name": "orders", "id": "one", "version": "1.2.3", "metadata": METADATA}


@pytest.mark.parametrize("subject", ["$SRV.PING", "$SRV.PING.orders", "$SRV.PING.orders.one"])
async def test_ping(subject: str) -> None:
    async with service():
        assert await answers(subject) == [WHO | {"type": "io.nats.micro.v1.ping_response"}]


@pytest.mark.parametrize("subject", ["$SRV.INFO", "$SRV.INFO.orders", "$SRV.INFO.orders.one"])
async def test_info(subject: str) -> None:
    async with service():
        (info,) = await answers(subject)
    schemas = info["endpoints"][0].pop("metadata")
    assert info == WHO | {
        "type": "io.nats.micro.v1.info_response",
        "description": "Takes orders.",
        "endpoints": [{"name": "quote", "subject": "orders.quote", "queue_group": "q"}],
    }
    assert all(isinstance(text, str) for text in schemas.values())
    assert json.loads(schemas["request_schema"])["properties"]["total"]["type"] == "number"
    assert json.loads(schemas["reply_schema"])["title"] == "Quote"


async def test_stats_count_what_was_answered_and_what_failed() -> None:
    async with service(), Client(URL) as client:
        for _ in range(3):
            await client.call("orders.quote", Quote(), Quote)
        with pytest.raises(BadRequest):
            await client.call("orders.quote", Quote(total=-1), Quote)
        (stats,) = await answers("$SRV.STATS.orders.one")
    (endpoint,) = stats.pop("endpoints")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stats.pop("started"))
    assert stats == WHO | {"type": "io.nats.micro.v1.stats_response"}
    spent, average = endpoint.pop("processing_time"), endpoint.pop("average_processing_time")
    assert (type(spent), type(average), average) == (int, int, spent // 4)
    latency = endpoint["data"].pop("latency")
    assert sum(latency.values()) == 4
    assert endpoint == {
        "name": "quote",
        "subject": "orders.quote",
        "queue_group": "q",
        "num_requests": 4,
        "num_errors": 1,
        "last_error": "400:less than nothing\nat all",
        "data": {"errors": {"400": 1}},
    }


async def test_one_that_has_done_nothing_has_every_figure_and_no_null() -> None:
    async with service():
        (stats,) = await answers("$SRV.STATS")
    endpoint = stats["endpoints"][0]
    assert (endpoint["num_requests"], endpoint["last_error"], endpoint["average_processing_time"]) == (0, "", 0)
    assert "null" not in json.dumps(stats)


async def test_every_instance_answers_and_each_for_itself() -> None:
    async with service("one"), service("two"), service("three"):
        assert sorted(each["id"] for each in await answers("$SRV.PING.orders")) == ["one", "three", "two"]
        assert [each["id"] for each in await answers("$SRV.PING.orders.two")] == ["two"]
        assert await answers("$SRV.PING.payments") == []
        assert await answers("$SRV.PING.ORDERS") == []
    assert await answers("$SRV.PING") == []


async def test_who_asks_for_the_record_gets_it_beside_the_rest() -> None:
    async with service():
        (info,) = await answers("$SRV.INFO", headers=WHOLE)
    record = ServiceRecord.model_validate(info["record"])
    assert [(each.name, each.is_subscriber) for each in record.endpoints] == [("quote", False), ("bill", True)]
    assert record.endpoints[1].metadata == {"subscriber": "true", "topic": "orders.placed", "queue": "orders.bill"}
    assert record.nodes[0].address == "orders.$node.one"


async def test_schemas_are_left_out_where_the_answer_would_be_too_large() -> None:
    broker = MemoryBroker(URL, max_payload=700)
    many = Service("many", id="one", broker=broker)

    async def echo(request: Quote) -> Quote:
        return request

    for number in range(4):
        many.rpc(name=f"echo{number}")(echo)
    async with many:
        (info,) = await answers("$SRV.INFO.many")
    assert [each["metadata"] for each in info["endpoints"]] == [{}] * 4


async def test_what_is_asked_without_a_place_for_the_answer_is_not_answered() -> None:
    async with service(), Client(URL) as client:
        await client.publish("$SRV.PING", b"")
        await client.call("orders.quote", Quote(), Quote)


def read_record(body: bytes) -> ServiceRecord | None:
    form = read_information(body)
    return None if form is None else record_of(form)


FOREIGN = {
    "type": "io.nats.micro.v1.info_response",
    "name": "greeter",
    "id": "X1",
    "version": "1.0.0",
    "metadata": None,
    "description": None,
    "endpoints": [
        {"name": "hello", "subject": "hi.there", "queue_group": "q", "metadata": None},
        {"name": 7},
        "nonsense",
        {
            "name": "typed",
            "subject": "x",
            "metadata": {"request_schema": '{"type":"string"}', "reply_schema": "{", "unit": 8},
        },
        {"name": "odd", "subject": "x", "metadata": [1]},
    ],
}


def test_the_answer_of_another_framework_is_a_record_that_says_so() -> None:
    record = read_record(json.dumps(FOREIGN).encode())
    assert record is not None
    assert (record.name, record.version, record.nodes[0].id) == ("greeter", "1.0.0", "X1")
    assert record.nodes[0].is_foreign
    assert [(each.name, each.metadata["subject"], each.request) for each in record.endpoints] == [
        ("hello", "hi.there", None),
        ("typed", "x", {"type": "string"}),
    ]
    assert record.endpoints[1].metadata == {"subject": "x", "queue": "", "unit": "8"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{" * 100_000,
        b" " * (MAX_ANSWER + 1),
        json.dumps(FOREIGN | {"name": None}).encode(),
        json.dumps(FOREIGN | {"name": ""}).encode(),
        json.dumps(FOREIGN | {"endpoints": 7}).encode(),
        json.dumps(FOREIGN | {"metadata": [1]}).encode(),
        json.dumps({k: v for k, v in FOREIGN.items() if k != "id"}).encode(),
        json.dumps(FOREIGN | {"type": "io.nats.micro.v1.ping_response"}).encode(),
        json.dumps(FOREIGN | {"record": {"name": 7}}).encode(),
    ],
)
def test_what_is_no_answer_is_no_record(body: bytes) -> None:
    assert read_record(body) is None


async def test_asking_ends_where_nobody_is_there_and_where_enough_have_answered() -> None:
    async with MemoryBroker(URL) as broker, asyncio.timeout(20):
        assert await ask_all(broker, "$SRV.PING", within=60) == []
        async with service("one"), service("two"):
            assert len(await ask_all(broker, "$SRV.PING", within=60, most=1)) == 1


async def test_answers_that_are_over_what_is_taken_end_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_BYTES", 100)
    async with MemoryBroker(URL) as broker, asyncio.timeout(20):

        async def answer(question: Delivery) -> None:
            await broker.send(Message(question.reply, b"x" * 60))

        for _ in range(3):
            await broker.subscribe("$SRV.PING", answer)
        assert len(await ask_all(broker, "$SRV.PING", within=60)) == 1
        monkeypatch.setattr(asking, "MOST_BYTES", 10)
        assert await ask_all(broker, "$SRV.PING", within=60) == []
