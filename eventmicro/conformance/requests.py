"""Requests and replies: to whoever listens now, each answer to its own question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from eventmicro.broker import Broker, StoresRequests
from eventmicro.conformance.bench import Bench, Consumer, cancel_at_once, numbered, raises
from eventmicro.conformance.case import case
from eventmicro.errors import Disconnected, MessageTooLarge
from eventmicro.message import Delivery, Message
from eventmicro.wire import ENDPOINT_QUEUE, NO_RESPONDERS, STATUS


@case("request_reply", "queue_groups")
async def a_thousand_requests_at_once_get_each_its_own_reply(bench: Bench) -> None:
    server, client = await bench.broker(), await bench.broker()
    answering = _answering(server)
    await server.subscribe(bench.subject, answering, queue="q")
    await server.flush()
    inbox = client.inbox()
    replies = await bench.listen(f"{inbox}.>", broker=client)
    for number in range(1000):
        await client.send(Message(bench.subject, str(number).encode(), reply=f"{inbox}.{number}.2000ms"))
    await replies.wait_for(1000)
    await answering.settled()
    assert {d.subject: d.body for d in replies.deliveries} == {
        f"{inbox}.{number}.2000ms": str(number).encode() for number in range(1000)
    }


@case("request_reply")
async def what_is_sent_one_after_the_other_keeps_its_order(bench: Bench) -> None:
    client, server = await bench.broker(), await bench.broker()
    inbox = server.inbox()
    listener = await bench.listen(f"{inbox}.*", broker=server)
    sent = numbered(5000)
    for body in sent:
        await client.send(Message(f"{inbox}.1", body))
    await listener.wait_for(5000)
    assert listener.bodies == sent


@case("request_reply", "queue_groups")
async def an_endpoint_answers_what_had_been_sent_when_its_drain_is_cancelled(bench: Bench) -> None:
    """Their callers would wait for nothing until their timeout: those of a queue, and of what one listens to alone."""
    for queue in (ENDPOINT_QUEUE, None):
        server, client, has_room = await bench.broker(), await bench.broker(), asyncio.Event()
        answering = _answering(server)

        def receive(request: Delivery, to: Consumer = answering, room: asyncio.Event = has_room) -> Awaitable[Any]:
            to(request)
            return room.wait()

        subject = f"{server.inbox()}.1" if queue is None else bench.subject
        subscription = await server.subscribe(subject, receive, queue=queue)
        await server.flush()
        inbox, sent = client.inbox(), numbered(100)
        replies = await bench.listen(f"{inbox}.>", broker=client)
        for body in sent:
            await client.send(Message(subject, body, reply=f"{inbox}.1.20000ms"))
        await client.flush()
        await answering.wait_for(1)
        await cancel_at_once(bench, subscription)
        has_room.set()
        await bench.all_arrive(sent, replies)


@case("request_reply")
async def inboxes_are_nobody_elses(bench: Bench) -> None:
    brokers = await asyncio.gather(*(bench.broker() for _ in range(3)))
    inboxes = [broker.inbox() for broker in brokers for _ in range(10)]
    assert len(set(inboxes)) == 30


@case("request_reply")
async def what_cannot_be_sent_is_refused(bench: Bench) -> None:
    broker = await bench.broker()
    await raises(MessageTooLarge, broker.send(Message(bench.subject, bytes(64 * 1024 * 1024))))
    await broker.close()
    await raises(Disconnected, broker.send(Message(bench.subject)))


@case("no_responders", "request_reply")
async def a_request_that_nobody_takes_is_answered_at_once(bench: Bench) -> None:
    broker = await bench.broker()
    inbox = broker.inbox()
    replies = await bench.listen(f"{inbox}.>", broker=broker)
    await broker.send(Message(bench.subject, b"anybody?", reply=f"{inbox}.1"))
    await replies.wait_for(1)
    reply = replies.deliveries[0]
    assert (reply.subject, reply.body) == (f"{inbox}.1", b"")
    assert (reply.headers or {}).get(STATUS) == NO_RESPONDERS


@case("request_reply")
async def a_body_like_a_confirmation_is_a_message_like_any(bench: Bench) -> None:
    """A broker that tells who stores a request says so of what is stored only, and takes nothing away."""
    broker = await bench.broker()
    inbox = broker.inbox()
    replies = await bench.listen(f"{inbox}.>", broker=broker)
    body = b'{"stream":"ORDERS","seq":7}'
    await broker.send(Message(f"{inbox}.1", body))
    await replies.wait_for(1)
    assert replies.bodies == [body]
    if isinstance(broker, StoresRequests):
        assert not await broker.stores([bench.subject])
    else:
        assert replies.deliveries[0].headers is None


def _answering(server: Broker) -> Consumer:
    """It answers each request by its own body."""
    return Consumer(server, lambda request: server.send(Message(request.reply, request.body)))
