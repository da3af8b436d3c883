"""JetStream: headers by which a publisher instructs the server hold for that one event, and not for copies of it."""

from __future__ import annotations

import json
from typing import Any

import nats
import pytest

from eventmicro import Client, Context, Retry, Service
from eventmicro.errors import UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, jetstream, work
from tests.servers import NatsServer
from tests.told import messages_in, until_told

ORDERS: list[dict[str, str]] = [
    {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
    {"Nats-Expected-Stream": "ORDERS", "Nats-Expected-Last-Sequence": "0"},
    {"Nats-Expected-Last-Subject-Sequence": "0", "Nats-Expected-Last-Subject-Sequence-Subject": "orders.placed"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1h"},
    {"Nats-Msg-Id": "m1"},
    {"Nats-Schedule": "@at 2999-01-01T00:00:00Z", "Nats-Schedule-Target": "orders.later"},
    {"Nats-Trace-Dest": "traces", "Nats-Required-Api-Level": "0"},
    {"Nats-Marker-Reason": "MaxAge", "Nats-Of-The-Future": "1"},
]
ALLOWED = {
    "allow_atomic": True,
    "allow_rollup_hdrs": True,
    "allow_msg_ttl": True,
    "allow_msg_schedules": True,
}


async def make_orders(server: NatsServer, subjects: list[str], **more: Any) -> None:
    client = await nats.connect(server.url)
    config = {"name": "ORDERS", "subjects": subjects, **ALLOWED, **more}
    answer = await client.request("$JS.API.STREAM.CREATE.ORDERS", json.dumps(config).encode())
    assert "error" not in json.loads(answer.data), answer.data
    await client.close()


@pytest.mark.parametrize("orders", ORDERS, ids=lambda orders: next(iter(orders)))
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
async def test_a_dead_letter_of_an_event_with_orders_is_stored_and_its_key_goes_on(
    orders: dict[str, str], keyed: bool, until: Until
) -> None:
    runs: list[int] = []
    service = Service("orders")
    words: dict[str, Any] = {"order_by": lambda number: 0} if keyed else {}

    @service.subscribe("orders.placed", retry=Retry(attempts=2, backoff=0, longest=0), **words)
    async def place(number: int) -> None:
        runs.append(number)
        if number == 7:
            raise ValueError("never")

    with NatsServer(jetstream=True) as server:
        await make_orders(server, ["orders.>"])
        await service.start(server.jetstream_url)
        async with jetstream(server) as broker, administrator(server.port) as admin:
            dead = await work(broker, "dead.orders.place", "dead.orders.place")
            await admin.publish("orders.placed", b"7", headers=orders | {"One": "1"})
            await until(lambda: dead.deliveries)
            await broker.publish(Message("orders.placed", b"8"))
            await until(lambda: 8 in runs)
        await service.stop()
    headers = dead.deliveries[0].headers or {}
    assert [name for name in headers if not name.startswith("Dead-")] == ["One"]
    assert runs == [7, 7, 8]


async def test_what_a_handler_publishes_with_its_events_metadata_carries_no_orders(until: Until) -> None:
    service, seen = Service("orders"), []

    @service.subscribe("orders.placed")
    async def place(number: int, context: Context) -> None:
        await service.publish("orders.copied", number, metadata=context.metadata)

    @service.subscribe("orders.copied")
    async def copied(number: int, context: Context) -> None:
        seen.append((number, dict(context.metadata)))

    with NatsServer(jetstream=True) as server:
        await make_orders(server, ["orders.>"])
        await service.start(server.jetstream_url)
        async with administrator(server.port) as admin:
            orders = {"Nats-Expected-Last-Sequence": "0", "Nats-Msg-Id": "m", "traceparent": "00-1-2-01", "One": "1"}
            await admin.publish("orders.placed", b"7", headers=orders)
            await until(lambda: seen)
        await service.stop()
    assert seen == [(7, {"traceparent": "00-1-2-01", "One": "1"})]


@pytest.mark.parametrize("scheme", ["jetstream", "nats"])
async def test_metadata_that_is_an_order_to_the_server_is_refused_by_name(scheme: str) -> None:
    with NatsServer(jetstream=True) as server:
        await make_orders(server, ["orders.*"])
        async with Client(f"{scheme}://127.0.0.1:{server.port}") as client, administrator(server.port) as admin:
            for name in {name for orders in ORDERS for name in orders}:
                said = "publish it with id=" if name == "Nats-Msg-Id" else "is an order to the NATS server"
                with pytest.raises(UsageError, match=rf"^orders\.placed: header {name} .*{said}"):
                    await client.publish("orders.placed", 7, metadata={"One": "1", name: "1"})
            await client.publish("orders.placed", 8, metadata={"Nats-Subject": "copies.placed", "natsy": "1"})
            await until_told(lambda: messages_in(admin, "ORDERS"), 1)  # over core NATS nothing is confirmed


async def test_what_the_server_says_of_an_event_or_a_call_is_handed_over(until: Until) -> None:
    """Where it came from is no order: it may be known, and copied."""
    with NatsServer(jetstream=True) as server:
        await make_orders(server, ["orders.*"], republish={"src": "orders.*", "dest": "copies.{{wildcard(1)}}"})
        async with jetstream(server) as broker:
            worker = await work(broker, "copies.placed")
            await broker.publish(Message("orders.placed", b"7"))
            await until(lambda: worker.deliveries)
            assert (worker.deliveries[0].headers or {})["Nats-Subject"] == "orders.placed"
