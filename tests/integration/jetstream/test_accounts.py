"""JetStream in accounts that a provider bounds by streams, bytes or memory, and in work queues of others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker

from eventmicro import Client, Service
from eventmicro.errors import UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, call, jetstream, make, work
from tests.servers import NatsServer

ACCOUNTS = """
accounts {
  BYTES { jetstream { max_mem: 0, max_store: 1GB, max_bytes_required: true }, users = [{user: bytes, password: p}] }
  DISK { jetstream { max_mem: 0, max_store: 1GB }, users = [{user: disk, password: p}] }
  ONE { jetstream { max_mem: 0, max_store: 1GB, max_streams: 1 }, users = [{user: one, password: p}] }
}
"""


@pytest.mark.parametrize(("user", "query"), [("bytes", "max_bytes=1000000"), ("disk", ""), ("one", "")])
async def test_in_a_bounded_account_streams_and_subjects_are_declared(user: str, query: str, until: Until) -> None:
    with NatsServer(ACCOUNTS, jetstream=True) as server:
        url = f"jetstream://{user}:p@127.0.0.1:{server.port}?{query}"
        brokers = [JetStreamBroker(url) for _ in range(4)]
        await asyncio.gather(*(broker.connect() for broker in brokers))
        workers = await asyncio.gather(
            *(work(broker, f"s{n}", f"q{n}", dead_letter=f"dead.q{n}") for n, broker in enumerate(brokers))
        )
        await asyncio.gather(*(brokers[n % 4].publish(Message(f"s{n}", b"1")) for n in range(20)))
        await until(lambda: [worker.bodies for worker in workers] == [[b"1"]] * 4)
        await asyncio.gather(*(broker.close() for broker in brokers))


async def test_what_an_account_demands_is_named_with_the_mend() -> None:
    with NatsServer(ACCOUNTS, jetstream=True) as server:
        async with JetStreamBroker(f"jetstream://bytes:p@127.0.0.1:{server.port}") as broker:
            with pytest.raises(UsageError, match=r"max bytes set \(JetStream error 10113\): set max_bytes"):
                await work(broker, "a")
        async with JetStreamBroker(f"jetstream://disk:p@127.0.0.1:{server.port}?storage=memory") as broker:
            with pytest.raises(UsageError, match=r"error 10028\): .* use storage=file"):
                await work(broker, "a")
        async with JetStreamBroker(f"jetstream://one:p@127.0.0.1:{server.port}?stream=FIRST") as broker:
            await work(broker, "a")
        async with JetStreamBroker(f"jetstream://one:p@127.0.0.1:{server.port}") as broker:
            with pytest.raises(UsageError, match=r"error 10027\): .*name one that is there by stream="):
                await work(broker, "b")


@pytest.mark.parametrize(("user", "query"), [("bytes", "max_bytes=1000000&registry_bytes=100000"), ("one", "")])
async def test_a_service_with_events_and_calls_runs_in_a_bounded_account(user: str, query: str, until: Until) -> None:
    service, seen = Service("orders"), list[int]()

    @service.subscribe("orders.placed")
    async def place(number: int) -> None:
        seen.append(number)

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    with NatsServer(ACCOUNTS, jetstream=True) as server:
        url = f"jetstream://{user}:p@127.0.0.1:{server.port}?{query}"
        await service.start(url)
        async with Client(url) as client:
            await client.publish("orders.placed", 7)
            assert await client.call("orders.double", 2, int) == 4
            await until(lambda: seen == [7])
            assert [one.name for one in await client.services()] == ["orders"]
        await service.stop()


# -- work queues and streams of interest ---------------------------------------------------------------------------


async def test_a_work_queue_wants_all_and_its_queue_that_is_deleted_is_made_again(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            before = await make(admin, name="JOBS", subjects=["jobs.*"], retention="workqueue")
            said = r'jobs\.a: stream JOBS is a work queue \(retention=workqueue\).*set start="all"'
            with pytest.raises(UsageError, match=said):
                await work(broker, "jobs.a")
            await broker.publish(Message("jobs.a", b"1"))
            worker = await work(broker, "jobs.a", start="all", settle=False)
            await until(lambda: worker.bodies == [b"1"])
            with pytest.raises(UsageError, match=r"10100\): each event of a work queue goes to one queue"):
                await work(broker, "jobs.a", "another", start="all")
            await admin.delete_consumer("JOBS", "q")
            await broker.publish(Message("jobs.a", b"2"))
            await until(lambda: b"2" in worker.bodies)
            assert worker.bodies == [b"1", b"2"], "what is held here goes on here"
            for delivery in worker.deliveries:
                await delivery.ack()
            async with asyncio.timeout(20):
                while (await admin.stream_info("JOBS")).state.messages:
                    await asyncio.sleep(0.01)
            assert (await call(admin, "STREAM.INFO.JOBS", {}))["config"] == before


async def test_a_stream_of_interest_is_used_and_its_queue_that_is_deleted_is_made_again(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="NEWS", subjects=["news.*"], retention="interest")
            worker = await work(broker, "news.a")
            await broker.publish(Message("news.a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await admin.delete_consumer("NEWS", "q")
            await until(lambda: worker.subscription.mending is None)  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                while worker.bodies[-1] != b"2":
                    await broker.publish(Message("news.a", b"2"))
                    await asyncio.sleep(0.02)


async def test_a_work_queue_holds_the_dead_letters_of_another(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="DEAD", subjects=["dead.>"], retention="workqueue")
            durable: dict[str, Any] = {"dead_letter": "dead.q"}
            await work(broker, "a", **durable)
            dead = await work(broker, "dead.q", "dead.q")
            await broker.publish(Message("dead.q", b"1"))
            await until(lambda: dead.bodies == [b"1"])
