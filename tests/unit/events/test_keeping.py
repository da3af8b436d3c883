"""A topic's `ttl` and `priority`: kept by memory, refused where a broker does not keep them, and free where unsaid."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, Reject, Service, Topic
from eventmicro.broker import Durable
from eventmicro.codecs import Codecs
from eventmicro.errors import Unsupported, UsageError
from eventmicro.events.objects import LargeMessage
from eventmicro.events.routes import Routes
from eventmicro.memory import MemoryBroker
from eventmicro.message import Bounded, Message, Tombstone
from eventmicro.plugins import unconnected_broker
from eventmicro.running.refusing import misnamed_topics


class Offer(BaseModel):
    id: str


@pytest.mark.parametrize("ttl", [0, -1, "5", True, float("nan"), float("inf")])
def test_a_ttl_is_a_time(ttl: Any) -> None:
    with pytest.raises(UsageError, match=r"^ttl=.*: write seconds"):
        Topic("shop.offers", Offer, ttl=ttl)


@pytest.mark.parametrize("priority", [-1, 256, 1.5, "high", True])
def test_a_priority_is_a_small_number(priority: Any) -> None:
    with pytest.raises(UsageError, match=r"^priority=.*: write a number from 0 to 255"):
        Topic("shop.offers", Offer, priority=priority)


def test_what_a_topic_says_is_in_each_of_its_messages_and_costs_others_nothing() -> None:
    routes = Routes(Codecs())
    kinds: list[tuple[Topic[Any], Any, type]] = [
        (Topic("a", Offer, ttl=5, priority=2), Offer(id="1"), Bounded),
        (Topic("a", Offer, ttl=5, priority=2, key="id", id="id"), Offer(id="1"), Bounded),
        (Topic("a", Offer | None, ttl=5, priority=2), Offer(id="1"), Bounded),
        (Topic("a", Offer | None, ttl=5, priority=2), None, Tombstone),
        (Topic("a", Offer, ttl=5, priority=2, large="object"), Offer(id="1"), LargeMessage),
        (Topic("a", Offer, ttl=5, priority=2, cloudevents=True), Offer(id="1"), Bounded),
        (Topic("{shop}.a", Offer, ttl=5, priority=2).at(shop="x"), Offer(id="1"), Bounded),
    ]
    for topic, event, kind in kinds:
        message = routes.find(topic).message(event, "k", None, None)
        assert (type(message), message.ttl, message.priority) == (kind, 5, 2)
    plain = Topic("a", Offer)
    assert type(routes.find(plain).message(Offer(id="1"), None, None, None)) is Message


@pytest.mark.parametrize(
    ("broker", "word", "able"),
    [
        ("kafka://", "ttl", "amqp://, amqps://, jetstream://, memory://"),
        ("kafka://", "priority", "amqp://, amqps://, memory://"),
        ("nats://", "ttl", "amqp://, amqps://, jetstream://, memory://; where the server has JetStream"),
        ("jetstream://", "priority", "amqp://, amqps://, memory://"),
    ],
)
def test_a_broker_that_does_not_keep_it_refuses_it_at_the_start(broker: str, word: str, able: str) -> None:
    topic: Topic[Offer] = Topic("shop.offers", Offer, **{word: 5})  # type: ignore[call-overload]
    (refused,) = misnamed_topics(unconnected_broker(broker), [topic])
    assert str(refused).startswith(f"Topic('shop.offers', Offer) has {word}=5, which {broker}")
    assert f"does not keep: leave it out; able are {able}" in str(refused)


@pytest.mark.parametrize("word", ["ttl", "priority"])
async def test_it_is_refused_where_it_is_published_and_subscribed_to(word: str) -> None:
    topic: Topic[Offer] = Topic("shop.offers", Offer, **{word: 5})  # type: ignore[call-overload]
    async with Client("memory://?like=kafka") as client:
        with pytest.raises(Unsupported, match=rf"has {word}=5, which .* does not keep"):
            await client.publish(topic, Offer(id="1"))
        with pytest.raises(Unsupported, match=rf"has {word}=5, which .* does not keep"):
            await client.publish_many(topic, [Offer(id="1")])
    service = Service("shop", broker="memory://?like=kafka")

    @service.subscribe(topic)
    async def take(offer: Offer) -> None: ...

    with pytest.raises(Unsupported, match=rf"shop\.take needs {word}, which .* lacks; able are .*memory"):
        await service.start()


async def test_a_queue_in_memory_drops_what_is_over_and_makes_room_for_others() -> None:
    broker = MemoryBroker("memory://ttl", queue_limit=2)
    await broker.connect()
    taken: list[bytes] = []
    subscription = await broker.subscribe("a", lambda _: None, queue="q", durable=Durable())
    await subscription.drain()
    await broker.publish(Bounded("a", b"brief", ttl=1e-9))
    await broker.publish(Bounded("a", b"long", ttl=600))
    full = asyncio.ensure_future(broker.publish(Message("a", b"waits for room"), timeout=30))
    await asyncio.sleep(0)
    assert not full.done()
    await broker.subscribe("a", lambda delivery: taken.append(delivery.body), queue="q", durable=Durable())
    await full
    await broker.flush()
    while len(taken) < 2:
        await asyncio.sleep(0)
    assert taken == [b"long", b"waits for room"]
    await broker.close()


async def test_what_was_begun_with_in_time_is_tried_again_when_its_time_is_over() -> None:
    broker = MemoryBroker("memory://again")
    await broker.connect()
    attempts: list[int] = []
    done = asyncio.Event()

    def receive(delivery: Any) -> None:
        attempts.append(delivery.attempt)
        delivery.event.expires = 0.0
        if delivery.attempt == 3:
            delivery.try_ack()
            done.set()
        else:
            asyncio.ensure_future(delivery.nack())  # noqa: RUF006

    await broker.subscribe("a", receive, queue="q", durable=Durable())
    await broker.publish(Bounded("a", b"", ttl=600))
    await done.wait()
    assert attempts == [1, 2, 3]
    await broker.close()


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [(False, [b"9", b"5", b"5 too", b"0", b"none"]), (True, [b"0", b"5", b"9", b"none", b"5 too"])],
)
async def test_what_is_urgent_comes_first_but_for_an_ordered_queue(ordered: bool, expected: list[bytes]) -> None:
    broker = MemoryBroker(f"memory://urgent-{ordered}")
    await broker.connect()
    first = await broker.subscribe("a", lambda _: None, queue="q", durable=Durable(ordered=ordered))
    await first.drain()
    for body, priority in ((b"0", 0), (b"5", 5), (b"9", 9), (b"none", None), (b"5 too", 5)):
        await broker.publish(Bounded("a", body, priority=priority))
    taken: list[bytes] = []

    def receive(delivery: Any) -> None:
        taken.append(delivery.body)
        delivery.try_ack()

    await broker.subscribe("a", receive, queue="q", durable=Durable(ordered=ordered, prefetch=1))
    while len(taken) < len(expected):
        await asyncio.sleep(0)
    assert taken == expected
    await broker.close()


class Recording(MemoryBroker):
    """A broker that remembers what was published."""

    published: list[Message]

    async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
        self.published.append(message)
        await super().publish(message, timeout=timeout)


async def test_a_dead_letter_does_not_expire_with_its_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    broker = Recording("memory://dead-ttl")
    broker.published = []
    topic, service, dead = Topic("shop.offers", Offer, ttl=600), Service("shop", broker=broker), asyncio.Event()

    @service.subscribe(topic)
    async def take(offer: Offer) -> None:
        raise Reject("no")

    @service.subscribe("dead.shop.take", queue="letters")
    async def letter(body: bytes) -> None:
        dead.set()

    async with service:
        await service.publish(topic, Offer(id="1"))
        await dead.wait()
    letters = [message for message in broker.published if message.subject == "dead.shop.take"]
    assert [isinstance(message, Bounded) for message in letters] == [False]
