"""JetStream: the order of a queue over instances, failures and lost connections."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker
from eventmicro_nats.connection.driver import Driver

from eventmicro.broker import Durable
from eventmicro.errors import (
    Nack,
)
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.integration.jetstream.kit import Until, administrator, at_once, jetstream, once_unsettled, work
from tests.servers import FaultProxy, NatsServer

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
                await once_unsettled(admin, 0)


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
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 0.1)
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
    came: list[bool] = []

    def handle(delivery: Delivery) -> None:
        at_once(delivery.ack())
        if delivery.body == b"9":  # the last of those that were asked for at first
            came.append(comes(connection, b"HMSG a "))

    with NatsServer(jetstream=True) as server:
        async with JetStreamBroker(server.jetstream_url) as broker:
            await broker.publish_many([Message("a", b"%d" % number) for number in range(20)])
            connection = broker._driver._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
            await broker.subscribe("a", handle, queue="q", durable=Durable(prefetch=10, start="all"))
            await until(lambda: came)
    assert came == [True]


def comes(connection: Any, part: bytes) -> bool:
    """Whether this is there to be read from a connection, now or within five seconds; it can be read after that as
    before.
    """
    deadline = time.monotonic() + 5
    with socket.fromfd(connection.fileno(), connection.family, connection.type) as same:
        same.settimeout(5)
        while time.monotonic() < deadline:
            if part in same.recv(65536, socket.MSG_PEEK):
                return True
            time.sleep(0.001)  # something else is there: the answer to a question, a heartbeat
    return False


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
            await once_unsettled(admin, 10)
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


@pytest.mark.parametrize("alone", [True, False])
async def test_what_was_lost_with_a_leader_is_called_back_by_the_one_that_was_alone_there(
    alone: bool, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new leader knows no pin; who gets the next one, soon enough after all was its own, has nobody to wait for."""
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
            subscription: Any = worker.subscription
            await until(lambda: subscription._alone_at > 0)
            if not alone:
                monkeypatch.setattr("eventmicro_nats.jetstream.ordered.pin_timeout", lambda ack_wait: 0.0)
            proxy.blackhole = True
            await other.publish_many([Message("a", b"%d" % number) for number in range(10, 20)])
            await once_unsettled(admin, 10)
            await admin._nc.request("$JS.API.CONSUMER.UNPIN.EVENTS.q", b'{"group":"one"}')
            proxy.cut()
            proxy.blackhole = False
            await other.publish_many([Message("a", b"%d" % number) for number in range(20, 30)])
            if not alone:  # they may be another's, until their lease ends
                await until(lambda: subscription._pin and len(subscription._intake))
                assert len(worker.deliveries) == 10
                return
            await until(lambda: len(worker.deliveries) >= 30)
            assert worker.bodies == [b"%d" % number for number in range(30)]


async def test_who_leaves_lets_another_be_pinned_when_it_has_settled_all(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as one, jetstream(server) as two:
            first = await work(one, "a", ordered=True, settle=False, prefetch=1)
            await two.publish_many([Message("a", b"0"), Message("a", b"1")])
            await until(lambda: first.deliveries)
            second = await work(two, "a", ordered=True)
            await first.subscription.drain()
            subscription: Any = first.subscription
            assert subscription._pin, "it holds an event yet"
            await first.deliveries[0].ack()
            assert not subscription._pin
            await until(lambda: second.bodies == [b"1"])
