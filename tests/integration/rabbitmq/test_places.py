"""RabbitMQ: exchanges, queues and bindings of every kind, as topics and subscribers describe them."""

from __future__ import annotations

from typing import Any

import aiormq
import pytest
from eventmicro_rabbitmq import RabbitBinding, RabbitBroker, RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.connection.channel import Channel

from eventmicro.broker import Durable
from eventmicro.client import Client
from eventmicro.context import Context
from eventmicro.errors import Missing, NotStored, UsageError
from eventmicro.message import Delivery, Message, Routed
from eventmicro.places import Exchange, Queue
from eventmicro.retry import Retry
from eventmicro.service import Service
from eventmicro.topic import Topic
from tests.integration.rabbitmq.kit import Until, raw_channel
from tests.told import consumers, depth, until_told

CLASSIC: Any = "classic"


async def delete(url: str, *names: str) -> None:
    """Exchanges and queues of these names."""
    async with raw_channel(url) as channel:
        for name in names:
            await channel.queue_delete(name)
            await channel.exchange_delete(name)


@pytest.mark.parametrize("kind", ["topic", "direct", "fanout", "headers"])
async def test_a_topic_names_its_exchange(url: str, subject: str, kind: str, until: Until) -> None:
    topic = Topic(f"{subject}.placed", int, exchange=RabbitExchange(subject, type=kind))
    got: list[int] = []
    every: list[int] = []
    service = Service(subject)

    @service.subscribe(topic)
    async def keep(event: int) -> None:
        got.append(event)

    @service.subscribe(topic, queue=None)
    async def see(event: int) -> None:
        every.append(event)

    async with raw_channel(url) as channel:
        await service.start(url)
        async with Client(url) as client:
            await client.publish(topic, 1)
            await client.publish_many(topic, [2, 3])
            await client.publish(f"{subject}.placed", 4)  # to the exchange of the settings, which is another
        await channel.basic_publish(b"5", exchange=subject, routing_key=f"{subject}.placed")
        await until(lambda: len(got) == 4 and len(every) == 4)
        await service.stop()
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match=f"current is '{kind}'"):
            await channel.exchange_declare(
                subject, exchange_type="fanout" if kind == "topic" else "topic", durable=True
            )
    assert got == every == [1, 2, 3, 5]
    await delete(url, subject, f"{subject}.keep", f"dead.{subject}.keep")


async def test_wildcards_and_headers_choose(url: str, subject: str, until: Until) -> None:
    shop = RabbitExchange(f"{subject}.shop")
    kinds = RabbitExchange(f"{subject}.kinds", type="headers")
    got: list[tuple[str, int]] = []
    service = Service(subject)

    @service.subscribe(f"{subject}.*.placed", exchange=shop)
    async def placed(event: int, context: Context) -> None:
        got.append((context.topic, event))

    binding = RabbitBinding(arguments={"x-match": "all", "kind": "new", "rank": "1"})

    @service.subscribe(Topic(f"{subject}.any", int, exchange=kinds), queue=RabbitQueue(f"{subject}.new", bind=binding))
    async def new(event: int, context: Context) -> None:
        got.append(("new", event))

    await service.start(url)
    async with Client(url) as client:
        for number, key in enumerate(("a.placed", "a.b.placed", "b.placed")):
            await client.publish(Topic(f"{subject}.{key}", int, exchange=shop), number)
        other = Topic(f"{subject}.whatever", int, exchange=kinds)
        await client.publish(other, 7, metadata={"kind": "old", "rank": "1"})
        await client.publish(other, 8, metadata={"kind": "new", "rank": "1", "more": "2"})
        await until(lambda: len(got) == 3)
        await service.stop()
    assert set(got) == {(f"{subject}.a.placed", 0), (f"{subject}.b.placed", 2), ("new", 8)}
    await delete(url, *(f"{subject}.{name}" for name in ("shop", "kinds", "new", "placed")))


async def test_the_default_exchange_hands_an_event_to_the_queue_of_its_subject(
    url: str, subject: str, until: Until
) -> None:
    topic = Topic(subject, int, exchange=RabbitExchange(""))
    got: list[int] = []
    service, wrong = Service("a"), Service("b")

    @service.subscribe(topic, queue=RabbitQueue(subject, type="classic"))
    async def take(event: int) -> None:
        got.append(event)

    @wrong.subscribe(topic)
    async def elsewhere(event: int) -> None: ...

    with pytest.raises(UsageError, match=rf"default exchange hands .*write queue=RabbitQueue\('{subject}'\)"):
        await wrong.start(url)
    await service.start(url)
    async with Client(url) as client, raw_channel(url) as channel:
        await client.publish(topic, 1)
        await channel.basic_publish(b"2", routing_key=subject)
        await client.publish(subject, 3)  # is another place
        await until(lambda: len(got) == 2)
        await service.stop()
    assert got == [1, 2]
    await delete(url, subject)


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"x-queue-type": "quorum"},
        {"x-max-priority": 9},
        {"x-max-length": 100_000, "x-overflow": "reject-publish"},
        {"x-queue-type": "quorum", "x-delivery-limit": 30, "x-dead-letter-exchange": "amq.topic"},
    ],
    ids=str,
)
async def test_a_queue_of_others_is_used_as_it_is(url: str, subject: str, made: dict[str, Any], until: Until) -> None:
    """And bound, as its subscriber says; with all that is promised of its events."""
    got: list[tuple[int, int]] = []
    letters: list[Delivery] = []
    service = Service(subject)
    queue = RabbitQueue(subject)

    @service.subscribe(subject, queue=queue, retry=Retry(attempts=2, backoff=0.05, longest=0.05))
    async def fail(event: int, context: Context) -> None:
        got.append((event, context.attempt))
        raise ValueError("never")

    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await channel.queue_declare(subject, durable=True, arguments=dict(made))
        await channel.basic_publish(b"1", routing_key=subject)
        await broker.subscribe(f"dead.{subject}", letters.append, queue=f"dead.{subject}", durable=Durable())
        await service.start(url)
        await broker.publish(Message(subject, b"2"))
        await until(lambda: len(letters) == 2)
        await service.stop()
        await until_told(lambda: depth(channel, subject), 0)
    assert sorted(got) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    await delete(url, subject, f"dead.{subject}")


@pytest.mark.parametrize(
    ("made", "queue", "says"),
    [
        ({"x-queue-type": "quorum"}, {"type": "classic"}, "x-queue-type is quorum, not classic: write RabbitQueue as"),
        ({"x-max-priority": 3}, {"type": "classic", "max_priority": 9}, "x-max-priority is 3, not 9"),
        ({}, {"arguments": {"x-max-length": 9}}, "x-max-length is not set, not 9"),
        ({"x-queue-type": "stream"}, {}, "is a stream, which gives nothing back: bind a queue of your own"),
        ({"x-expires": 60_000}, {}, "deleted with its events"),
    ],
    ids=str,
)
async def test_a_queue_that_is_not_as_said_or_keeps_nothing_is_refused(
    url: str, subject: str, made: dict[str, Any], queue: dict[str, Any], says: str
) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await channel.queue_declare(subject, durable=True, arguments=dict(made))
        place = RabbitQueue(subject, **queue)
        with pytest.raises(UsageError, match=says):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(), place=place)
        await until_told(lambda: consumers(channel, subject), 0)
        await channel.queue_delete(subject)


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        ({"type": "stream"}, "is a stream"),
        ({"durable": False}, "gone when RabbitMQ starts again"),
        ({"auto_delete": True}, "goes with its last consumer"),
        ({"exclusive": True}, "goes with the connection"),
        ({"arguments": {"x-expires": 60_000}}, "deleted with its events"),
    ],
    ids=str,
)
async def test_what_keeps_no_events_is_not_made(url: str, subject: str, queue: dict[str, Any], says: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        place = RabbitQueue(subject, **queue)
        with pytest.raises(UsageError, match=says):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(), place=place)
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await channel.queue_declare(subject, passive=True)


@pytest.mark.parametrize(
    "queue", [{"durable": False}, {"auto_delete": True}, {"exclusive": True}, {"type": "classic"}], ids=str
)
async def test_what_keeps_no_events_will_do_where_none_is_to_be_kept(
    url: str, subject: str, queue: dict[str, Any], until: Until
) -> None:
    got: list[int] = []
    service = Service(subject)

    @service.subscribe(subject, queue=RabbitQueue(subject, **queue), durable=False)
    async def see(event: int) -> None:
        got.append(event)

    await service.start(url)
    async with raw_channel(url) as channel:
        await service.publish(subject, 1)
        await channel.basic_publish(b"2", routing_key=subject)
        await until(lambda: len(got) == 2)
        await service.stop()
        await channel.queue_delete(subject)
    assert sorted(got) == [1, 2]


async def test_a_queue_that_is_not_permitted_any_more_is_refused_and_not_tried_without_end(
    url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RabbitMQ 4 says it where it is set so: it ends the whole connection."""
    why = "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated."

    async def end(self: Channel, *_: object, **__: object) -> None:
        self.link.lost.set_result(why)
        raise ConnectionError(why)

    async with RabbitBroker(url) as broker:
        place = RabbitQueue(subject, durable=False, declare=True)
        monkeypatch.setattr(Channel, "queue_declare", end)
        with pytest.raises(UsageError, match=r"permits no queue .* durable=True, or exclusive=True"):
            await broker.subscribe(subject, lambda _: None, queue=subject, place=place)


async def test_a_stream_is_refused_where_nothing_is_kept_too(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await channel.queue_declare(subject, durable=True, arguments={"x-queue-type": "stream"})
        for place in (RabbitQueue(subject), RabbitQueue(f"{subject}.new", type="stream")):
            with pytest.raises(UsageError, match="is a stream, of which each consumer gets all"):
                await broker.subscribe(subject, lambda _: None, queue=place.name, place=place)
        await channel.queue_delete(subject)


async def test_a_classic_priority_queue_serves_the_highest_first(url: str, subject: str, until: Until) -> None:
    got: list[bytes] = []
    place = RabbitQueue(subject, type="classic", max_priority=9)
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(), place=place)
        await made.drain()
        for priority in (1, 9, 5):
            about = aiormq.spec.Basic.Properties(priority=priority, delivery_mode=2)
            await channel.basic_publish(b"%d" % priority, exchange="events", routing_key=subject, properties=about)
        ending = broker.subscribe(subject, lambda d: got.append(d.body), queue=subject, durable=Durable(), place=place)
        await ending
        await until(lambda: len(got) == 3)
        await channel.queue_delete(subject)
    assert got == [b"9", b"5", b"1"]


async def test_an_alternate_exchange_gets_what_no_queue_takes(url: str, subject: str, until: Until) -> None:
    rest = RabbitExchange(f"{subject}.rest", type="fanout")
    main = RabbitExchange(subject, type="direct", alternate=rest.name)
    got: list[bytes] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(f"{subject}.any", lambda d: got.append(d.body), exchange=rest)
        await broker.publish(Routed(f"{subject}.nobody", b"1", exchange=main))
        await until(lambda: got == [b"1"])
    await delete(url, subject, rest.name)


async def test_an_exchange_may_be_bound_to_another(url: str, subject: str, until: Until) -> None:
    bound = RabbitExchange(subject, type="fanout", bind=RabbitBinding(key=f"{subject}.*"))
    got: list[bytes] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, lambda d: got.append(d.body), exchange=bound)
        await broker.publish(Message(f"{subject}.a", b"1"))
        await broker.publish(Message(f"other.{subject}", b"2"))
        await broker.publish(Message(f"{subject}.b", b"3"))
        await until(lambda: len(got) == 2)
    assert got == [b"1", b"3"]
    await delete(url, subject)


async def test_several_bindings_bring_each_event_once(url: str, subject: str, until: Until) -> None:
    left, right = RabbitExchange(f"{subject}.l", type="fanout"), RabbitExchange(f"{subject}.r", type="direct")
    bind = [
        RabbitBinding(exchange=left),
        RabbitBinding(exchange=right, key="a"),
        RabbitBinding(exchange=right, key="b"),
    ]
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        place = RabbitQueue(subject, bind=bind)
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable(), place=place)
        for exchange, key in ((left.name, ""), (right.name, "a"), (right.name, "c"), (right.name, "b")):
            await channel.basic_publish(key.encode(), exchange=exchange, routing_key=key)
        await broker.publish(Message(subject))  # the exchange of the settings is none of those that are named
        await until(lambda: len(got) == 3)
    assert [delivery.subject for delivery in got] == [subject, "a", "b"], "one without a key is of the subject"
    await delete(url, subject, left.name, right.name)


async def test_what_is_left_alone_is_neither_made_nor_bound(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    shop = RabbitExchange(subject, type="fanout", declare=False)
    place = RabbitQueue(subject, bind=False)
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        with pytest.raises(NotStored, match=f"no exchange '{subject}'"):
            await broker.publish(Routed(subject, exchange=shop))
        await channel.queue_declare(subject, durable=True)
        options: dict[str, Any] = {"queue": subject, "durable": Durable(), "exchange": shop, "place": place}
        await broker.subscribe(subject, got.append, **options)
        await broker.publish(Message(subject, b"not bound"))
        await channel.basic_publish(b"straight", routing_key=subject)
        await until(lambda: got)
    assert [delivery.body for delivery in got] == [b"straight"]
    await delete(url, subject)


async def test_check_says_what_is_missing_or_otherwise(url: str, subject: str) -> None:
    shop = RabbitExchange(subject, type="fanout", declare="check")
    place = RabbitQueue(subject, declare="check")
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        options: dict[str, Any] = {"queue": subject, "durable": Durable(), "exchange": shop, "place": place}
        with pytest.raises(
            UsageError, match=f"exchange '{subject}' is missing and declare=check: make it, of type fan"
        ):
            await broker.subscribe(subject, lambda _: None, **options)
        await channel.exchange_declare(subject, exchange_type="direct", durable=False)
        with pytest.raises(UsageError, match="made otherwise: type is 'direct', asked for is 'fanout'"):
            await broker.subscribe(subject, lambda _: None, **options)
        await channel.exchange_delete(subject)
        await channel.exchange_declare(subject, exchange_type="fanout", durable=False)
        with pytest.raises(UsageError, match=f"queue '{subject}' is missing and declare=check"):
            await broker.subscribe(subject, lambda _: None, **options)
        await channel.queue_declare(subject, durable=True)
        await broker.subscribe(subject, lambda _: None, **options)
    await delete(url, subject)


async def test_what_does_not_fit_is_told_before_what_is_only_missing(url: str, subject: str) -> None:
    """Something else is missing, too, and is looked at first."""
    checking = f"{url}&declare=check&exchange={subject}"
    durable = Durable(dead_letter=f"dead.{subject}")
    async with raw_channel(url) as channel, RabbitBroker(checking) as broker:
        with pytest.raises(Missing) as missing:
            await broker.declare(subject, queue=subject, durable=durable)
        await channel.queue_declare(subject, durable=True)
        with pytest.raises(UsageError, match=f"queue '{subject}' exists and is made otherwise") as wrong:
            await broker.declare(subject, queue=subject, durable=durable)
    await delete(url, subject)
    assert set(missing.value.what) == {f"exchange {subject}", f"queue {subject}", f"queue dead.{subject}"}
    assert not isinstance(wrong.value, Missing)


async def test_an_exchange_of_another_type_is_refused_and_one_made_otherwise_is_used(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await channel.exchange_declare(subject, exchange_type="fanout", durable=False, auto_delete=True)
        with pytest.raises(UsageError, match=f"exchange '{subject}' exists and is made otherwise: type is 'fanout'"):
            await broker.subscribe(subject, lambda _: None, exchange=RabbitExchange(subject))
        await broker.subscribe(subject, lambda _: None, exchange=RabbitExchange(subject, type="fanout"))
        await broker.publish(Routed(subject, exchange=RabbitExchange(subject, type="fanout")))


async def test_a_type_that_no_plug_in_has_is_named(url: str, subject: str) -> None:
    async with RabbitBroker(url) as broker:
        strange = RabbitExchange(subject, type="x-strange")
        with pytest.raises(UsageError, match="knows no type 'x-strange': enable the plug-in that has it"):
            await broker.subscribe(subject, lambda _: None, exchange=strange)
        with pytest.raises(UsageError, match="knows no type 'x-strange'"):
            await broker.publish(Routed(subject, exchange=strange))
        await broker.publish(Message(subject))


async def test_check_does_not_ask_for_the_exchange_of_what_rabbitmq_gives_up(url: str, subject: str) -> None:
    settings = f"{url}&declare=check&exchange={subject}"
    async with raw_channel(url) as channel:
        await channel.exchange_declare(subject, exchange_type="topic", durable=True)
        await channel.queue_declare(subject, durable=True, arguments={"x-queue-type": "quorum"})
        async with RabbitBroker(settings) as broker:
            place = RabbitQueue(subject)
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(), place=place)
            with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
                await channel.exchange_declare(f"{subject}.dead", passive=True)
    await delete(url, subject)


async def test_one_exchange_that_is_gone_costs_the_others_nothing(url: str, subject: str) -> None:
    gone = RabbitExchange(f"{subject}.gone", declare=False)
    async with RabbitBroker(url) as broker:
        for _ in range(3):
            with pytest.raises(NotStored, match="no exchange"):
                await broker.publish(Routed(subject, exchange=gone))
            await broker.publish_many([Message(subject)] * 10)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RabbitExchange("ä"), "exchange 'ä'"),
        (lambda: RabbitExchange("x" * 128), "up to 127 signs"),
        (lambda: RabbitExchange("", alternate="a"), "as it is"),
        (lambda: RabbitExchange("a", declare="maybe"), "declare='maybe': write True, False or 'check'"),  # type: ignore[arg-type]
        (lambda: RabbitQueue("a", type="lazy"), "write 'quorum', 'classic' or 'stream'"),  # type: ignore[arg-type]
        (lambda: RabbitQueue("a", max_priority=9), "type='classic'"),
        (lambda: RabbitQueue("a", type=CLASSIC, max_priority=256), "up to 255"),
        (lambda: RabbitQueue("a", arguments={"x-queue-type": "classic"}), "write type= and max_priority="),
        (lambda: RabbitQueue("a", bind="orders.#").bindings, "RabbitBinding"),  # type: ignore[arg-type]
        (lambda: RabbitBinding(exchange=RabbitExchange("")), "nothing can be bound to the default exchange"),
        (lambda: Topic("a", int, exchange="shop"), "RabbitExchange"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(make: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


async def test_a_direct_exchange_knows_no_wildcards(url: str, subject: str) -> None:
    direct = RabbitExchange(subject, type="direct")
    async with RabbitBroker(url) as broker:
        with pytest.raises(UsageError, match="of type direct, which knows no wildcards; name each key"):
            await broker.subscribe(f"{subject}.*", lambda _: None, exchange=direct)


def test_they_are_what_the_core_carries() -> None:
    assert isinstance(RabbitExchange("a"), Exchange)
    assert isinstance(RabbitQueue("a"), Queue)


async def test_an_exchange_that_two_subscribers_of_a_service_describe_in_two_ways_is_refused(
    url: str, subject: str
) -> None:
    """They are subscribed side by side, so that neither is there when the other one is looked at."""
    service = Service(subject, broker=url)

    async def take(event: int) -> None: ...

    for kind in ("topic", "direct"):
        service.subscribe(subject, name=kind, exchange=RabbitExchange(subject, type=kind))(take)
    async with raw_channel(url) as channel:
        with pytest.raises(UsageError, match="is described in two ways"):
            async with service:
                pass
        for kind in ("topic", "direct"):
            await channel.queue_delete(f"{subject}.{kind}")
            await channel.queue_delete(f"dead.{subject}.{kind}")
        await channel.exchange_delete(subject)


async def test_an_exchange_that_is_described_in_two_ways_is_refused(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.publish(Routed("key", exchange=RabbitExchange(subject, type="fanout")))
        await broker.publish(Routed("key", exchange=RabbitExchange(subject, type="fanout", declare="check")))
        for other in ({"type": "direct"}, {"type": "fanout", "alternate": "strays"}):
            exchange = RabbitExchange(subject, **other)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="is described in two ways"):
                await broker.publish(Routed("key", exchange=exchange))
            with pytest.raises(UsageError, match="is described in two ways"):
                await broker.subscribe("key", lambda _: None, queue=subject, durable=Durable(), exchange=exchange)
        await channel.exchange_delete(subject)
