"""The cases: each holds an adapter to one promise of `eventmicro.broker`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

from eventmicro.broker import Broker, Receive, Subscription
from eventmicro.conformance.bench import Bench, Inbox, case, listen, send
from eventmicro.errors import Disconnected, MessageTooLarge
from eventmicro.message import Delivery, Message
from eventmicro.wire import NO_RESPONDERS, STATUS

# -- connection ------------------------------------------------------------------------------------------------


@case()
async def connect_and_close_may_be_called_twice(bench: Bench) -> None:
    broker = bench.make_broker()
    assert not broker.connected
    for _ in range(2):
        await broker.connect()
        assert broker.connected
    for _ in range(2):
        await broker.close()
        assert not broker.connected


@case()
async def a_closed_broker_takes_nothing(bench: Bench) -> None:
    never, closed = bench.make_broker(), await bench.broker()
    await closed.close()
    for broker in (never, closed):
        for refused in (
            broker.publish(Message(bench.subject)),
            broker.subscribe(bench.subject, Inbox()),
            broker.flush(),
        ):
            try:
                await refused
            except Disconnected:
                continue
            raise AssertionError("Disconnected should have been raised")


@case("broadcast")
async def a_closed_broker_can_be_connected_again_without_its_subscriptions(bench: Bench) -> None:
    broker = await bench.broker()
    before, _ = await listen(broker, bench.subject)
    await broker.close()
    await broker.connect()
    after, _ = await listen(broker, bench.subject)
    await send(broker, bench.subject, 3)
    await after.wait_for(3)
    assert before.bodies == []


@case("broadcast")
async def close_sends_what_was_published(bench: Bench) -> None:
    listener, publisher = await bench.broker(), await bench.broker()
    inbox, _ = await listen(listener, bench.subject)
    sent = await send(publisher, bench.subject, 1000)
    await publisher.close()
    await inbox.wait_for(1000)
    assert inbox.bodies == sent


# -- messages --------------------------------------------------------------------------------------------------


@case("broadcast")
async def a_message_arrives_as_it_was_sent(bench: Bench) -> None:
    publisher, listener = await bench.broker(), await bench.broker()
    inbox, _ = await listen(listener, bench.subject)
    bodies = [b"", b"{}", bytes(range(256)), "äöü€😀".encode(), b"x" * 100_000]
    headers = [None, {"One": "1"}, {"Traceparent": "00-abc", "Text": "äöü€", "Empty": ""}]
    sent = [Message(bench.subject, body, header) for body in bodies for header in headers]
    for message in sent:
        await publisher.publish(message)
    await inbox.wait_for(len(sent))
    for message, delivery in zip(sent, inbox.deliveries, strict=True):
        assert delivery.subject == bench.subject
        assert delivery.body == message.body
        assert delivery.headers == message.headers
        assert delivery.attempt == 1


@case("broadcast")
async def messages_of_one_publisher_arrive_in_order(bench: Bench) -> None:
    publisher, listener = await bench.broker(), await bench.broker()
    inbox, _ = await listen(listener, bench.subject)
    sent = await send(publisher, bench.subject, 5000)
    await inbox.wait_for(5000)
    assert inbox.bodies == sent


@case("broadcast")
async def messages_of_many_publishers_all_arrive_once(bench: Bench) -> None:
    brokers = [await bench.broker() for _ in range(10)]
    inbox, _ = await listen(brokers[0], bench.subject)

    async def publish(number: int) -> None:
        for count in range(500):
            await brokers[number].publish(Message(bench.subject, f"{number} {count}".encode()))

    await asyncio.gather(*(publish(number) for number in range(10)))
    await inbox.wait_for(5000)
    assert Counter(inbox.bodies) == Counter(f"{n} {c}".encode() for n in range(10) for c in range(500))


@case("broadcast")
async def a_message_over_the_limit_is_refused_and_the_next_one_arrives(bench: Bench) -> None:
    broker = await bench.broker()
    inbox, _ = await listen(broker, bench.subject)
    for headers in (None, {"One": "1"}):
        try:
            await broker.publish(Message(bench.subject, b"x" * 64 * 1024 * 1024, headers))
        except MessageTooLarge:
            continue
        raise AssertionError("MessageTooLarge should have been raised")
    await broker.publish(Message(bench.subject, b"small"))
    await inbox.wait_for(1)
    assert inbox.bodies == [b"small"]


# -- who gets what ---------------------------------------------------------------------------------------------


@case("broadcast")
async def a_subject_gets_only_its_own_messages(bench: Bench) -> None:
    broker = await bench.broker()
    one, _ = await listen(broker, f"{bench.subject}.one")
    two, _ = await listen(broker, f"{bench.subject}.two")
    await broker.publish(Message(f"{bench.subject}.one", b"1"))
    await broker.publish(Message(f"{bench.subject}.two", b"2"))
    await one.wait_for(1)
    await two.wait_for(1)
    assert (one.bodies, two.bodies) == ([b"1"], [b"2"])


@case("broadcast")
async def without_a_queue_everyone_gets_every_message(bench: Bench) -> None:
    brokers = [await bench.broker() for _ in range(3)]
    inboxes = [(await listen(brokers[number % 3], bench.subject))[0] for number in range(6)]
    sent = await send(brokers[0], bench.subject, 100)
    for inbox in inboxes:
        await inbox.wait_for(100)
        assert inbox.bodies == sent


@case("queue_groups")
async def each_queue_gets_every_message_once(bench: Bench) -> None:
    brokers = [await bench.broker() for _ in range(3)]
    queues = {
        name: [(await listen(broker, bench.subject, queue=f"{bench.subject}.{name}"))[0] for broker in brokers]
        for name in ("a", "b")
    }
    sent = await send(brokers[0], bench.subject, 300)
    for inboxes in queues.values():
        while sum(len(i.deliveries) for i in inboxes) < 300:  # noqa: ASYNC110  three inboxes to wait for
            await asyncio.sleep(0.005)
        assert Counter(b for i in inboxes for b in i.bodies) == Counter(sent)
        assert all(i.deliveries for i in inboxes), "a member of the queue got nothing of 300"


@case("wildcards", "broadcast")
async def wildcards_match_as_specified(bench: Bench) -> None:
    broker = await bench.broker()
    table = {
        f"{bench.subject}.*": ["a", "b"],  # one token, no more and no less
        f"{bench.subject}.>": ["a", "b", "a.x", "a.x.y"],  # one or more tokens
        f"{bench.subject}.*.x": ["a.x"],  # in the middle
        f"{bench.subject}.a.>": ["a.x", "a.x.y"],  # not a itself
        f"{bench.subject}.a": ["a"],  # exact
    }
    inboxes = {pattern: (await listen(broker, pattern))[0] for pattern in table}
    for subject in ("a", "b", "a.x", "a.x.y"):
        await broker.publish(Message(f"{bench.subject}.{subject}", subject.encode()))
    end, _ = await listen(broker, f"{bench.subject}-end")
    await broker.publish(Message(f"{bench.subject}-end"))
    await end.wait_for(1)
    for pattern, wanted in table.items():
        await inboxes[pattern].wait_for(len(wanted))
        assert [b.decode() for b in inboxes[pattern].bodies] == wanted, pattern
        assert [d.subject for d in inboxes[pattern].deliveries] == [f"{bench.subject}.{w}" for w in wanted]


# -- taking and not taking -------------------------------------------------------------------------------------


@case("broadcast")
async def the_next_message_waits_until_there_is_room(bench: Bench) -> None:
    broker = await bench.broker()
    taken: list[bytes] = []
    rooms: list[asyncio.Future[None]] = []
    arrived = asyncio.Event()

    def receive(delivery: Delivery) -> Awaitable[None]:
        taken.append(delivery.body)
        rooms.append(asyncio.get_running_loop().create_future())
        arrived.set()
        return rooms[-1]

    await broker.subscribe(bench.subject, receive)
    others, _ = await listen(broker, bench.subject)
    sent = await send(broker, bench.subject, 20)
    await others.wait_for(20)
    for number in range(20):
        while len(taken) <= number:
            arrived.clear()
            await arrived.wait()
        assert len(taken) == number + 1, "a message came though the one before it left no room"
        rooms[number].set_result(None)
    assert taken == sent


@case("broadcast")
async def one_full_consumer_does_not_stop_another(bench: Bench) -> None:
    broker = await bench.broker()
    forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def never_room(delivery: Delivery) -> Awaitable[None]:
        return forever

    await broker.subscribe(bench.subject, never_room)
    inbox, _ = await listen(broker, bench.subject)
    sent = await send(broker, bench.subject, 500)
    await inbox.wait_for(500)
    assert inbox.bodies == sent


@case("broadcast")
async def drain_hands_over_what_had_been_sent_and_takes_no_more(bench: Bench) -> None:
    broker, publisher = await bench.broker(), await bench.broker()
    inbox = Inbox()

    async def slowly() -> None:
        await asyncio.sleep(0)

    def receive(delivery: Delivery) -> Awaitable[None]:
        inbox(delivery)
        return slowly()

    subscription = await broker.subscribe(bench.subject, receive)
    await broker.flush()
    sent = await send(publisher, bench.subject, 500)
    await publisher.flush()
    await subscription.drain()
    assert inbox.bodies == sent
    await subscription.drain()
    await send(publisher, bench.subject, 10)
    await publisher.flush()
    await broker.flush()
    assert len(inbox.bodies) == 500
    assert subscription.dropped == 0


@case("queue_groups")
async def members_that_join_and_leave_lose_nothing(bench: Bench) -> None:
    publisher, consumer = await bench.broker(), await bench.broker()
    inbox, _ = await listen(consumer, bench.subject, queue=bench.subject)
    publishing = asyncio.ensure_future(send(publisher, bench.subject, 2000))
    for _ in range(20):
        broker = await bench.broker()
        subscription = await _subscribe(broker, bench.subject, inbox, bench.subject)
        await asyncio.sleep(0)
        await subscription.drain()
        await broker.close()
    sent = await publishing
    await inbox.wait_for(2000)
    assert Counter(inbox.bodies) == Counter(sent)


async def _subscribe(broker: Broker, subject: str, receive: Receive, queue: str) -> Subscription:
    subscription = await broker.subscribe(subject, receive, queue=queue)
    await broker.flush()
    return subscription


# -- request and reply -----------------------------------------------------------------------------------------


@case("request_reply", "queue_groups")
async def a_thousand_requests_at_once_get_each_its_own_reply(bench: Bench) -> None:
    server, client = await bench.broker(), await bench.broker()
    replying: list[asyncio.Future[None]] = []

    def answer(delivery: Delivery) -> None:
        replying.append(asyncio.ensure_future(server.publish(Message(delivery.reply, delivery.body))))

    await server.subscribe(bench.subject, answer, queue="q")
    await server.flush()
    inbox = client.inbox()
    replies, _ = await listen(client, f"{inbox}.>")
    for number in range(1000):
        await client.publish(Message(bench.subject, str(number).encode(), reply=f"{inbox}.{number}.2000ms"))
    await replies.wait_for(1000)
    await asyncio.gather(*replying)
    assert {d.subject: d.body for d in replies.deliveries} == {
        f"{inbox}.{number}.2000ms": str(number).encode() for number in range(1000)
    }


@case("request_reply")
async def inboxes_are_nobody_elses(bench: Bench) -> None:
    brokers = [await bench.broker() for _ in range(3)]
    inboxes = [broker.inbox() for broker in brokers for _ in range(10)]
    assert len(set(inboxes)) == 30


@case("no_responders", "request_reply")
async def a_request_that_nobody_takes_is_answered_at_once(bench: Bench) -> None:
    broker = await bench.broker()
    inbox = broker.inbox()
    replies, _ = await listen(broker, f"{inbox}.>")
    await broker.publish(Message(bench.subject, b"anybody?", reply=f"{inbox}.1"))
    await replies.wait_for(1)
    reply = replies.deliveries[0]
    assert reply.subject == f"{inbox}.1"
    assert reply.body == b""
    assert (reply.headers or {}).get(STATUS) == NO_RESPONDERS
