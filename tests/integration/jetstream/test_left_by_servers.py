"""JetStream: what a server leaves in a stream, and what it says of a queue, is no event; what others do to queues."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.jetstream.durable import DurableSubscription
from nats.js import JetStreamContext

from eventmicro import Retry, Service
from eventmicro.errors import Unconfirmed, UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, call, config_of, jetstream, make, once_unsettled, work
from tests.servers import NatsServer
from tests.servers.nats import flush
from tests.told import redelivered, until_told


def said(caplog: pytest.LogCaptureFixture, *words: str) -> int:
    return sum(all(word in record.getMessage() for word in words) for record in caplog.records)


# -- markers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_note_that_an_event_expired_or_was_purged_is_no_event(ordered: bool, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            marked = {"allow_msg_ttl": True, "subject_delete_marker_ttl": 60_000_000_000, "allow_rollup_hdrs": True}
            await make(admin, name="ORDERS", subjects=["orders.*"], max_msgs_per_subject=1, **marked)
            worker = await work(broker, "orders.*", start="all", ordered=ordered)
            await admin.publish("orders.a", b"1", headers={"Nats-TTL": "1s"})
            await until(lambda: worker.bodies == [b"1"])
            async with asyncio.timeout(20):  # until the server has written its note
                while (await admin.get_last_msg("ORDERS", "orders.a")).data:
                    await asyncio.sleep(0.02)
            note = await admin.get_last_msg("ORDERS", "orders.a")
            assert (note.headers or {})["Nats-Marker-Reason"] == "MaxAge"
            await broker.publish(Message("orders.b"))
            await until(lambda: len(worker.deliveries) == 2)
            assert [delivery.subject for delivery in worker.deliveries] == ["orders.a", "orders.b"]
            await once_unsettled(admin, 0, "ORDERS")


# -- what is removed while it is held --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["limits", "purge"])
async def test_what_is_removed_while_it_is_handled_was_not_given_up(
    how: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    service, seen, go = Service("orders"), list[int](), asyncio.Event()

    @service.subscribe("orders.placed", retry=Retry(attempts=3), concurrency=5)
    async def place(number: int) -> None:
        seen.append(number)
        await go.wait()

    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin:
            await make(admin, name="ORDERS", subjects=["orders.*"], max_msgs=3)
            await service.start(server.jetstream_url)
            for number in range(2):
                await admin.publish("orders.placed", b"%d" % number)
            await until(lambda: sorted(seen) == [0, 1])
            if how == "purge":
                await admin.purge_stream("ORDERS")
            else:
                for number in range(2, 5):
                    await admin.publish("orders.placed", b"%d" % number)
                removed = "was removed from stream ORDERS while it was held, by limits or a purge"
                await until(lambda: said(caplog, removed) == 2)
            go.set()
            await service.stop()
    assert not said(caplog, "given up")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- paused, reset, changed, deleted ---------------------------------------------------------------------------------


async def change(admin: JetStreamContext, consumer: str = "q", **config: Any) -> None:
    """As an administrator edits a consumer."""
    before = (await call(admin, f"CONSUMER.INFO.EVENTS.{consumer}", {}))["config"]
    arguments = {"stream_name": "EVENTS", "action": "update", "config": before | config}
    await call(admin, f"CONSUMER.CREATE.EVENTS.{consumer}", arguments)


@pytest.mark.parametrize("before", [True, False], ids=["before-the-start", "at-work"])
async def test_a_queue_that_is_paused_says_so_and_when_it_goes_on(
    before: bool, until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.FLOOR_INTERVAL", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 5.0)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            worker = await work(broker, "a")
            if before:
                await worker.subscription.drain()
            await call(admin, "CONSUMER.PAUSE.EVENTS.q", {"pause_until": "2999-01-01T00:00:00Z"})
            if before:
                worker = await work(broker, "a")
            paused = "queue q of stream EVENTS is paused until 2999-01-01T00:00:00Z", "nats consumer resume EVENTS q"
            await until(lambda: said(caplog, *paused) == 1)
            await broker.publish(Message("a", b"1"))
            assert not worker.bodies
            await call(admin, "CONSUMER.PAUSE.EVENTS.q", {})
            await until(lambda: worker.bodies == [b"1"])
            await until(lambda: said(caplog, "queue q of stream EVENTS is paused no more") == 1)


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_queue_can_be_reset_to_where_it_began(ordered: bool, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await broker.publish(Message("a", b"before"))
            worker = await work(broker, "a", ordered=ordered)
            for number in range(3):
                await broker.publish(Message("a", b"%d" % number))
            await until(lambda: worker.bodies == [b"0", b"1", b"2"])
            await worker.subscription.drain()
            answer = await admin._nc.request("$JS.API.CONSUMER.RESET.EVENTS.q", b'{"seq": 2}')
            assert "error" not in json.loads(answer.data), answer.data
            again = await work(broker, "a", ordered=ordered)
            await until(lambda: len(again.bodies) == 3)
            assert sorted(again.bodies) == [b"0", b"1", b"2"]


async def test_a_queue_that_somebody_turns_to_another_subject_gives_nothing_until_it_is_turned_back(
    until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.FLOOR_INTERVAL", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 5.0)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            worker = await work(broker, "a")
            await work(broker, "b", "other")
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await change(admin, filter_subject="b")
            await until(lambda: said(caplog, "queue q of stream EVENTS gives no events from now on", "takes b, not a"))
            await broker.publish(Message("b", b"of another subject"))
            await change(admin, filter_subject="a")
            await broker.publish(Message("a", b"2"))
            await until(lambda: worker.bodies == [b"1", b"2"])


def pushed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is sent from here on."""
    sent, push = list[bytes](), Driver.push

    def note(driver: Driver, command: bytes) -> None:
        sent.append(command)
        push(driver, command)

    monkeypatch.setattr(Driver, "push", note)
    return sent


@pytest.mark.parametrize("looked", [True, False], ids=["looked-at-before", "not-yet-looked-at"])
async def test_what_somebody_sets_of_a_queue_is_gone_by_at_work(
    looked: bool, until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shorter lease is extended sooner; events that are held stay here."""
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.FLOOR_INTERVAL", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.05)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 5.0)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            with monkeypatch.context() as patched:
                if not looked:
                    patched.setattr(DurableSubscription, "_ask_for_info", lambda *_: None)
                worker = await work(broker, "a")
                subscription: Any = worker.subscription
                await until(lambda: not looked or subscription._config)
                await change(admin, ack_wait=500_000_000, max_ack_pending=50)
                assert (subscription._config is not None) is looked
            await until(lambda: subscription._queue.ack_wait == 0.5)
            worker.settle = False
            extended, push = list[bytes](), Driver.push
            monkeypatch.setattr(
                Driver, "push", lambda driver, command: (extended.append(command), push(driver, command))
            )
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await until(lambda: sum(b"+WPI" in command for command in extended) == 6)  # over more than two leases
            assert worker.bodies == [b"1"]
            await worker.deliveries[0].ack()
            await until_told(lambda: redelivered(admin), 0)
    assert said(caplog, "queue q of stream EVENTS was changed by somebody else") == 1


OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "confirms-nothing": ({"subjects": ["a"], "no_ack": True}, "no_ack=true"),
    "drops-the-oldest": ({"subjects": ["a"], "max_msgs": 2}, "max_msgs=2 with discard=old"),
    "a-work-queue": ({"subjects": ["a"], "retention": "workqueue"}, "retention=workqueue"),
}


@pytest.mark.parametrize("kind", OTHERWISE)
async def test_a_stream_that_somebody_makes_otherwise_at_work_is_refused_by_name_until_it_fits(
    kind: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    config, wanted = OTHERWISE[kind]
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            worker = await work(broker, "a")
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await admin.delete_stream("EVENTS")
            before = await make(admin, **config)
            await until(lambda: said(caplog, "queue q of stream EVENTS gives no events", wanted))
            assert await config_of(admin) == before
            await admin.delete_stream("EVENTS")
            await make(admin, subjects=["a"])
            await broker.publish(Message("a", b"2"))
            await until(lambda: worker.bodies == [b"1", b"2"])


async def test_a_publish_to_a_stream_that_confirms_nothing_any_more_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.publishing.ATTEMPT_TIMEOUT", 0.05)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await broker.publish(Message("a", b"1"))
            await admin.delete_stream("EVENTS")
            await make(admin, subjects=["a"], no_ack=True)
            with pytest.raises(Unconfirmed, match="no answer came in time"):
                await broker.publish(Message("a", b"2"), timeout=0.2)
            with pytest.raises(UsageError, match=r"stream EVENTS .*no_ack=true"):
                await broker.publish(Message("a", b"3"), timeout=1)


async def test_what_somebody_makes_of_a_stream_at_work_is_told(
    until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.watching.INTERVAL", 0.05)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            worker = await work(broker, "a")
            await call(admin, "STREAM.UPDATE.EVENTS", await config_of(admin) | {"discard": "old", "max_msgs": 3})
            await until(lambda: said(caplog, "stream EVENTS was changed", "max_msgs=3 with discard=old"))
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await call(admin, "STREAM.UPDATE.EVENTS", await config_of(admin) | {"discard": "new", "max_msgs": -1})
            await until(lambda: said(caplog, "stream EVENTS was changed", "keeps what is confirmed again"))
            await call(admin, "STREAM.UPDATE.EVENTS", await config_of(admin) | {"subjects": ["b"]})
            await until(lambda: said(caplog, "stream EVENTS takes a no more"))
            async with asyncio.timeout(20):
                while "a" not in (await config_of(admin))["subjects"]:
                    await asyncio.sleep(0.02)
            await admin.publish("a", b"2")
            await until(lambda: worker.bodies == [b"1", b"2"])


# -- leases that are over ------------------------------------------------------------------------------------------


async def test_a_nack_after_the_lease_takes_nothing_from_who_has_the_event(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server, "ack_wait=1") as slow:
            late = await work(slow, "a", settle=False)
            await slow.publish(Message("a", b"1"))
            await until(lambda: late.deliveries)
            subscription: Any = late.subscription
            subscription.ended = True  # it asks for no more
            subscription._ticking.cancel()  # as in a process that stood still
            subscription._driver.leave(subscription._inner)
            async with jetstream(server, "ack_wait=1") as other:
                worker = await work(other, "a", settle=False)
                await until(lambda: worker.deliveries)
                said = await admin._nc.subscribe("$JS.ACK.EVENTS.q.1.>")  # of the first delivery
                await flush(admin._nc)
                subscription._extend_leases(subscription._driver, 0.0)
                await late.deliveries[0].nack()
                await slow.flush()
                await flush(admin._nc)
                assert said.pending_msgs == 0
                assert worker.deliveries[0].attempt == 2
                await worker.deliveries[0].ack()
