"""Other clients and frameworks on the same NATS: nats-py, FastStream, JavaScript and Go publish to us and read us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.js.api import ConsumerConfig
from pydantic import BaseModel

from eventmicro import Client, Context, Service
from tests.integration.jetstream.kit import Until, administrator, make
from tests.servers import NatsServer
from tests.servers.golang import run_program
from tests.servers.nats import flush
from tests.servers.npm import run_script
from tests.servers.process import ServerUnavailable

faststream = pytest.importorskip(
    "faststream.nats", reason="FastStream is not installed: pip install 'faststream[nats]'"
)


class Order(BaseModel):
    id: int


class Ours:
    """A service of ours with a subscriber, and what it got."""

    def __init__(self, subject: str, **words: Any) -> None:
        self.got: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.service = Service("shop")

        @self.service.subscribe(subject, **words)
        async def take(order: Order, context: Context) -> None:
            self.got.append(order.id)
            self.headers.append(context.metadata)


@asynccontextmanager
async def running(ours: Ours, url: str) -> AsyncIterator[Client]:
    """The service, and a client of ours beside it."""
    await ours.service.start(url)
    try:
        async with Client(url) as client:
            yield client
    finally:
        await ours.service.stop()


# -- nats-py -------------------------------------------------------------------------------------------------------


async def test_nats_py_publishes_to_us_and_reads_us_over_core(until: Until) -> None:
    ours, got = Ours("orders.placed"), list[tuple[bytes, Any]]()

    async def take(message: Any) -> None:
        got.append((message.data, message.headers))

    with NatsServer() as server:
        plain = await nats.connect(server.url)
        async with running(ours, server.url) as client:
            await plain.publish("orders.placed", b'{"id": 1}', headers={"Tag": "a"})
            await until(lambda: ours.got == [1])
            assert ours.headers == [{"Tag": "a"}]
            await plain.subscribe("orders.paid", cb=take)
            await flush(plain)
            await client.publish("orders.paid", Order(id=2), metadata={"Tag": "b"})
            await until(lambda: got == [(b'{"id":2}', {"Tag": "b"})])
        await plain.close()


async def test_nats_py_and_we_share_a_stream_and_a_consumer_of_its_making(until: Until) -> None:
    """Stream and consumer are nats-py's, with its defaults but for the lease; each event goes to one of the two."""
    ours, theirs = Ours("orders.placed", queue="billing"), list[int]()
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as js:
            await js.add_stream(name="ORDERS", subjects=["orders.>"])
            before = (await js.stream_info("ORDERS")).config
            config = ConsumerConfig(ack_wait=3)  # what comes after its fetch has given up comes again
            subscription = await js.pull_subscribe("orders.placed", durable="billing", config=config)
            async with running(ours, server.jetstream_url) as client:
                for number in range(50):
                    await client.publish("orders.placed", Order(id=number), id=f"ev-{number}")
                    if number % 5 == 0:
                        for message in await fetched(subscription):
                            theirs.append(Order.model_validate_json(message.data).id)
                            assert message.headers["Nats-Msg-Id"] == f"ev-{theirs[-1]}"
                            await message.ack()
                await until(lambda: {*ours.got, *theirs} == set(range(50)))
                assert ours.got
            assert (await js.stream_info("ORDERS")).config == before


async def fetched(subscription: Any) -> list[Any]:
    try:
        return list(await subscription.fetch(1, timeout=0.2))
    except nats.errors.TimeoutError:
        return []


# -- FastStream ------------------------------------------------------------------------------------------------------


async def test_faststream_publishes_to_us_and_reads_us_over_core(until: Until) -> None:
    ours, theirs = Ours("orders.placed"), list[Order]()
    with NatsServer() as server:
        broker = faststream.NatsBroker(server.url, logger=None)

        @broker.subscriber("orders.paid", queue="q")
        async def take(order: Order) -> None:
            theirs.append(order)

        await broker.start()
        async with running(ours, server.url) as client:
            await broker.publish(Order(id=1), "orders.placed", headers={"tag": "a"})
            await broker.publish({"id": 2}, "orders.placed")
            await until(lambda: ours.got == [1, 2])
            assert ours.headers[0]["tag"] == "a"
            await client.publish("orders.paid", Order(id=3))
            await until(lambda: theirs == [Order(id=3)])
        await broker.stop()


async def test_faststream_calls_us_and_we_call_it() -> None:
    service = Service("shop")

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    with NatsServer() as server:
        broker = faststream.NatsBroker(server.url, logger=None)

        @broker.subscriber("theirs.double")
        async def take(number: int) -> int:
            return 2 * number

        await broker.start()
        await service.start(server.url)
        async with Client(server.url) as client:
            reply = await broker.request(4, "shop.double", timeout=10)
            assert json.loads(reply.body) == 8
            assert await client.call("theirs.double", 5, int) == 10
        await service.stop()
        await broker.stop()


async def test_faststream_and_we_share_a_stream_and_a_consumer_of_its_making(until: Until) -> None:
    ours, theirs = Ours("orders.placed", queue="billing"), list[int]()
    with NatsServer(jetstream=True) as server:
        broker = faststream.NatsBroker(server.url, logger=None)
        stream = faststream.JStream("ORDERS", subjects=["orders.>"])
        pull = faststream.PullSub(batch_size=1)

        @broker.subscriber("orders.placed", stream=stream, durable="billing", pull_sub=pull)
        async def take(order: Order) -> None:
            theirs.append(order.id)

        await broker.start()
        async with running(ours, server.jetstream_url) as client:
            for number in range(0, 60, 2):
                await client.publish("orders.placed", Order(id=number), id=f"ev-{number}")
                await broker.publish(Order(id=number + 1), "orders.placed", stream="ORDERS")
            await until(lambda: len(ours.got) + len(theirs) == 60)
            assert sorted(ours.got + theirs) == list(range(60))
            assert ours.got
            assert theirs
        await broker.stop()


# -- JavaScript and Go -----------------------------------------------------------------------------------------------

JAVASCRIPT = """
import { connect } from "@nats-io/transport-node";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";

const [url] = process.argv.slice(2);
const nc = await connect({ servers: url });
const js = jetstream(nc);
await js.publish("orders.placed", '{"id": 1}', { msgID: "ev-1" });
const again = await js.publish("orders.placed", '{"id": 1}', { msgID: "ev-1" });
const manager = await jetstreamManager(nc);
await manager.consumers.add("ORDERS", { durable_name: "node", ack_policy: "explicit", filter_subject: "orders.paid" });
const consumer = await js.consumers.get("ORDERS", "node");
const message = await consumer.next({ expires: 10000 });
const id = message.headers.get("Nats-Msg-Id");
console.log(JSON.stringify({ duplicate: again.duplicate, body: message.json(), id }));
await message.ackAck();
await nc.drain();
"""

GO = """
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	nc, err := nats.Connect(os.Args[1])
	must(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(err)
	body := []byte(`{"id": 1}`)
	_, err = js.Publish(ctx, "orders.placed", body, jetstream.WithMsgID("ev-1"))
	must(err)
	again, err := js.Publish(ctx, "orders.placed", body, jetstream.WithMsgID("ev-1"))
	must(err)
	config := jetstream.ConsumerConfig{Durable: "go", FilterSubject: "orders.paid"}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "ORDERS", config)
	must(err)
	message, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
	must(err)
	must(message.DoubleAck(ctx))
	told := map[string]any{"duplicate": again.Duplicate, "body": json.RawMessage(message.Data())}
	told["id"] = message.Headers().Get("Nats-Msg-Id")
	text, err := json.Marshal(told)
	must(err)
	fmt.Println(string(text))
}
"""


@pytest.mark.timeout_seconds(600)
@pytest.mark.parametrize(("run", "source"), [(run_script, JAVASCRIPT), (run_program, GO)], ids=["javascript", "go"])
async def test_other_languages_publish_to_us_and_read_us(run: Callable[..., str], source: str, until: Until) -> None:
    ours = Ours("orders.placed")
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin:
            await make(admin, name="ORDERS", subjects=["orders.*"])
            async with running(ours, server.jetstream_url) as client:
                await client.publish("orders.paid", Order(id=2), id="ev-2")
                try:
                    printed = await asyncio.to_thread(run, source, server.url)
                except ServerUnavailable as error:
                    pytest.skip(str(error))
                assert json.loads(printed) == {"duplicate": True, "body": {"id": 2}, "id": "ev-2"}
                await until(lambda: ours.got == [1])
