"""JetStream: an event's id is the server's own, as it is given; two topics may use one for two events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_nats.jetstream.api import Api
from eventmicro_nats.jetstream.publishing import Packet, Publisher
from eventmicro_nats.jetstream.replies import Answer, NoAnswer

from eventmicro.errors import NotAllPublished, Unconfirmed
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, Worker, administrator, jetstream, make, work
from tests.integration.jetstream.test_rights import PUBLISH, broker_of, users
from tests.servers import NatsServer
from tests.servers.nats import flush


class Calls:
    """Counts the management calls of a test, by their first words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        call = Api.call

        async def counted(api: Api, what: str, arguments: Any = None, *, deadline: float) -> dict[str, Any]:
            self.made.append(what)
            return await call(api, what, arguments, deadline=deadline)

        monkeypatch.setattr(Api, "call", counted)

    def count(self, word: str) -> int:
        return sum(what.startswith(word) for what in self.made)


async def stored(admin: Any, stream: str = "EVENTS") -> list[tuple[str, str, bytes]]:
    """What is in a stream: subject, id, body."""
    last = (await admin.stream_info(stream)).state.last_seq
    found = [await admin.get_msg(stream, seq=number) for number in range(1, last + 1)]
    return [(one.subject, (one.headers or {}).get("Nats-Msg-Id", ""), one.data) for one in found]


async def test_an_id_travels_as_it_is_given_and_is_one_with_that_of_other_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = Calls(monkeypatch)
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, subjects=["orders.*"])
            await admin.publish("orders.placed", b"theirs", headers={"Nats-Msg-Id": "ev-0"})
            await broker.publish(Message("orders.placed", b"ours", id="ev-0"))
            await broker.publish(Message("orders.placed", b"1", id="ev-1"))
            assert (await admin.publish("orders.placed", b"again", headers={"Nats-Msg-Id": "ev-1"})).duplicate
            assert await stored(admin) == [("orders.placed", "ev-0", b"theirs"), ("orders.placed", "ev-1", b"1")]
            assert calls.count("STREAM.MSG.GET") == 1, "one that was a duplicate"


@pytest.mark.parametrize("many", [False, True])
async def test_two_topics_may_use_one_id(many: bool, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, subjects=["orders.*"])
            placed, paid = await work(broker, "orders.placed", "placed"), await work(broker, "orders.paid", "paid")
            calls = Calls(monkeypatch)
            events = [Message(f"orders.{kind}", kind.encode(), id="7") for kind in ("placed", "paid") for _ in range(3)]
            if many:
                await broker.publish_many(events)
            else:
                for event in events:
                    await broker.publish(event)
            await until(lambda: placed.bodies and paid.bodies)
            assert await stored(admin) == [("orders.placed", "7", b"placed"), ("orders.paid", "7/orders.paid", b"paid")]
            assert (placed.bodies, paid.bodies) == ([b"placed"], [b"paid"])
            assert calls.count("STREAM.MSG.GET") == 5, "each that the server took for a duplicate"
            calls.made.clear()
            await broker.publish_many([Message("orders.placed", b"8", id=f"n{n}") for n in range(50)])
            await broker.publish(Message("orders.placed", b"9"))
            assert calls.made == [], "as a rule nothing is asked"


async def test_a_duplicate_that_cannot_be_looked_at_is_not_taken_for_stored() -> None:
    publish = [*PUBLISH, "Orders.paid"]
    with NatsServer(users(publish), jetstream=True) as server:
        async with broker_of(server) as broker:
            await broker.publish(Message("Orders.placed", id="7"))
            said = r'Orders\.paid: stream EVENTS knows its id .*to publish to "\$JS\.API\.STREAM\.MSG\.GET\.EVENTS"'
            with pytest.raises(Unconfirmed, match=said):
                await broker.publish(Message("Orders.paid", id="7"))
            with pytest.raises(NotAllPublished, match=said) as caught:
                await broker.publish_many([Message("Orders.placed"), Message("Orders.paid", id="7")])
            assert list(caught.value.failed) == [1]


@pytest.mark.parametrize("takes", ["jobs.a", "jobs.*", "jobs.>"])
@pytest.mark.parametrize("many", [False, True])
async def test_what_is_gone_and_was_published_from_here_is_known(takes: str, many: bool, until: Until) -> None:
    """A stream does not say whose id it was: one that is published again must not be handled again."""
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="JOBS", subjects=[takes], retention="workqueue")
            worker = await work(broker, "jobs.a", start="all")
            for _ in range(3):
                await (
                    broker.publish_many([Message("jobs.a", b"1", id="7")] * 2)
                    if many
                    else broker.publish(Message("jobs.a", b"1", id="7"))
                )
                await settled(admin, until, worker, [b"1"])
            await broker.publish(Message("jobs.a", b"2"))
            await settled(admin, until, worker, [b"1", b"2"])


async def test_of_what_is_gone_one_of_another_subject_is_another_event(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="JOBS", subjects=["jobs.*"], retention="workqueue")
            placed, paid = [await work(broker, f"jobs.{name}", name, start="all") for name in ("placed", "paid")]
            for _ in range(2):
                await broker.publish(Message("jobs.placed", b"1", id="7"))
                await settled(admin, until, placed, [b"1"])
                await broker.publish(Message("jobs.paid", b"2", id="7"))
                await settled(admin, until, paid, [b"2"])


@pytest.mark.parametrize(("takes", "is_known"), [("jobs.a", True), ("jobs.*", False)])
async def test_of_what_is_gone_and_came_from_others_only_a_stream_of_one_subject_knows_whose_it_was(
    takes: str, is_known: bool, until: Until
) -> None:
    """Nobody says that it is stored, and nobody stores it twice."""
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="JOBS", subjects=[takes], retention="workqueue")
            worker = await work(broker, "jobs.a", start="all")
            await admin.publish("jobs.a", b"1", headers={"Nats-Msg-Id": "7"})
            await settled(admin, until, worker, [b"1"])
            if is_known:
                await broker.publish(Message("jobs.a", b"1", id="7"))
            else:
                said = "jobs.a: stream JOBS knows its id already, of an event that is gone .*no two subjects"
                with pytest.raises(Unconfirmed, match=said):
                    await broker.publish(Message("jobs.a", b"1", id="7"))
                with pytest.raises(NotAllPublished, match=said):
                    await broker.publish_many([Message("jobs.a", b"2"), Message("jobs.a", b"1", id="7")])
            assert worker.bodies == ([b"1"] if is_known else [b"1", b"2"])


async def test_a_resend_of_ours_whose_first_confirmation_was_lost_is_not_stored_twice(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, lost = Publisher._is_stored, list[Answer]()

    def lose_the_first(publisher: Publisher, packet: Packet, answer: Answer, deadline: float) -> bool:
        if not lost:
            lost.append(answer)
            answer = NoAnswer.LATE
        return take(publisher, packet, answer, deadline)

    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="JOBS", subjects=["jobs.*"], retention="workqueue")
            worker = await work(broker, "jobs.a", start="all")

            async def wait_for_the_worker(*_: Any) -> None:
                await settled(admin, until, worker, [b"1"])

            monkeypatch.setattr(Publisher, "_is_stored", lose_the_first)
            monkeypatch.setattr(Publisher, "_prepare", wait_for_the_worker)
            with pytest.raises(Unconfirmed, match="of an event that is gone"):
                await broker.publish(Message("jobs.a", b"1", id="7"))
            assert b'"seq":1' in lost[0]
            await broker.publish(Message("jobs.a", b"2", id="8"))
            await settled(admin, until, worker, [b"1", b"2"])


async def settled(admin: Any, until: Until, worker: Worker, bodies: list[bytes]) -> None:
    """These have come, all of them, and nothing is left in the work queue."""
    await until(lambda: worker.bodies == bodies)
    async with asyncio.timeout(20):
        while (await admin.stream_info("JOBS")).state.messages:
            await asyncio.sleep(0.01)
    assert worker.bodies == bodies


async def test_what_may_be_stored_is_not_sent_again_when_a_foreign_stream_may_have_forgotten_its_id() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"], duplicate_window=500_000_000)
            await broker.publish(Message("orders.placed"))
            await admin.delete_stream("ORDERS")
            sent = await admin._nc.subscribe("orders.placed")  # a stream that does not answer
            await flush(admin._nc)
            with pytest.raises(Unconfirmed):
                await broker.publish(Message("orders.placed"), timeout=10)
            await flush(admin._nc)
            assert sent.pending_msgs == 1
