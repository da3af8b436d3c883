"""The JetStream adapter against real servers: deaths and cuts under load, refusals, declaring, order, advisories."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import pytest
from eventmicro_nats import JetStreamBroker
from eventmicro_nats.advisories import SafetyNet
from eventmicro_nats.api import Api
from eventmicro_nats.driver import Driver
from eventmicro_nats.durable import DurableSubscription
from eventmicro_nats.embedded import EmbeddedServer
from nats.errors import ConnectionClosedError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from eventmicro.broker import Durable, Subscription
from eventmicro.client import Client
from eventmicro.errors import (
    ConnectionFailed,
    Disconnected,
    MessageTooLarge,
    Nack,
    NotAllPublished,
    NotStored,
    Reject,
    Unconfirmed,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.servers import FaultProxy, NatsServer
from tests.servers.nats import flush

Until = Callable[[Callable[[], object]], Awaitable[None]]


def jetstream(server: NatsServer, query: str = "") -> JetStreamBroker:
    return JetStreamBroker(f"jetstream://127.0.0.1:{server.port}?{query}")


@asynccontextmanager
async def administrator(port: int) -> AsyncIterator[JetStreamContext]:
    """The plain client, as another hand on the same server."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    try:
        yield client.jetstream()
    finally:
        await client.close()


class Worker:
    """A consumer that notes what it gets, and acks it unless told otherwise."""

    subscription: Subscription

    def __init__(self, settle: bool = True) -> None:
        self.deliveries: list[Delivery] = []
        self.settle = settle

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self.settle:
            at_once(delivery.ack())

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]


def at_once(settlement: Any) -> None:
    """Settle where nothing can be awaited; a settlement of this adapter never waits."""
    with pytest.raises(StopIteration):
        settlement.send(None)


async def work(
    broker: JetStreamBroker, subject: str, queue: str = "q", *, settle: bool = True, **durable: Any
) -> Worker:
    worker = Worker(settle)
    worker.subscription = await broker.subscribe(subject, worker, queue=queue, durable=Durable(**durable))
    return worker


# -- deaths and cuts -------------------------------------------------------------------------------------------------


async def publish_from_many(
    broker: JetStreamBroker, subject: str, count: int, on_confirmed: Callable[[], None]
) -> None:
    """Fifty at a time, each confirmed before the next; what is not known to be stored is published again."""
    numbers = iter(range(count))

    async def publish() -> None:
        for number in numbers:
            while True:
                try:
                    await broker.publish(Message(subject, b"%d" % number, id=str(number)), timeout=10)
                    break
                except Unconfirmed:
                    continue
            on_confirmed()

    await asyncio.gather(*(publish() for _ in range(50)))


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_server_that_dies_under_load_loses_nothing_that_was_confirmed(end: str, until: Until) -> None:
    confirmed = 0

    def count() -> None:
        nonlocal confirmed
        confirmed += 1

    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=2") as publisher, jetstream(server, "ack_wait=2") as consumer:
            worker = await work(consumer, "orders.placed")
            publishing = asyncio.create_task(publish_from_many(publisher, "orders.placed", 5000, count))
            for mark in (1000, 2500):
                await until(lambda: confirmed >= mark)  # noqa: B023
                getattr(server, end)()
                server.start()
            await publishing
            await until(lambda: len(set(worker.bodies)) == 5000)
            assert max(Counter(worker.bodies).values()) <= 3
            async with administrator(server.port) as admin:
                assert (await admin.stream_info("EVENTS")).state.messages == 5000, "stored twice"


@pytest.mark.timeout_seconds(60)
async def test_a_connection_that_is_cut_under_load_loses_nothing(until: Until) -> None:
    confirmed = 0

    def count() -> None:
        nonlocal confirmed
        confirmed += 1

    with NatsServer(jetstream=True) as server:
        async with FaultProxy(server.port) as proxy:
            url = f"jetstream://127.0.0.1:{proxy.port}?ack_wait=2&reconnect_wait=0.05"
            async with JetStreamBroker(url) as broker:
                worker = await work(broker, "orders.placed")
                publishing = asyncio.create_task(publish_from_many(broker, "orders.placed", 3000, count))
                for mark in (500, 1000, 2000):
                    await until(lambda: confirmed >= mark)  # noqa: B023
                    proxy.cut()
                await publishing
                await until(lambda: len(set(worker.bodies)) == 3000)
        async with administrator(server.port) as admin:
            assert (await admin.stream_info("EVENTS")).state.messages == 3000, "stored twice"


async def test_many_published_at_once_keep_their_order_over_a_cut(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with FaultProxy(server.port) as proxy:
            url = f"jetstream://127.0.0.1:{proxy.port}?reconnect_wait=0.05"
            async with JetStreamBroker(url) as broker, jetstream(server) as other:
                worker = await work(other, "orders.placed", ordered=True)
                sent = [b"%d" % number for number in range(10_000)]
                publishing = asyncio.create_task(
                    broker.publish_many([Message("orders.placed", body) for body in sent], timeout=20)
                )
                await until(lambda: worker.deliveries)
                proxy.cut()
                await publishing
                await until(lambda: len(worker.deliveries) >= 10_000)
                assert worker.bodies == sent


async def test_a_hung_server_is_waited_for(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ping_interval=0.2&reconnect_wait=0.05&ack_wait=1") as broker:
            worker = await work(broker, "orders.placed")
            server.pause()
            publishing = asyncio.create_task(broker.publish(Message("orders.placed", b"kept")))
            await until(lambda: not broker.online)
            assert not publishing.done()
            server.resume()
            await publishing
            await until(lambda: worker.bodies == [b"kept"])
            server.pause()
            with pytest.raises(Unconfirmed, match="whether it is stored is not known"):
                await broker.publish(Message("orders.placed"), timeout=0.3)
            server.resume()


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_an_event_of_a_new_subject_is_named_where_the_server_is_away(end: str) -> None:
    with NatsServer(jetstream=True) as server:
        broker = jetstream(server)
        await broker.connect()
        getattr(server, end)()
        said = r"^orders\.placed: JetStream is away or busy, its stream could not be looked up .*; it was not sent$"
        with pytest.raises(Disconnected, match=said):
            await broker.publish(Message("orders.placed"), timeout=0.2)
        with pytest.raises(NotAllPublished, match=r"orders\.placed: JetStream is away or busy, .*; it was not sent$"):
            await broker.publish_many([Message("orders.placed")], timeout=0.2)
        publishing = asyncio.create_task(broker.publish(Message("orders.placed")))
        await asyncio.sleep(0)
        await broker.close()
        with pytest.raises(Disconnected, match="is not connected"):
            await publishing


async def test_a_connection_that_cannot_be_made_is_named_by_its_own_url() -> None:
    with NatsServer() as server:
        port = server.port
    with pytest.raises(ConnectionFailed, match=rf"^cannot connect to NATS at jetstream://127\.0\.0\.1:{port} within"):
        await JetStreamBroker(f"jetstream://127.0.0.1:{port}?connect_timeout=0.2").connect()


async def test_what_a_consumer_holds_it_can_settle_after_a_restart(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=1") as broker, jetstream(server) as other:
            worker = await work(broker, "orders.placed", settle=False)
            await other.publish_many([Message("orders.placed", b"%d" % number) for number in range(10)])
            await until(lambda: len(worker.deliveries) == 10)
            server.kill()
            await until(lambda: not broker.online)
            server.start()
            await other.publish(Message("orders.placed", b"next"))
            await until(lambda: worker.bodies[10:] == [b"next"])
            for delivery in worker.deliveries:
                await delivery.ack()
            await broker.flush()
            async with administrator(server.port) as admin:
                assert (await admin.consumer_info("EVENTS", "q")).num_ack_pending == 0


async def test_a_held_event_that_comes_again_takes_no_room_from_others(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with (
            jetstream(server, "ack_wait=0.4") as broker,
            jetstream(server) as other,
            administrator(server.port) as admin,
        ):
            worker = await work(broker, "a", settle=False, prefetch=2)
            await other.publish(Message("a", b"held"))
            await until(lambda: worker.deliveries)
            time.sleep(1)  # the loop is blocked, and no lease extended
            assert (await admin.consumer_info("EVENTS", "q")).num_redelivered == 1
            await other.publish(Message("a", b"next"))
            await until(lambda: worker.bodies == [b"held", b"next"])


@pytest.mark.parametrize("ordered", [False, True])
async def test_acks_that_were_lost_with_the_connection_are_said_again(ordered: bool, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with FaultProxy(server.port) as proxy, jetstream(server) as other:
            async with JetStreamBroker(f"jetstream://127.0.0.1:{proxy.port}?reconnect_wait=0.05") as broker:
                worker = await work(broker, "a", ordered=ordered, settle=False)
                await other.publish_many([Message("a", b"%d" % number) for number in range(50)])
                await until(lambda: len(worker.deliveries) == 50)
                proxy.blackhole = True
                for delivery in worker.deliveries:
                    await delivery.ack()
                await until(lambda: broker._driver and not broker._driver.pending_data_size)
                proxy.cut()
                proxy.blackhole = False
                await until(lambda: not broker.online)
                await until(lambda: broker.online)
                await other.publish(Message("a", b"next"))
                await until(lambda: worker.bodies[50:] == [b"next"])
                await worker.deliveries[-1].ack()
                await broker.flush()
            async with administrator(server.port) as admin:
                info = await admin.consumer_info("EVENTS", "q")
                assert (info.num_ack_pending, info.num_redelivered) == (0, 0)


PROGRAM = """
import asyncio, sys
from eventmicro.broker import Durable
from eventmicro_nats import JetStreamBroker

async def main():
    async with JetStreamBroker(sys.argv[1]) as broker:
        taken = asyncio.Event()
        await broker.subscribe("orders.placed", lambda delivery: taken.set(), queue="q", durable=Durable())
        await taken.wait()
        print("taken", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_a_process_held_that_was_killed_comes_to_another_as_a_further_attempt(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=1") as broker:
            await (await work(broker, "orders.placed")).subscription.drain()
            await broker.publish(Message("orders.placed", b"1"))
            for attempt in (1, 2):
                url = f"jetstream://127.0.0.1:{server.port}"
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", PROGRAM, url, stdout=asyncio.subprocess.PIPE
                )
                assert process.stdout is not None
                assert await process.stdout.readline() == b"taken\n", f"attempt {attempt}"
                process.kill()
                await process.wait()
            worker = await work(broker, "orders.placed")
            await until(lambda: worker.deliveries)
            assert worker.deliveries[0].attempt == 3


async def test_two_that_close_at_once_and_a_server_that_hangs_do_not_hold_up_a_close(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        broker = jetstream(server)
        await broker.connect()
        worker = await work(broker, "a", settle=False)
        await broker.publish_many([Message("a")] * 10)
        await until(lambda: len(worker.deliveries) == 10)
        server.signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            await asyncio.gather(broker.close(), broker.close())
        for delivery in worker.deliveries:
            await delivery.ack()


async def test_what_is_on_its_way_when_a_broker_is_closed_comes_to_another_at_once(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as publisher:
            await publisher.publish(Message("a"))
            for _ in range(20):
                async with jetstream(server) as broker:
                    worker = await work(broker, "a", start="all", settle=False)
                    await until(lambda: worker.deliveries)  # noqa: B023
                    await worker.deliveries[0].nack()  # it comes again, and meets the end
                    await asyncio.sleep(0)


async def test_what_no_server_sends_harms_nobody(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a")
            await broker.flush()
            inbox = broker._durables[0]._inbox.decode()
            await admin._nc.publish(f"{inbox}.1", b"no JSON")
            await admin._nc.publish(f"{inbox}.1", headers={"Status": "408", "Nats-Pending-Messages": "many"})
            await flush(admin._nc)
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            assert caplog.text.count("could not be taken") == 2


async def test_what_is_published_waits_for_room_no_longer_than_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.broker.FLUSH_TIMEOUT", 1000)
    with NatsServer(jetstream=True) as server:
        broker = jetstream(server, "outgoing_bytes=1000&ping_interval=60")
        await broker.connect()
        await broker.publish(Message("a"))
        server.pause()

        async def publish_on() -> None:
            while True:
                with suppress(Unconfirmed):
                    await broker.publish(Message("a", b"x" * 500_000), timeout=0.1)

        with pytest.raises(Disconnected, match="outgoing buffer is full"):
            await publish_on()
        monkeypatch.undo()
        server.resume()
        await broker.close()


async def test_a_close_that_is_cancelled_leaves_nothing_at_work(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        broker = jetstream(server, "ping_interval=60&ack_wait=0.3")
        await broker.connect()
        driver = broker._driver
        assert driver is not None
        worker = await work(broker, "a", settle=False)
        await broker.publish(Message("a"))
        await until(lambda: worker.deliveries)
        durable = broker._durables[0]
        server.pause()
        closing = asyncio.create_task(broker.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert driver.is_closed
        assert not durable.unsettled
        server.resume()


async def test_a_connection_on_which_no_queue_can_be_taken_up_is_not_left_open(
    monkeypatch: pytest.MonkeyPatch, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    config = 'authorization {{ users = [ {{ user: "u", password: "{0}" }} ] }}'
    with NatsServer(config.format("old"), jetstream=True) as server:
        url = f"jetstream://u:old@127.0.0.1:{server.port}?reconnect_wait=0.05"
        async with JetStreamBroker(url) as broker:
            worker = await work(broker, "a")
            failed: list[Driver] = []
            opened = DurableSubscription.open

            async def fail_once(self: DurableSubscription, driver: Driver) -> None:
                if not failed and driver is not broker._driver:
                    failed.append(driver)
                    raise OSError("not this time")
                await opened(self, driver)

            monkeypatch.setattr(DurableSubscription, "open", fail_once)
            server.reload(config.format("new"))
            await until(lambda: "uthori" in caplog.text or "uthent" in caplog.text)
            server.reload(config.format("old"))
            await until(lambda: "connected again" in caplog.text)
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            assert failed[0].is_closed


async def test_a_subscribe_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    async def fail(self: SafetyNet, driver: Driver) -> None:
        raise ConnectionClosedError

    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=1") as broker:
            await broker.publish(Message("a", b"1"))
            monkeypatch.setattr(SafetyNet, "open", fail)
            with pytest.raises(Disconnected, match="connection is closed"):
                await work(broker, "a", start="all", dead_letter="dead")
            monkeypatch.undo()
            assert not broker._durables
            assert not broker._nets
            worker = await work(broker, "a", dead_letter="dead")
            await until(lambda: worker.bodies == [b"1"])


# -- refusals --------------------------------------------------------------------------------------------------------


async def test_a_full_stream_refuses_by_name_and_takes_again_when_there_is_room() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "max_bytes=10000") as broker, administrator(server.port) as admin:
            with pytest.raises(NotAllPublished, match="maximum bytes exceeded") as caught:
                await broker.publish_many([Message("a", b"x" * 1000)] * 20)
            assert caught.value.confirmed == 20 - len(caught.value.failed) > 0
            assert all(isinstance(error, NotStored) for error in caught.value.failed.values())
            with pytest.raises(NotStored, match="maximum bytes exceeded"):
                await broker.publish(Message("a", b"x" * 1000))
            await admin.purge_stream("EVENTS")
            await broker.publish(Message("a", b"x" * 1000))


async def test_a_server_without_room_refuses_by_name() -> None:
    with NatsServer('jetstream: { store_dir: "streams", max_file_store: 20000 }') as server:
        async with jetstream(server) as broker:
            with pytest.raises(NotAllPublished, match=r"resource|storage|bytes"):
                await broker.publish_many([Message("a", b"x" * 5000)] * 20)


USERS = """
accounts {
  A {
    jetstream: enabled
    users = [
      { user: admin, password: p }
      { user: publisher, password: p, permissions: { publish: { deny: ["secret"] } } }
      { user: reader, password: p, permissions: { publish: { deny: ["$JS.API.CONSUMER.CREATE.>"] } } }
      { user: nothing, password: p, permissions: { publish: { deny: ["$JS.API.>"] } } }
    ]
  }
}
"""


async def test_what_a_user_may_not_do_is_refused_with_the_servers_words() -> None:
    with NatsServer(USERS, jetstream=True) as server:

        def user(name: str) -> JetStreamBroker:
            return JetStreamBroker(f"jetstream://{name}:p@127.0.0.1:{server.port}")

        async with user("admin") as admin, user("publisher") as publisher, user("reader") as reader:
            await admin.publish_many([Message("secret"), Message("public")])
            await publisher.publish(Message("public"))
            with pytest.raises(NotStored, match=r'(?i)permissions violation for publish.*"secret"'):
                await publisher.publish(Message("secret"))
            with pytest.raises(UsageError, match=r"(?i)permissions violation.*CONSUMER\.CREATE"):
                await work(reader, "public")
        async with user("nothing") as nothing:
            with pytest.raises(NotStored, match=r"(?i)permissions violation.*STREAM\.NAMES"):
                await nothing.publish(Message("public"))
            with pytest.raises(UsageError, match=r"(?i)permissions violation"):
                await work(nothing, "public")


async def test_a_server_without_jetstream_is_told_apart(nats_url: str) -> None:
    async with JetStreamBroker(nats_url.replace("nats://", "jetstream://")) as broker:
        with pytest.raises(NotStored, match=r"has no JetStream.*--jetstream"):
            await broker.publish(Message("a"))
        with pytest.raises(UsageError, match="has no JetStream"):
            await work(broker, "a")


async def test_what_cannot_be_sent_is_refused_before() -> None:
    with NatsServer("max_payload: 1000", jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a")
            with pytest.raises(MessageTooLarge, match=r"with headers.*1000"):
                await broker.publish(Message("a", b"x" * 1000))
            with pytest.raises(UsageError, match="signs that no header may have"):
                await broker.publish(Message("a", id="one\r\nNats-Rollup: all"))
            with pytest.raises(UsageError, match="header"):
                await broker.publish(Message("a", headers={"Bad: Name": "1"}))
            for subject in ("", "a b", "a.*", "a\r\nPUB b 0"):
                with pytest.raises(UsageError):
                    await broker.publish(Message(subject))
            assert worker.deliveries == []


# -- declaring -------------------------------------------------------------------------------------------------------


async def test_what_is_declared_by_many_at_once_is_all_there() -> None:
    with NatsServer(jetstream=True) as server:
        brokers = [jetstream(server) for _ in range(10)]
        await asyncio.gather(*(broker.connect() for broker in brokers))
        subjects = [f"s{number}" for number in range(100)]
        await asyncio.gather(
            *(brokers[number % 10].publish(Message(subject)) for number, subject in enumerate(subjects)),
            *(work(broker, "shared") for broker in brokers),
        )
        async with administrator(server.port) as admin:
            assert {*subjects, "shared"} < set((await admin.stream_info("EVENTS")).config.subjects or ())
            assert [stream.config.name for stream in await admin.streams_info()] == ["EVENTS"], "a lock was left"
        await asyncio.gather(*(broker.close() for broker in brokers))


async def test_the_lock_of_a_process_that_died_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.streams.LOCK_LIFETIME", 0.1)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await admin.add_stream(name="EVENTS-declaring", subjects=["whatever"])
            await broker.publish(Message("a"))
            with pytest.raises(NotFoundError):
                await admin.stream_info("EVENTS-declaring")


async def test_a_lock_that_is_given_back_twice_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Api.call

    async def call_twice(self: Api, what: str, arguments: Any = None, *, deadline: float) -> dict[str, Any]:
        if what.startswith("STREAM.DELETE"):
            await call(self, what, arguments, deadline=deadline)  # of which the answer was lost
        return await call(self, what, arguments, deadline=deadline)

    monkeypatch.setattr(Api, "call", call_twice)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))


@asynccontextmanager
async def lock_held(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    """Somebody else changes the stream; it ends when he is asked for the lock, and he is done."""
    client = await nats.connect(f"nats://127.0.0.1:{server.port}")
    admin = client.jetstream()
    await admin.add_stream(name="EVENTS-declaring", subjects=["whatever"])
    asked = await client.subscribe("$JS.API.STREAM.CREATE.EVENTS-declaring")
    await flush(client)
    yield admin
    await asked.next_msg()
    await asked.next_msg()
    await admin.delete_stream("EVENTS-declaring")
    await client.close()


async def test_what_another_changes_in_the_stream_meanwhile_stays() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            async with lock_held(server) as admin:
                declaring = asyncio.create_task(work(broker, "a", dedupe=300))
                await asyncio.sleep(0.05)  # it has looked at the stream, more likely than not
                await admin.update_stream(name="EVENTS", subjects=["a", "b"])
            await declaring
            async with administrator(server.port) as admin:
                config = (await admin.stream_info("EVENTS")).config
                assert (config.subjects, config.duplicate_window) == (["a", "b"], 300)


async def test_who_is_cancelled_while_it_declares_for_others_leaves_that_to_them() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            async with lock_held(server):
                first = asyncio.create_task(broker.publish(Message("b")))
                await asyncio.sleep(0.05)
                second, third = (asyncio.create_task(work(broker, name, name)) for name in "cd")
                await asyncio.sleep(0.05)
            await first
            second.cancel()
            await third
            async with administrator(server.port) as admin:
                assert "d" in ((await admin.stream_info("EVENTS")).config.subjects or ())


async def test_a_publish_keeps_its_timeout_while_another_holds_the_lock() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            async with lock_held(server):
                with pytest.raises(Disconnected, match="could not be looked up or changed in time"):
                    await broker.publish(Message("b"), timeout=0.2)


async def test_a_stream_that_an_administrator_made_is_used_as_it_is(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await admin.add_stream(name="ORDERS", subjects=["orders.>"])
            exact, wild = await work(broker, "orders.placed", "one"), await work(broker, "orders.*", "two")
            await broker.publish(Message("orders.placed", b"1"))
            await until(lambda: exact.bodies == wild.bodies == [b"1"])
            assert [stream.config.name for stream in await admin.streams_info()] == ["ORDERS"]
            with pytest.raises(UsageError, match=r"knows ids for 120 s, dedupe needs 300 s.*--dupe-window 300s"):
                await work(broker, "orders.placed", "three", dedupe=300)
            with pytest.raises(UsageError, match=r"in several streams \(ORDERS, and EVENTS for the rest\)"):
                await work(broker, ">", "four")


async def test_to_check_is_to_make_nothing_and_to_say_what_is_missing(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with (
            administrator(server.port) as admin,
            jetstream(server, "declare=check") as checks,
            jetstream(server, "declare=false") as trusts,
        ):
            with pytest.raises(UsageError, match=r"no stream keeps orders\.placed: nats stream add EVENTS"):
                await checks.publish(Message("orders.placed"))
            with pytest.raises(NotStored, match="no stream takes it"):
                await trusts.publish(Message("orders.placed"))
            await admin.add_stream(name="EVENTS", subjects=["orders.placed"])
            with pytest.raises(UsageError, match="no queue bill: nats consumer add EVENTS bill --pull"):
                await work(checks, "orders.placed", "bill")
            await admin.update_stream(name="EVENTS", subjects=["orders.placed", "dead"])
            with pytest.raises(UsageError, match="there is no queue dead"):
                await work(checks, "orders.placed", "bill", dead_letter="dead")
            await admin.add_consumer(
                "EVENTS", durable_name="bill", filter_subject="orders.placed", ack_policy="explicit"
            )  # type: ignore[arg-type]
            workers = [await work(checks, "orders.placed", "bill"), await work(trusts, "orders.placed", "bill")]
            await checks.publish(Message("orders.placed", b"1"))
            await trusts.publish(Message("orders.placed", b"2"))
            await until(lambda: sorted(workers[0].bodies + workers[1].bodies) == [b"1", b"2"])


async def test_a_queue_that_is_made_otherwise_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await work(broker, "a", "q.one")
            with pytest.raises(UsageError, match=r"queue q.one \(consumer q=one of stream EVENTS\) takes a, not b"):
                await work(broker, "b", "q.one")
            with pytest.raises(UsageError, match="made without order"):
                await work(broker, "a", "q.one", ordered=True)
            await work(broker, "a", "q.two", ordered=True)
            with pytest.raises(UsageError, match="made with order"):
                await work(broker, "a", "q.two")
            await admin.add_consumer(
                "EVENTS", durable_name="q", filter_subject="a", max_deliver=5, ack_policy="explicit"
            )  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="max_deliver=5: set it to -1, or name a dead_letter"):
                await work(broker, "a", "q")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"headers_only": True}, "headers only"),
        ({"inactive_threshold": 5.0}, "is deleted when nobody asks: unset inactive_threshold"),
        ({"max_batch": 10}, "max_batch=10 at once: set prefetch"),
        ({"max_expires": 5.0}, "max_expires=5 s: it takes 30 s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_queue_of_which_nothing_would_come_is_refused(config: dict[str, Any], wanted: str) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await broker.publish(Message("a"))
            nanoseconds = {
                key: int(value * 1e9) if isinstance(value, float) else value for key, value in config.items()
            }
            config = {"durable_name": "q", "filter_subject": "a", "ack_policy": "explicit", **nanoseconds}
            body = json.dumps({"stream_name": "EVENTS", "config": config}).encode()
            await admin._nc.request("$JS.API.CONSUMER.CREATE.EVENTS.q", body)
            with pytest.raises(UsageError, match=wanted):
                await work(broker, "a")


async def test_an_event_whose_id_is_just_being_stored_is_sent_until_that_is_known() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "declare=false") as broker:
            client = await nats.connect(f"nats://127.0.0.1:{server.port}")
            asked = await client.subscribe("a")  # in place of a cluster's stream
            await flush(client)
            in_process = b'{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}'
            publishing = asyncio.create_task(broker.publish(Message("a", id="7")))
            await (await asked.next_msg()).respond(in_process)
            await (await asked.next_msg()).respond(b'{"stream":"EVENTS","seq":1,"duplicate":true}')
            await publishing
            publishing = asyncio.create_task(broker.publish(Message("a", id="8"), timeout=0.05))
            await (await asked.next_msg()).respond(in_process)
            with pytest.raises(Unconfirmed, match="in process"):
                await publishing
            await client.close()


async def test_an_event_is_not_sent_again_when_its_id_may_be_forgotten() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "declare=false&duplicate_window=0.5") as broker:
            client = await nats.connect(f"nats://127.0.0.1:{server.port}")
            sent = await client.subscribe("a")  # a stream that does not answer
            await flush(client)
            with pytest.raises(Unconfirmed):
                await broker.publish(Message("a"), timeout=10)
            await flush(client)
            assert sent.pending_msgs == 1
            await client.close()


async def test_a_stream_with_other_settings_than_were_set_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "max_age=3600") as first, jetstream(server, "storage=memory") as second:
            await first.publish(Message("a"))
            with pytest.raises(UsageError, match="exists with storage=file, not memory"):
                await second.publish(Message("a"))
            with pytest.raises(UsageError, match="exists with storage=file, not memory"):
                await second.publish(Message("b"))
            await first.publish(Message("b"))


async def test_a_wildcard_catches_what_is_declared_later(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, jetstream(server) as other:
            worker = await work(broker, "orders.*")
            all_of_it = await work(broker, ">", "all")
            for subject in ("orders.placed", "orders.paid", "payments.made"):
                await other.publish(Message(subject, subject.encode()))
            await until(lambda: worker.bodies == [b"orders.placed", b"orders.paid"])
            await until(lambda: all_of_it.bodies == [b"orders.placed", b"orders.paid", b"payments.made"])


async def test_a_queue_that_is_deleted_is_made_anew_and_loses_nothing(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a")
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await admin.delete_consumer("EVENTS", "q")
            await broker.publish(Message("a", b"2"))
            await until(lambda: worker.bodies == [b"1", b"2"])
            assert "queue q was gone and is made anew" in caplog.text
            await admin.delete_stream("EVENTS")
            await broker.publish(Message("a", b"3"))
            await until(lambda: worker.bodies == [b"1", b"2", b"3"])


@pytest.mark.parametrize("deleted", ["queue", "stream"])
async def test_a_queue_that_is_deleted_before_its_first_event_loses_nothing(deleted: str, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a")
            if deleted == "queue":
                await admin.delete_consumer("EVENTS", "q")
            else:
                await admin.delete_stream("EVENTS")
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])


async def test_what_was_nacked_before_its_queue_was_deleted_comes_again(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a", settle=False)
            await broker.publish_many([Message("a", b"%d" % number) for number in range(4)])
            await until(lambda: len(worker.deliveries) == 4)
            await worker.deliveries[1].nack(600)
            for number in (0, 2, 3):
                await worker.deliveries[number].ack()
            await admin.delete_consumer("EVENTS", "q")
            await broker.publish(Message("a", b"next"))
            await until(lambda: worker.bodies[-1] == b"next")
            assert worker.bodies[4:] == [b"1", b"next"], "the one that was nacked, none that was acked"


async def test_what_another_instance_held_when_the_queue_was_deleted_comes_again(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with FaultProxy(server.port) as proxy, jetstream(server) as broker, administrator(server.port) as admin:
            cut_off = JetStreamBroker(f"jetstream://127.0.0.1:{proxy.port}")
            await cut_off.connect()
            holding = await work(cut_off, "a", settle=False, prefetch=1)
            await broker.publish(Message("a", b"held"))
            await until(lambda: holding.deliveries)
            proxy.blackhole = True
            worker = await work(broker, "a")
            await broker.publish(Message("a", b"next"))
            await until(lambda: worker.bodies == [b"next"])
            await admin.delete_consumer("EVENTS", "q")
            await until(lambda: worker.bodies == [b"next", b"held"])
            proxy.blackhole = False
            await proxy.stop()
            await cut_off.close()


async def test_an_ordered_queue_that_is_deleted_goes_on_in_order(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a", ordered=True, settle=False, prefetch=5)
            await broker.publish_many([Message("a", b"%d" % number) for number in range(20)])
            await until(lambda: len(worker.deliveries) == 5)
            await worker.deliveries[2].ack()
            await admin.delete_consumer("EVENTS", "q")
            for number in range(20):
                await until(lambda: len(worker.deliveries) > number)  # noqa: B023
                await worker.deliveries[number].ack()
            assert worker.bodies == [b"%d" % number for number in range(20)]


async def test_a_queue_that_is_deleted_goes_on_near_to_where_it_was(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr("eventmicro_nats.durable.FLOOR_INTERVAL", 0.05)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=0.3") as broker, administrator(server.port) as admin:
            worker = await work(broker, "a", prefetch=10)
            await broker.publish_many([Message("a", b"%d" % number) for number in range(1000)])
            await until(lambda: len(worker.deliveries) == 1000)
            await until(lambda: broker._durables[0]._queue.begin.sequence == 1001)  # type: ignore[union-attr]
            await admin.delete_consumer("EVENTS", "q")
            await broker.publish(Message("a", b"next"))
            await until(lambda: worker.bodies[1000:] == [b"next"])


async def test_ids_are_known_for_as_long_as_asked_for_and_by_subject(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a", dedupe=300)
            assert (await admin.stream_info("EVENTS")).config.duplicate_window == 300
            other = await work(broker, "b", "other")
            await broker.publish_many([Message("a", id="7"), Message("a", id="7"), Message("b", id="7")])
            await until(lambda: len(worker.deliveries) + len(other.deliveries) == 2)
            assert worker.deliveries[0].headers is None
            assert (await admin.stream_info("EVENTS")).state.messages == 2


# -- order -----------------------------------------------------------------------------------------------------------


async def test_another_goes_on_in_order_when_the_one_that_is_pinned_is_cut_off(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with FaultProxy(server.port) as proxy, jetstream(server, "ack_wait=1") as second:
            cut_off = JetStreamBroker(f"jetstream://127.0.0.1:{proxy.port}?ack_wait=1")
            await cut_off.connect()
            first = await work(cut_off, "a", ordered=True, settle=False, prefetch=10)
            await second.publish_many([Message("a", b"%d" % number) for number in range(50)])
            await until(lambda: len(first.deliveries) == 10)
            for delivery in first.deliveries[:5]:
                await delivery.ack()
            await cut_off.flush()
            await until(lambda: len(first.deliveries) == 15)
            proxy.blackhole = True
            other = await work(second, "a", ordered=True)
            await until(lambda: len(other.deliveries) >= 45)
            assert other.bodies == [b"%d" % number for number in range(5, 50)]
            assert [delivery.attempt for delivery in other.deliveries[:10]] == [2] * 10
            proxy.blackhole = False
            await proxy.stop()
            await cut_off.close()


@pytest.mark.parametrize("gone", ["deleted", "purged", "expired"])
async def test_one_that_fails_and_is_gone_from_the_stream_holds_up_no_other(gone: str, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=2") as broker, administrator(server.port) as admin:
            worker = await work(broker, "a", ordered=True, settle=False, prefetch=5)
            await broker.publish(Message("a", b"fails"))
            await until(lambda: worker.deliveries)
            if gone == "deleted":
                await admin.delete_msg("EVENTS", 1)
            elif gone == "purged":
                await admin.purge_stream("EVENTS")
            else:
                await admin.update_stream(name="EVENTS", subjects=["a"], max_age=1, duplicate_window=1)
                while (await admin.stream_info("EVENTS")).state.messages:
                    pass
            await worker.deliveries[0].nack()
            await broker.publish(Message("a", b"next"))
            await until(lambda: worker.bodies == [b"fails", b"next"])


async def test_several_that_fail_come_again_in_order_before_the_rest(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a", ordered=True, settle=False, prefetch=5)
            await broker.publish_many([Message("a", b"%d" % number) for number in range(10)])
            await until(lambda: len(worker.deliveries) == 5)
            for delivery in worker.deliveries[1:4]:
                await delivery.nack()
            await until(lambda: len(worker.deliveries) == 8)
            assert worker.bodies[5:] == [b"1", b"2", b"3"]
            assert worker.deliveries[6].id == worker.deliveries[2].id
            for delivery in worker.deliveries:
                await delivery.ack()
            await until(lambda: worker.bodies[8:] == [b"5", b"6", b"7", b"8", b"9"])


async def test_many_that_are_settled_as_they_are_handed_over_come_in_order(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            sent = [b"%d" % number for number in range(2000)]
            await broker.publish_many([Message("a", body) for body in sent])
            worker = await work(broker, "a", ordered=True, start="all", prefetch=1000)
            await until(lambda: len(worker.deliveries) == 2000)
            assert worker.bodies == sent
            await broker.flush()
            async with administrator(server.port) as admin:
                assert (await admin.consumer_info("EVENTS", "q")).num_ack_pending == 0


async def test_what_comes_while_a_subscription_drains_goes_to_others_at_once(until: Until) -> None:
    count = 3000
    got: set[bytes] = set()

    def take(delivery: Delivery) -> None:
        got.add(delivery.body)
        at_once(delivery.ack())

    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as one, jetstream(server) as other:
            await one.publish_many([Message("a", b"%d" % number) for number in range(count)])
            for _ in range(10):
                subscription = await one.subscribe("a", take, queue="q", durable=Durable(start="all", prefetch=200))
                await subscription.drain()
            assert len(got) < count
            await other.subscribe("a", take, queue="q", durable=Durable(prefetch=200))
            await until(lambda: len(got) == count)


async def test_a_request_for_events_that_is_lost_is_made_again(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr("eventmicro_nats.durable.HEARTBEAT", 0.05)
    monkeypatch.setattr("eventmicro_nats.durable.SILENCE", 0.1)
    lost: list[bytes] = []
    push = Driver.push

    def lose_first(driver: Driver, command: bytes) -> None:
        if b".MSG.NEXT." in command and not lost:
            lost.append(command)
        else:
            push(driver, command)

    monkeypatch.setattr(Driver, "push", lose_first)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a")
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
    assert lost


async def test_what_is_held_is_kept_before_more_is_asked_for_on_a_new_connection(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    pushed: list[bytes] = []
    push = Driver.push

    def note(driver: Driver, command: bytes) -> None:
        pushed.append(command)
        push(driver, command)

    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a", settle=False)
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.deliveries)
            monkeypatch.setattr(Driver, "push", note)
            server.kill()
            await until(lambda: not broker.online)
            server.start()
            await until(lambda: any(b".MSG.NEXT." in command for command in pushed))
            assert b"+WPI" in pushed[0]


async def test_the_server_sends_further_events_while_those_before_are_handled(until: Until) -> None:
    came: list[bytes] = []

    def handle(delivery: Delivery) -> None:
        at_once(delivery.ack())
        if delivery.body == b"9":  # the last of those that were asked for at first
            came.append(next_in(connection, 6))

    with NatsServer(jetstream=True) as server:
        async with JetStreamBroker(server.jetstream_url) as broker:
            await broker.publish_many([Message("a", b"%d" % number) for number in range(20)])
            connection = broker._driver._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
            await broker.subscribe("a", handle, queue="q", durable=Durable(prefetch=10, start="all"))
            await until(lambda: came)
    assert came == [b"HMSG a"]  # and no heartbeat, which comes to an inbox


def next_in(connection: Any, size: int) -> bytes:
    """What is to be read next from a connection, once it is there; it can be read after that as before."""
    with socket.fromfd(connection.fileno(), connection.family, connection.type) as same:
        same.settimeout(5)
        return same.recv(size, socket.MSG_PEEK)


async def test_what_was_sent_to_a_lost_connection_is_not_waited_for_until_its_lease_ends(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with (
            jetstream(server) as other,
            administrator(server.port) as admin,
            FaultProxy(server.port) as proxy,
            JetStreamBroker(f"jetstream://127.0.0.1:{proxy.port}?reconnect_wait=0.05") as broker,
        ):
            worker = await work(broker, "a", ordered=True)
            await other.publish_many([Message("a", b"%d" % number) for number in range(10)])
            await until(lambda: len(worker.deliveries) == 10)
            await broker.flush()
            proxy.blackhole = True
            await other.publish_many([Message("a", b"%d" % number) for number in range(10, 20)])
            assert (await admin.consumer_info("EVENTS", "q")).num_ack_pending == 10
            proxy.cut()
            proxy.blackhole = False
            await other.publish_many([Message("a", b"%d" % number) for number in range(20, 30)])
            await until(lambda: len(worker.deliveries) >= 30)
            assert worker.bodies == [b"%d" % number for number in range(30)]


async def test_who_waits_for_anothers_events_does_not_fill_up_meanwhile(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with FaultProxy(server.port) as proxy, jetstream(server, "ack_wait=1") as second:
            cut_off = JetStreamBroker(f"jetstream://127.0.0.1:{proxy.port}?ack_wait=1")
            await cut_off.connect()
            first = await work(cut_off, "a", ordered=True, settle=False, prefetch=10)
            await second.publish_many([Message("a", b"%d" % number) for number in range(1000)])
            await until(lambda: len(first.deliveries) == 10)
            proxy.blackhole = True
            other = await work(second, "a", ordered=True, settle=False, prefetch=10)
            await until(lambda: other.deliveries)
            assert other.bodies[0] == b"0"
            assert len(second._durables[0].unsettled) < 100
            proxy.blackhole = False
            await proxy.stop()
            await cut_off.close()


async def test_what_was_not_begun_before_this_process_stood_still_comes_again(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=0.6") as broker:
            worker = await work(broker, "a", ordered=True, settle=False, prefetch=10)
            await broker.publish_many([Message("a", b"%d" % number) for number in range(20)])
            await until(lambda: len(worker.deliveries) == 10)
            time.sleep(1)
            await worker.deliveries[0].ack()
            assert all(delivery.lapsed for delivery in worker.deliveries[1:10])
            await until(lambda: len(worker.deliveries) >= 20)
            assert sorted(set(worker.bodies[10:]), key=int) == worker.bodies[10:]
            assert b"1" in worker.bodies[10:]


async def test_an_instance_that_is_not_pinned_asks_again_when_what_it_held_has_lapsed(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        other = jetstream(server, "ack_wait=1")
        async with jetstream(server, "ack_wait=1") as broker, administrator(server.port) as admin, other:
            first = await work(broker, "a", ordered=True, settle=False, prefetch=1)
            await broker.publish(Message("a", b"held"))
            await until(lambda: first.deliveries)
            await work(other, "a", ordered=True, prefetch=1)
            await broker.publish(Message("a", b"for the other"))
            await admin._nc.request("$JS.API.CONSUMER.UNPIN.EVENTS.q", b'{"group":"one"}')
            subscription: Any = first.subscription
            await until(lambda: not subscription._pin)
            time.sleep(1)  # this process stands still
            await other.close()
            await until(lambda: first.bodies[:2] == [b"held", b"held"])
            assert first.deliveries[0].lapsed


async def test_what_waits_here_goes_on_though_nobody_is_pinned_any_more(until: Until) -> None:
    """As by another client that leaves, and does not know yet that it is not the one that is pinned."""
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            worker = await work(broker, "a", ordered=True, settle=False, prefetch=2)
            await broker.publish(Message("a", b"held"))
            await until(lambda: worker.deliveries)
            subscription: Any = worker.subscription
            subscription._intake.close_gate()
            await broker.publish(Message("a", b"waits"))
            await until(lambda: len(subscription.unsettled) == 2)
            await admin._nc.request("$JS.API.CONSUMER.UNPIN.EVENTS.q", b'{"group":"one"}')
            subscription._look_for_others()
            await until(lambda: worker.bodies == [b"held", b"waits"])


async def test_what_was_given_back_has_lapsed_where_another_client_may_get_it(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a", ordered=True, settle=False)
            await broker.publish_many([Message("a"), Message("a")])
            await until(lambda: len(worker.deliveries) == 2)
            first, second = worker.deliveries
            subscription: Any = worker.subscription
            at_once(first.nack())
            assert not first.lapsed
            subscription._be_unpinned()
            assert first.lapsed
            at_once(second.nack())
            assert second.lapsed


async def test_an_event_that_the_former_client_acked_late_does_not_stand_for_one_that_it_holds_yet(
    until: Until,
) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a", ordered=True, settle=False)
            await broker.publish_many([Message("a"), Message("a")])
            await until(lambda: len(worker.deliveries) == 2)
            subscription: Any = worker.subscription
            here = {"ack_floor": {"stream_seq": 0}, "delivered": {"stream_seq": 2}, "num_ack_pending": 2}
            assert not subscription._misses_some(here)
            late = {"ack_floor": {"stream_seq": 1}, "delivered": {"stream_seq": 3}, "num_ack_pending": 2}
            assert subscription._misses_some(late)


async def test_events_behind_one_that_failed_follow_it_to_another_instance(until: Until) -> None:
    """Both are handled by whoever is pinned, at once: nobody keeps the second for a lane whose first has gone."""
    begun: list[tuple[str, int]] = []

    def instance(server: NatsServer, name: str) -> Service:
        service = Service("z", broker=f"jetstream://127.0.0.1:{server.port}?ack_wait=1")

        @service.subscribe("a", name="see", queue="q", order_by=lambda event: "key", retry=Retry(backoff=0.05))
        async def see(event: int) -> None:
            begun.append((name, event))
            if len(begun) == 1:
                raise Nack(delay=0.5)

        return service

    with NatsServer(jetstream=True) as server:
        both = instance(server, "one"), instance(server, "two")
        async with both[0], both[1], jetstream(server) as broker, administrator(server.port) as admin:
            await broker.publish_many([Message("a", b"0"), Message("a", b"1")])
            await until(lambda: begun)
            await admin._nc.request("$JS.API.CONSUMER.UNPIN.EVENTS.q", b'{"group":"one"}')
            await until(lambda: len(begun) == 3)
    assert [event for _, event in begun] == [0, 0, 1]


async def test_a_server_that_is_away_is_not_told_that_one_is_alive(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "ack_wait=0.2") as broker:
            worker = await work(broker, "a", ordered=True, prefetch=1, settle=False)
            await broker.publish(Message("a"))
            await until(lambda: worker.deliveries)
            server.kill()
            await until(lambda: not broker.online)
            assert broker._driver is not None
            await asyncio.sleep(0.1)
            waiting = broker._driver.pending_data_size
            await asyncio.sleep(0.5)
            assert broker._driver.pending_data_size <= waiting
            server.start()


async def test_events_of_two_streams_are_two_dead_letters_though_their_sequences_are_equal(until: Until) -> None:
    letters = Worker()
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            for kind in ("orders", "users"):
                await admin.add_stream(name=kind, subjects=[f"{kind}.*"])
            await broker.subscribe("dead.audit", letters, queue="letters", durable=Durable())
            services = [Service("orders", broker=broker), Service("users", broker=broker)]
            for service in services:
                service.subscribe(f"{service.name}.made", queue="audit", durable=True)(reject)
                await service.start()
            for service in services:
                await broker.publish(Message(f"{service.name}.made", b"1"))
            await until(lambda: len(letters.deliveries) == 2)
            for service in services:
                await service.stop()


async def test_events_of_a_stream_that_was_made_anew_are_dead_letters_of_their_own(until: Until) -> None:
    letters = Worker()
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await broker.subscribe("dead.audit", letters, queue="letters", durable=Durable())
            for turn in (1, 2):
                await admin.add_stream(name="orders", subjects=["orders.*"])
                service = Service("orders", broker=broker)
                service.subscribe("orders.made", queue="audit", durable=True)(reject)
                async with service:
                    await broker.publish(Message("orders.made", b"1"))
                    await until(lambda turn=turn: len(letters.deliveries) == turn)
                await admin.delete_stream("orders")


async def reject(number: int) -> None:
    raise Reject("never")


async def test_a_dead_letter_is_stored_whatever_its_event_was_published_under(until: Until) -> None:
    service = Service("orders")

    @service.subscribe("orders.placed", dead_letter="dead")
    async def place(number: int) -> None:
        raise Reject("never")

    with NatsServer(jetstream=True) as server:
        await service.start(f"jetstream://127.0.0.1:{server.port}")
        async with jetstream(server) as broker, administrator(server.port) as admin:
            dead = await work(broker, "dead", "dead")
            headers = {"Nats-Expected-Stream": "EVENTS", "Nats-Expected-Last-Sequence": "0", "One": "1"}
            await admin.publish("orders.placed", b"7", headers=headers)
            await until(lambda: dead.deliveries)
            assert dead.deliveries[0].headers is not None
            assert [name for name in dead.deliveries[0].headers if not name.startswith("Dead-")] == ["One"]
        await service.stop()


# -- the safety net --------------------------------------------------------------------------------------------------


async def test_what_the_server_gives_up_goes_to_the_dead_letter_once(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, jetstream(server) as other, administrator(server.port) as admin:
            await admin.add_stream(name="EVENTS", subjects=["orders.placed"])
            await admin.add_consumer(
                "EVENTS",
                durable_name="bill",
                filter_subject="orders.placed",
                max_deliver=2,
                ack_policy="explicit",  # type: ignore[arg-type]
            )
            held: list[Delivery] = []
            for each in (broker, other):
                durable = Durable(dead_letter="dead", prefetch=1)
                await each.subscribe("orders.placed", held.append, queue="bill", durable=durable)
            dead = await work(other, "dead", "dead")
            await broker.publish(Message("orders.placed", b"poison", {"One": "1"}))
            for _ in range(2):
                await until(lambda: held)
                given_up = held.pop()
                await given_up.nack()
            await until(lambda: dead.deliveries)
            await broker.publish(Message("dead", b"poison", id=f"bill.{given_up.id}"))  # as a subscriber gives it up
            await broker.publish(Message("dead", b"marker"))
            await until(lambda: b"marker" in dead.bodies)
            letter, _ = dead.deliveries
            assert letter.body == b"poison"
            assert letter.headers == {
                "One": "1",
                "Dead-Letter-Reason": "the server gave it up after max_deliver deliveries",
                "Dead-Letter-Attempts": "2",
                "Dead-Letter-Subject": "orders.placed",
                "Dead-Letter-Queue": "bill",
            }


@pytest.mark.parametrize("drains", [False, True], ids=["closed", "drained"])
async def test_what_is_held_at_its_end_on_the_last_delivery_is_given_up_when_somebody_hears_of_it(
    drains: bool, until: Until
) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await admin.add_stream(name="EVENTS", subjects=["a"])
            await admin.add_consumer(
                "EVENTS",
                durable_name="q",
                filter_subject="a",
                max_deliver=1,
                ack_wait=3,
                ack_policy="explicit",  # type: ignore[arg-type]
            )
            async with jetstream(server) as leaving:
                held = await work(leaving, "a", settle=False, dead_letter="dead")
                await broker.publish_many([Message("a", b"%d" % number) for number in range(3)])
                await until(lambda: len(held.deliveries) == 3)
                if drains:
                    await held.subscription.drain()
                    for delivery in held.deliveries:
                        await delivery.nack()
            dead = await work(broker, "dead", "dead")
            await work(broker, "a", dead_letter="dead")
            await until(lambda: sorted(dead.bodies) == [b"0", b"1", b"2"])


async def test_a_queue_that_may_end_deliveries_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await admin.add_stream(name="EVENTS", subjects=["a"])
            consumer = {"durable_name": "q", "filter_subject": "a", "max_deliver": 5, "ack_policy": "explicit"}
            await admin.add_consumer("EVENTS", **consumer)  # type: ignore[arg-type]
            await work(broker, "a", dead_letter="dead")
    assert "max_deliver=5; where no instance runs just then it is no dead letter: set it to -1" in caplog.text


async def test_a_queue_that_gives_no_events_is_told_of_where_nothing_is_declared(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "declare=false") as broker, administrator(server.port) as admin:
            await admin.add_stream(name="EVENTS", subjects=["a"])
            worker = await work(broker, "a", "missing")
            began = asyncio.get_running_loop().time()
            await until(lambda: "queue missing of stream EVENTS gives no events: 503" in caplog.text)
            assert asyncio.get_running_loop().time() - began > 0.6  # after pauses of 0.1, 0.2 and 0.4 s
            subscription: Any = worker.subscription
            consumer = {"durable_name": "missing", "filter_subject": "a", "ack_policy": "explicit"}
            await admin.add_consumer("EVENTS", **consumer)  # type: ignore[arg-type]
            await until(lambda: subscription._refused == 0)  # by the server's sign of life
            subscription._refused = 9
            await broker.publish(Message("a"))
            await until(lambda: worker.deliveries)
            assert subscription._refused == 0


async def test_a_queue_that_is_left_is_watched_no_more(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            for _ in range(3):
                worker = await work(broker, "a", dead_letter="dead")
                await worker.subscription.drain()
            await work(broker, "a", dead_letter="dead")
            assert len(broker._nets) == len(broker._durables) == 1
            assert broker._driver is not None
            watched = [s for s in broker._driver._subs.values() if s.subject.startswith("$JS.EVENT")]
            assert len(watched) == 2


async def test_many_that_are_given_up_at_once_are_saved_by_one_task(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await admin.add_stream(name="EVENTS", subjects=["a"])
            await admin.add_consumer(
                "EVENTS",
                durable_name="q",
                filter_subject="a",
                max_deliver=1,
                ack_policy="explicit",  # type: ignore[arg-type]
            )
            worker = await work(broker, "a", settle=False, dead_letter="dead", prefetch=500)
            dead = await work(broker, "dead", "dead")
            sent = [b"%d" % number for number in range(500)]
            await broker.publish_many([Message("a", body) for body in sent])
            await until(lambda: len(worker.deliveries) == 500)
            for delivery in worker.deliveries:
                await delivery.nack()
            (net,) = broker._nets.values()
            await until(lambda: net.tasks)
            assert len([task for task in asyncio.all_tasks() if "dead letter" in task.get_name()]) == 1
            await until(lambda: sorted(dead.bodies) == sorted(sent))


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
            assert (await admin.stream_info("EVENTS")).state.messages == 1
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
