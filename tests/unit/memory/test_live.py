"""memory: the broker of one process keeps the port's promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected, MessageTooLarge, NotAllPublished, NotStored, UsageError
from eventmicro.memory import MemoryBroker, hub
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Inbox:
    """What a subscription received, taken at once; with a gate, one at a time when it is opened."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.deliveries: list[Delivery] = []
        self.gate = gate

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        self.deliveries.append(delivery)
        return None if self.gate is None else self._wait(self.gate)

    async def _wait(self, gate: asyncio.Event) -> None:
        await gate.wait()

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]


WILDCARDS = [
    # pattern, those it takes, those it does not
    ("a", ["a"], ["b", "a.b", "A"]),
    ("a.b", ["a.b"], ["a", "a.b.c", "a.c"]),
    ("*", ["a", "b"], ["a.b"]),
    ("a.*", ["a.b", "a.c"], ["a", "a.b.c", "b.a"]),
    ("*.b", ["a.b", "c.b"], ["b", "a.c", "a.b.c"]),
    ("a.*.c", ["a.b.c"], ["a.c", "a.b.d", "a.b.b.c"]),
    ("*.*", ["a.b"], ["a", "a.b.c"]),
    (">", ["a", "a.b", "a.b.c"], []),
    ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
    ("*.b.>", ["a.b.c", "x.b.c.d"], ["a.b", "a.c.b"]),
    ("a*", [], ["a", "ab"]),  # no wildcard, as it is not alone in its token
]


@pytest.mark.parametrize(("pattern", "taken", "left"), WILDCARDS, ids=[w[0] for w in WILDCARDS])
async def test_a_star_stands_for_one_token_and_an_arrow_for_the_rest(
    pattern: str, taken: list[str], left: list[str], until: Until
) -> None:
    async with MemoryBroker() as broker:
        inbox, everything = Inbox(), Inbox()
        await broker.subscribe(pattern, inbox)
        await broker.subscribe(">", everything)
        for subject in taken + left:
            await broker.publish(Message(subject))
        await until(lambda: len(everything.deliveries) == len(taken + left))
        assert [d.subject for d in inbox.deliveries] == taken


async def test_of_a_queue_one_member_gets_each_message_in_turn_and_all_others_get_all(until: Until) -> None:
    async with MemoryBroker() as broker:
        members = [Inbox(), Inbox(), Inbox()]
        other_queue, alone = Inbox(), Inbox()
        for member in members:
            await broker.subscribe("a", member, queue="q")
        await broker.subscribe("a", other_queue, queue="r")
        await broker.subscribe("a", alone)
        for number in range(9):
            await broker.publish(Message("a", b"%d" % number))
        await until(lambda: len(alone.deliveries) == len(other_queue.deliveries) == 9)
        assert [len(member.deliveries) for member in members] == [3, 3, 3]
        assert sorted(body for member in members for body in member.bodies) == alone.bodies


async def test_a_queue_with_a_wildcard_and_an_exact_member_still_gets_one_copy(until: Until) -> None:
    async with MemoryBroker() as broker:
        exact, wild = Inbox(), Inbox()
        await broker.subscribe("a.b", exact, queue="q")
        await broker.subscribe("a.*", wild, queue="q")
        for _ in range(10):
            await broker.publish(Message("a.b"))
        await until(lambda: len(exact.deliveries) + len(wild.deliveries) >= 10)
        await asyncio.sleep(0)
        assert len(exact.deliveries) + len(wild.deliveries) == 10


async def test_a_busy_member_of_a_queue_gets_less_than_a_free_one(until: Until) -> None:
    async with MemoryBroker() as broker:
        gate = asyncio.Event()
        busy, free = Inbox(gate), Inbox()
        await broker.subscribe("a", busy, queue="q")
        await broker.subscribe("a", free, queue="q")
        for _ in range(20):
            await broker.publish(Message("a"))
            await asyncio.sleep(0)
        gate.set()
        await until(lambda: len(busy.deliveries) + len(free.deliveries) == 20)
        assert len(busy.deliveries) <= 2


async def test_messages_come_in_the_order_in_which_they_were_published(until: Until) -> None:
    async with MemoryBroker() as broker:
        inbox = Inbox()
        await broker.subscribe("a.>", inbox)
        sent = [b"%d" % number for number in range(1000)]
        for body in sent:
            await broker.publish(Message(f"a.{len(body)}", body))
        await until(lambda: len(inbox.deliveries) == 1000)
        assert inbox.bodies == sent


async def test_a_message_arrives_as_it_was_sent(until: Until) -> None:
    async with MemoryBroker() as broker:
        inbox = Inbox()
        await broker.subscribe("a", inbox)
        await broker.publish(Message("a", b"\x00\xff", {"X": "y"}, "reply.here"))
        await broker.publish(Message("a"))
        await until(lambda: len(inbox.deliveries) == 2)
        assert inbox.deliveries == [Delivery("a", b"\x00\xff", {"X": "y"}, "reply.here"), Delivery("a")]


async def test_each_receiver_has_headers_of_its_own(until: Until) -> None:
    async with MemoryBroker() as broker:
        one, other = Inbox(), Inbox()
        await broker.subscribe("a", one)
        await broker.subscribe("a", other)
        mine = {"X": "y"}
        await broker.publish(Message("a", headers=mine))
        await until(lambda: one.deliveries and other.deliveries)
        headers = one.deliveries[0].headers
        assert headers is not None
        headers["X"] = "changed"
        assert other.deliveries[0].headers == mine == {"X": "y"}


async def test_where_nobody_listens_a_request_is_answered_at_once_and_an_event_is_not(until: Until) -> None:
    async with MemoryBroker() as broker:
        inbox = Inbox()
        await broker.subscribe("replies.>", inbox)
        await broker.publish(Message("nobody"))
        await broker.publish(Message("nobody", b"x", reply="replies.7"))
        await until(lambda: inbox.deliveries)
        assert inbox.deliveries == [Delivery("replies.7", b"", {"Status": "503"})]


async def test_a_publisher_waits_while_a_subscriber_is_full_and_loses_nothing() -> None:
    async with MemoryBroker(queue_limit=3) as broker:
        gate = asyncio.Event()
        inbox = Inbox(gate)
        await broker.subscribe("a", inbox)

        async def publish() -> None:
            for number in range(20):
                await broker.publish(Message("a", b"%d" % number))

        publishing = asyncio.create_task(publish())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not publishing.done()
        gate.set()
        await publishing
        while len(inbox.deliveries) < 20:
            await asyncio.sleep(0)
        assert inbox.bodies == [b"%d" % number for number in range(20)]


async def test_a_publisher_gives_up_where_a_subscriber_takes_nothing() -> None:
    async with MemoryBroker("memory://", queue_limit=1, send_timeout=0.01) as broker:
        await broker.subscribe("a", Inbox(asyncio.Event()))
        await broker.publish(Message("a"))
        await asyncio.sleep(0)  # the first is taken out, and being handled
        await broker.publish(Message("a"))
        too_slow = r"a: a subscriber is too slow: 1 messages wait .* for 0.01 s"
        with pytest.raises(NotStored, match=too_slow):
            await broker.publish(Message("a"), timeout=0.01)
        with pytest.raises(NotStored, match=too_slow):
            await broker.send(Message("a"))


async def test_a_body_over_the_limit_is_refused_and_one_of_the_limit_is_not(until: Until) -> None:
    async with MemoryBroker(max_payload=10) as broker:
        inbox = Inbox()
        await broker.subscribe("a", inbox)
        with pytest.raises(MessageTooLarge, match="11 bytes"):
            await broker.publish(Message("a", b"x" * 11))
        await broker.publish(Message("a", b"x" * 10))
        await until(lambda: inbox.deliveries)
        assert inbox.bodies == [b"x" * 10]


async def test_drain_hands_over_all_that_waits_and_takes_no_more() -> None:
    async with MemoryBroker() as broker:
        gate = asyncio.Event()
        inbox = Inbox(gate)
        subscription = await broker.subscribe("a", inbox)
        for _ in range(5):
            await broker.publish(Message("a", b"before"))
        draining = asyncio.create_task(subscription.drain())
        await asyncio.sleep(0)
        await broker.publish(Message("a", b"after"))
        assert not draining.done()
        gate.set()
        await draining
        await subscription.drain()
        assert inbox.bodies == [b"before"] * 5


@pytest.mark.parametrize("closes", [False, True])
async def test_a_cancelled_drain_hands_over_what_came_before_until_the_broker_closes(closes: bool) -> None:
    async with MemoryBroker() as broker:
        inbox = Inbox(gate := asyncio.Event())
        subscription: Any = await broker.subscribe("a", inbox)
        for _ in range(5):
            await broker.publish(Message("a"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await subscription.drain()
        await broker.publish(Message("a", b"after"))
        assert (inbox.bodies, subscription.done) == ([b""], False)
        if closes:
            await broker.close()
        gate.set()
        await subscription.drain()
        assert (inbox.bodies, subscription.done) == ([b""] * (1 if closes else 5), True)


async def test_close_frees_publishers_that_wait() -> None:
    receiver, sender = MemoryBroker(queue_limit=1), MemoryBroker(queue_limit=1)
    async with receiver, sender:
        await receiver.subscribe("a", Inbox(asyncio.Event()))
        publishing = [asyncio.create_task(sender.publish(Message("a"))) for _ in range(5)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not all(task.done() for task in publishing)
        await receiver.close()
        await asyncio.gather(*publishing)


async def test_a_message_that_waits_for_a_member_that_leaves_goes_to_another_of_its_queue() -> None:
    async with MemoryBroker(queue_limit=1) as broker:
        gate = asyncio.Event()
        leaving, staying = Inbox(gate), Inbox()
        subscription = await broker.subscribe("a", leaving, queue="q")
        sent = [asyncio.create_task(broker.publish(Message("a", b"%d" % number))) for number in range(6)]
        for _ in range(10):
            await asyncio.sleep(0)
        await broker.subscribe("a", staying, queue="q")
        draining = asyncio.create_task(subscription.drain())
        await asyncio.sleep(0)
        gate.set()
        await draining
        await asyncio.gather(*sent)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sorted(leaving.bodies + staying.bodies) == [b"%d" % number for number in range(6)]


async def test_before_connect_and_after_close_nothing_works_and_it_can_be_connected_again(until: Until) -> None:
    broker = MemoryBroker()
    uses: list[Callable[[], Awaitable[Any]]] = [
        lambda: broker.publish(Message("a")),
        lambda: broker.subscribe("a", Inbox()),
        lambda: broker.flush(),
    ]
    for _ in range(2):
        assert not broker.connected
        for use in uses:
            with pytest.raises(Disconnected, match="memory:// is not connected"):
                await use()
        with pytest.raises(Disconnected):
            broker.inbox()
        await broker.connect()
        await broker.connect()
        assert broker.connected
        inbox = Inbox()
        await broker.subscribe("a", inbox)
        await broker.publish(Message("a"))
        await until(lambda: inbox.deliveries)  # noqa: B023
        await broker.close()
        await broker.close()


async def test_those_with_the_same_url_share_a_broker_and_others_do_not(until: Until) -> None:
    async with MemoryBroker("memory://one") as one, MemoryBroker("memory://one") as same, MemoryBroker() as other:
        inbox, apart = Inbox(), Inbox()
        await same.subscribe("a", inbox)
        await other.subscribe("a", apart)
        await one.publish(Message("a"))
        await until(lambda: inbox.deliveries)
        assert apart.deliveries == []
        assert one.inbox() != same.inbox()


def test_every_event_loop_has_brokers_of_its_own_and_those_of_a_closed_one_are_gone() -> None:
    async def connected() -> int:
        await MemoryBroker("memory://loops").connect()
        return len(hub._hubs)

    assert len({asyncio.run(connected()) for _ in range(3)}) == 1


def test_a_url_takes_the_settings_that_there_are() -> None:
    broker = MemoryBroker("memory://name?queue_limit=1&max_payload=7", queue_limit=3, send_timeout=2)
    assert (broker._name, broker._queue_limit, broker._max_payload, broker._send_timeout) == ("name", 1, 7, 2)
    with pytest.raises(UsageError, match="write 'memory://' or 'memory://name'"):
        MemoryBroker("memory://name/path")
    for url, words in (
        ("?size=3", "nothing is called 'size'; there are like, queue_limit"),
        ("?queue_limit=0", "1 or"),
    ):
        with pytest.raises(UsageError, match=words):
            MemoryBroker(f"memory://{url}")


async def test_a_limit_of_the_url_is_kept() -> None:
    async with MemoryBroker("memory://limited?queue_limit=1&send_timeout=0.01") as broker:
        await broker.subscribe("full", lambda _: None, queue="full", durable=Durable())
        with pytest.raises(NotAllPublished) as refused:
            await broker.publish_many([Message("full", b"1"), Message("full", b"2")], timeout=0.01)
    assert refused.value.confirmed == 1


async def test_a_message_reaches_all_or_none_where_one_of_them_is_full() -> None:
    async with MemoryBroker(queue_limit=1) as broker:
        free, stuck = Inbox(), Inbox(asyncio.Event())
        await broker.subscribe("a", free)
        await broker.subscribe("a", stuck)
        for _ in range(2):
            await broker.publish(Message("a"))
            await asyncio.sleep(0)
        with pytest.raises(NotStored):
            await broker.publish(Message("a", b"refused"), timeout=0.01)
        assert free.bodies == [b"", b""]


async def test_a_consumer_that_raises_does_not_stop_the_rest(until: Until) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    got: list[bytes] = []

    def receive(delivery: Delivery) -> None:
        got.append(delivery.body)
        if delivery.body == b"bad":
            raise ValueError("bad")

    async with MemoryBroker() as broker:
        await broker.subscribe("a", receive)
        for body in (b"1", b"bad", b"2"):
            await broker.publish(Message("a", body))
        await until(lambda: len(got) == 3)
    assert [type(error) for error in raised] == [ValueError]


async def test_a_consumer_does_not_see_the_context_of_a_publisher(until: Until) -> None:
    whose = ContextVar("whose", default="the consumer's")
    seen: list[str] = []
    async with MemoryBroker() as broker:
        await broker.subscribe("a", lambda delivery: seen.append(whose.get()))
        whose.set("the publisher's")
        await broker.publish(Message("a"))
        await until(lambda: seen)
    assert seen == ["the consumer's"]


async def test_a_burst_does_not_keep_others_from_running() -> None:
    async with MemoryBroker() as broker:
        inbox = Inbox()
        await broker.subscribe("a", inbox)
        for _ in range(1000):
            await broker.publish(Message("a"))
        turns = 0
        while len(inbox.deliveries) < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10


async def test_of_who_gets_what_the_oldest_is_forgotten_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ROUTES", 3)
    inbox = Inbox()
    async with MemoryBroker("memory://many") as broker:
        for number in range(5):
            await broker.subscribe(f"taken.{number}", inbox)
        routes = hub.shared_hub("many")._routes
        for number in range(100):
            await broker.publish(Message(f"nobody.{number}"))
        assert list(routes) == [f"nobody.{number}" for number in range(92, 100)]
        for number in range(5):
            await broker.publish(Message(f"taken.{number}"))
        assert list(routes)[3:] == [f"taken.{number}" for number in range(5)]
