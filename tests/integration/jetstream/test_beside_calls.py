"""JetStream beside core NATS: calls are not kept, and the embedded server keeps events."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventmicro_nats import JetStreamBroker
from eventmicro_nats.embedded import EmbeddedServer

from eventmicro.client import Client
from eventmicro.message import Message
from eventmicro.service import Service
from tests.integration.jetstream.kit import Until, administrator, jetstream, work
from tests.servers import NatsServer
from tests.told import messages_in, until_told

# -- calls beside it -------------------------------------------------------------------------------------------------


async def test_calls_are_not_captured_by_streams(until: Until) -> None:
    service = Service("orders")
    seen: list[int] = []

    @service.rpc
    async def double(number: int) -> int:
        return number * 2

    @service.subscribe("orders.counted")
    async def note(number: int) -> None:
        seen.append(number)

    with NatsServer(jetstream=True) as server:
        url = f"jetstream://127.0.0.1:{server.port}"
        await service.start(url)
        async with Client(url) as client, jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "orders.*")
            await client.publish("orders.counted", 7)
            assert [await client.call("orders.double", number, int) for number in range(10)] == list(range(0, 20, 2))
            await until(lambda: seen == [7] and worker.bodies == [b"7"])
            await until_told(lambda: messages_in(admin), 1)
        await service.stop()


def test_the_embedded_server_keeps_events(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    try:
        url = server.url.replace("nats://", "jetstream://")

        async def publish() -> None:
            async with JetStreamBroker(url) as broker:
                await work(broker, "a")
                await broker.publish(Message("a", b"kept"))

        asyncio.run(publish())
    finally:
        server.stop()
