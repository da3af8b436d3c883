"""A queue after a reconnect: what settles its events goes out only where it is still the same queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream.durable import DurableSubscription
from eventmicro_nats.jetstream.queues import Place, Queue

from eventmicro.message import Delivery
from tests.unit.nats.kit import Server

BEGIN = Place(1, 0.0)


async def subscribed(begin: Place | None = BEGIN, created: str = "then") -> tuple[Any, Server, list[Delivery]]:
    server, got = Server(), list[Delivery]()
    queue = Queue("EVENTS", "q", 30.0, begin, created=created)

    async def find(first: Place | None) -> Queue:
        return queue

    subscription: Any = DurableSubscription(queue, find, got.append, 10)
    await subscription.open(server)
    server.tell("then")
    return subscription, server, got


async def reopen(subscription: Any) -> Server:
    subscription.lost()
    server = Server()
    await subscription.open(server)
    return server


@pytest.mark.parametrize(("begin", "created"), [(BEGIN, "then"), (None, "")], ids=["declared", "not declared"])
async def test_old_acks_are_said_again_to_the_same_queue_only(begin: Place | None, created: str) -> None:
    subscription, first, got = await subscribed(begin, created)
    for sequence in (5, 6):
        first.give(sequence)
        await got[-1].ack()
    assert first.settled() == [5, 6]
    second = await reopen(subscription)
    assert second.settled() == [], "whose they are is not known yet"
    second.tell("then", floor=5)
    assert second.settled() == [6]
    third = await reopen(subscription)
    third.tell("now")
    assert third.settled() == []
    third.give(6)
    assert third.settled() == [6], "the same event is handled already"
    assert len(got) == 2
    third.give(5, stored=2)
    assert len(got) == 3, "it is another event"
    subscription.end()


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("away", [True, False])
async def test_what_is_settled_before_the_queue_is_known_waits_for_that(away: bool, ended: bool) -> None:
    subscription, first, got = await subscribed()
    first.give(5)
    first.give(6)
    first.give(7)
    subscription.ended = ended
    subscription.lost()
    server = Server()
    if not away:
        await subscription.open(server)
    await got[0].ack()
    await got[1].nack()
    await got[1].ack()
    if away:
        await subscription.open(server)
    assert server.settled() == server.settled(b"-NAK") == first.settled(b"-NAK") == []
    server.tell("then", floor=4)
    assert set(server.settled()) == {5}
    assert server.settled(b"-NAK") == [6]
    await got[2].ack()
    assert server.settled()[-1] == 7
    assert not subscription.unsettled
    subscription.end()


async def test_nothing_that_was_here_before_settles_an_event_of_another_queue() -> None:
    subscription, first, got = await subscribed()
    for sequence in (5, 6, 7, 8):
        first.give(sequence)
    server = await reopen(subscription)
    await got[0].ack()
    await got[1].nack()
    server.tell("now")
    server.give(5, stored=2)
    await got[2].ack()
    subscription._extend_leases(server, 0.0)
    assert server.settled() == server.settled(b"-NAK") == []
    assert server.settled(b"+WPI")[4:] == [5]
    await got[4].ack()
    assert server.settled() == [5]
    server.give(7)
    server.give(8)
    assert server.settled() == [5, 7], "that one was handled, and comes again"
    await got[3].ack()
    assert server.settled() == [5, 7, 8]
    assert len(got) == 5
    subscription.end()


async def test_one_that_comes_again_before_the_queue_is_known_is_settled_as_it_was() -> None:
    subscription, first, got = await subscribed()
    first.give(5)
    server = await reopen(subscription)
    await got[0].ack()
    server.give(5)
    assert server.settled() == [5]
    assert not subscription.unsettled
    subscription.end()


async def test_what_is_held_is_not_given_back_when_all_ends() -> None:
    subscription, first, got = await subscribed()
    first.give(5)
    first.give(6)
    server = await reopen(subscription)
    await got[0].ack()
    subscription.end()
    assert server.settled(b"-NAK") == []


@pytest.mark.parametrize("silent", [True, False])
async def test_where_nothing_is_told_of_the_queue_it_is_taken_for_the_same(silent: bool) -> None:
    subscription, first, got = await subscribed(None, "")
    first.give(5)
    first.give(6)
    await got[0].ack()
    server = await reopen(subscription)
    await got[1].ack()
    assert server.settled() == []
    if silent:
        asked = next(command for command in server.sent if b".INFO." in command).split()[2]
        server.take(asked, b"", b"", b"NATS/1.0 503\r\n\r\n")
    else:
        what = 'nats: permissions violation for publish to "$js.api.consumer.info.events.q"'
        assert subscription.refused(what)
    assert set(server.settled()) == {5, 6}
    assert subscription.mending is None
    server.sent.clear()
    subscription._floor_asked = 0.0
    subscription._look_after_queue(server)
    assert any(b".INFO." in command for command in server.sent) is silent, "what is refused is not asked for again"
    asked_again = await reopen(subscription)
    assert asked_again.settled() == []
    asked_again.tell()
    assert asked_again.settled() == [5, 6]
    subscription.end()


async def test_who_leaves_before_the_queue_is_known_settles_what_it_held_when_it_is() -> None:
    subscription, first, got = await subscribed()
    first.give(5)
    first.give(6)
    server = await reopen(subscription)
    await got[0].ack()
    await subscription.drain()
    assert server.settled() == []
    await got[1].ack()
    server.tell()
    assert set(server.settled()) == {5, 6}
    assert not subscription.unsettled
    subscription.end()


@pytest.mark.parametrize("how", ["nack", "end"])
async def test_a_lease_that_is_over_is_neither_extended_nor_given_back(how: str) -> None:
    """Another one may have the event by then: a NAK would take it from there, and what extends it hold it there."""
    subscription, server, _ = await subscribed()
    for sequence in (5, 6, 7):
        server.give(sequence)
    late, fresh, acked = (subscription.unsettled[sequence] for sequence in (5, 6, 7))
    late.leased = acked.leased = late.leased - 30.0
    subscription._extend_leases(server, 0.0)
    assert server.settled(b"+WPI") == [6]
    if how == "nack":
        await late.nack()
        await late.nack(5.0)
        await fresh.nack()
        await acked.ack()
        assert server.settled() == [7], "what was handled is acknowledged all the same"
    else:
        subscription.end()
    assert server.settled(b"-NAK") == [6]
    subscription.end()


async def test_what_the_server_was_sending_is_given_back_though_who_waits_for_the_drain_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be missing for a whole lease."""
    answered = asyncio.Event()

    async def finish(server: Server, *_: object) -> None:
        await answered.wait()
        server.take = None

    monkeypatch.setattr(Server, "finish", finish)
    subscription, server, got = await subscribed()
    draining = asyncio.ensure_future(subscription.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait([draining])
    server.give(5)
    assert subscription.leaves
    answered.set()
    await subscription.drain()
    assert (server.settled(b"-NAK"), got) == ([5], [])
    assert not subscription.leaves
    subscription.end()


async def test_what_the_server_was_sending_is_given_back_though_leases_are_looked_after_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is unsettled here just then, and yet there is something to wait for."""
    answered = asyncio.Event()

    async def finish(server: Server, *_: object) -> None:
        await answered.wait()
        server.take = None

    monkeypatch.setattr(Server, "finish", finish)
    subscription, server, got = await subscribed()
    draining = asyncio.ensure_future(subscription.drain())
    await asyncio.sleep(0)
    subscription._tick()
    server.give(5)
    answered.set()
    await draining
    assert (server.settled(b"-NAK"), got) == ([5], [])
    subscription._tick()
    assert subscription._ticking is None, "there is nothing to look after any more"
    subscription.end()
