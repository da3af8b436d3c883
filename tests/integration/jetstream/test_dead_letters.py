"""JetStream: what is given up, by a subscriber or by the server itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventmicro.broker import Durable
from eventmicro.errors import (
    Reject,
)
from eventmicro.message import Delivery, Message
from eventmicro.service import Service
from tests.integration.jetstream.kit import Until, Worker, administrator, jetstream, work
from tests.servers import NatsServer


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
            await admin.add_stream(name="EVENTS", subjects=["orders.placed", "dead"])
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
            await admin.add_stream(name="EVENTS", subjects=["a", "dead"])
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
            await admin.add_stream(name="EVENTS", subjects=["a", "dead"])
            consumer = {"durable_name": "q", "filter_subject": "a", "max_deliver": 5, "ack_policy": "explicit"}
            await admin.add_consumer("EVENTS", **consumer)  # type: ignore[arg-type]
            await work(broker, "a", dead_letter="dead")
    assert "max_deliver=5; where no instance runs just then it is no dead letter: set it to -1" in caplog.text


async def test_a_queue_that_gives_no_events_is_told_of_where_nothing_is_declared(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "declare=false") as broker, administrator(server.port) as admin:
            await admin.add_stream(name="EVENTS", subjects=["a", "dead"])
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
            await admin.add_stream(name="EVENTS", subjects=["a", "dead"])
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
