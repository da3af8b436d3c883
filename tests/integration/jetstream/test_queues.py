"""JetStream: queues that are deleted or left, what they know of ids, and what is none of theirs."""

from __future__ import annotations

from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker

from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, jetstream, work
from tests.servers import FaultProxy, NatsServer
from tests.told import messages_in, until_told


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
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.FLOOR_INTERVAL", 0.05)
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
            await until_told(lambda: messages_in(admin), 2)


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_subscription_that_is_stuck_says_so_and_begins_anew(
    ordered: bool, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As it would be by a mistake of ours: it awaits events for which it has never asked."""
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.FLOOR_INTERVAL", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.05)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a", ordered=ordered)
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            subscription: Any = worker.subscription
            monkeypatch.setattr(subscription, "_ask", lambda: None)  # as where a wake-up is lost
            driver: Any = broker._driver
            driver.leave(subscription._inner)
            subscription._inbox = driver.new_inbox().encode()
            subscription._inner = await driver.subscribe_to(f"{subscription._inbox.decode()}.*", "", subscription._take)
            await broker.publish(Message("a", b"2"))
            monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 1000.0)
            await until(lambda: (subscription._info or {}).get("num_pending") == 1)
            await subscription._watchdog.look()
            subscription._watchdog._limit = 0.0
            await subscription._watchdog.look()
            assert f"{subscription}: events and room, and no progress" in caplog.text
            monkeypatch.delattr(subscription, "_ask")
            await until(lambda: worker.bodies == [b"1", b"2"])


async def test_a_subscription_that_was_not_taken_up_again_is(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 2.5)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a")
            subscription: Any = worker.subscription
            broker._driver.leave(subscription._inner)  # type: ignore[union-attr]
            subscription.lost()  # and nobody opens it
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
