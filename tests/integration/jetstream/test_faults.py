"""JetStream: servers that die, hang or are cut off, and what is closed or cancelled meanwhile."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from eventmicro_nats import JetStreamBroker
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.jetstream.advisories import SafetyNet
from eventmicro_nats.jetstream.durable import DurableSubscription
from nats.errors import ConnectionClosedError

from eventmicro.errors import (
    ConnectionFailed,
    Disconnected,
    NotAllPublished,
    Unconfirmed,
)
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, jetstream, once_unsettled, work
from tests.servers import FaultProxy, NatsServer
from tests.servers.nats import flush
from tests.told import messages_in, redelivered, until_told

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
                await until_told(lambda: messages_in(admin), 5000)  # and none was stored twice


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
            await until_told(lambda: messages_in(admin), 3000)  # and none was stored twice


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
                await once_unsettled(admin, 0)


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
            await until_told(lambda: redelivered(admin), 1)
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
                await once_unsettled(admin, 0)
                await until_told(lambda: redelivered(admin), 0)


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
