"""RabbitMQ: what is done to exchanges, queues and bindings by others while a service is at work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from eventmicro_rabbitmq import RabbitBinding, RabbitBroker, RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.connection.channel import Channel

from eventmicro.broker import Durable
from eventmicro.errors import NotStored, UsageError
from eventmicro.message import Delivery, Message, Routed
from tests.integration.rabbitmq.kit import Until, raw_channel


@asynccontextmanager
async def at_work(
    url: str, subject: str, got: list[bytes], **places: Any
) -> AsyncIterator[tuple[RabbitBroker, AbstractChannel]]:
    """A subscription that keeps what comes, on an exchange of its own, and a channel of somebody else."""
    look = "" if "look_every" in url else "&look_every=0.1"
    broker = RabbitBroker(f"{url}{look}&exchange={subject}.x")

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.try_ack()

    async with raw_channel(url) as channel, broker:
        durable = Durable(dead_letter=f"{subject}.dead")
        await broker.subscribe(subject, take, queue=subject, durable=durable, **places)
        try:
            yield broker, channel
        finally:
            for name in (subject, f"{subject}.dead"):
                await channel.queue_delete(name)
            for name in (f"{subject}.x", f"{subject}.x.dead", f"{subject}.shop"):
                await channel.exchange_delete(name)


async def comes(broker: RabbitBroker, got: list[bytes], message: Message) -> None:
    """Publish until it comes, which is to be soon."""
    before = len(got)
    async with asyncio.timeout(20):
        while len(got) == before:
            with suppress(NotStored, UsageError):
                await broker.publish(message)
            await asyncio.sleep(0.02)


async def test_an_exchange_that_is_deleted_is_made_again(
    url: str, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []
    async with at_work(url, subject, got) as (broker, channel):
        await comes(broker, got, Message(subject, b"1"))
        await channel.exchange_delete(f"{subject}.x")
        await comes(broker, got, Message(subject, b"2"))
    assert f"no exchange '{subject}.x'" in caplog.text
    assert caplog.text.count("it is made again") >= 1


async def test_what_is_published_meanwhile_is_refused_or_comes(url: str, subject: str, until: Until) -> None:
    """A publisher that finds the exchange gone does not make it without the queues that are bound to it."""
    got: list[bytes] = []
    taken: list[bytes] = []
    async with (
        at_work(url, subject, got) as (_, channel),
        RabbitBroker(f"{url}&exchange={subject}.x&look_every=0.5") as publisher,
    ):
        await publisher.publish(Message(subject, b"0"))
        await channel.exchange_delete(f"{subject}.x")
        for number in range(1, 1000):
            try:
                await publisher.publish(Message(subject, b"%d" % number))
                taken.append(b"%d" % number)
            except NotStored:
                pass
            if len(taken) == 20:
                break
            await asyncio.sleep(0.01)
        await until(lambda: len(got) == 21)
    assert got == [b"0", *taken]


async def test_an_exchange_that_another_makes_anew_is_bound_to_again(url: str, subject: str) -> None:
    got: list[bytes] = []
    async with at_work(url, subject, got) as (broker, channel):
        for _ in range(2):
            await channel.exchange_delete(f"{subject}.x")
            await channel.exchange_declare(f"{subject}.x", exchange_type="topic", durable=True)
            await comes(broker, got, Message(subject, b"1"))


async def test_an_exchange_that_another_makes_anew_of_another_type_is_named_until_it_is_right_again(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []
    async with at_work(url, subject, got) as (broker, channel):
        await channel.exchange_delete(f"{subject}.x")
        await channel.exchange_declare(f"{subject}.x", exchange_type="fanout", durable=True)
        await until(lambda: "its events may not come" in caplog.text)
        with suppress(UsageError):
            await broker.publish(Message(f"{subject}.other", b"of another subject"))
        await channel.exchange_delete(f"{subject}.x")
        await comes(broker, got, Message(subject, b"1"))
    assert set(got) == {b"1"}
    said = [line for line in caplog.messages if "may not come" in line]
    assert len(said) == 1
    assert "made otherwise: type is 'fanout', asked for is 'topic'" in said[0]


async def test_a_binding_that_is_removed_is_made_again(url: str, subject: str) -> None:
    got: list[bytes] = []
    shop = RabbitExchange(f"{subject}.shop", type="headers")
    place = RabbitQueue(subject, bind=RabbitBinding(arguments={"x-match": "all", "kind": "new"}))
    async with at_work(url, subject, got, exchange=shop, place=place) as (broker, channel):
        arguments = {"x-match": "all", "kind": "new"}
        for number in range(2):
            await channel.queue_unbind(subject, shop.name, subject, arguments=dict(arguments))
            await comes(broker, got, Routed(subject, b"%d" % number, {"kind": "new"}, exchange=shop))
            await broker.publish(Routed(subject, b"other", {"kind": "old"}, exchange=shop))
        await broker.publish(Routed(subject, b"last", {"kind": "new"}, exchange=shop))
        async with asyncio.timeout(20):
            while b"last" not in got:
                await asyncio.sleep(0.01)
    assert b"other" not in got


async def remade(channel: AbstractChannel, queue: str, **made: Any) -> None:
    """Make a queue otherwise before the service does: again and again, until it is so."""
    while True:
        await channel.queue_delete(queue)
        try:
            await channel.queue_declare(queue, **made)
            return
        except ChannelPreconditionFailed:
            channel = await channel.connection.channel()


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 3}])
async def test_a_queue_that_is_made_otherwise_is_taken_up_if_it_keeps_events(
    url: str, subject: str, arguments: dict[str, Any]
) -> None:
    got: list[bytes] = []
    async with at_work(url, subject, got, place=RabbitQueue(subject)) as (broker, channel):
        await remade(channel, subject, durable=True, arguments=arguments)
        await comes(broker, got, Message(subject, b"1"))


@pytest.mark.timeout_seconds(60)
async def test_a_queue_that_is_made_so_that_it_keeps_no_events_is_not_taken_up(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []
    async with raw_channel(url) as other:
        await other.queue_declare(subject, durable=True)
        async with at_work(url, subject, got, place=RabbitQueue(subject)) as (broker, channel):
            await comes(broker, got, Message(subject, b"1"))
            await remade(channel, subject, durable=True, auto_delete=True, arguments={"x-expires": 60_000})
            await until(lambda: "cannot consume, trying on" in caplog.text)
            assert "goes with its last consumer" in caplog.text
            channel = await channel.connection.channel()
            await channel.queue_delete(subject)
            await comes(broker, got, Message(subject, b"2"))


async def test_one_queue_on_two_exchanges_is_bound_again_to_both(url: str, subject: str, until: Until) -> None:
    got: list[bytes] = []
    shops = [RabbitExchange(f"{subject}.{name}") for name in ("shop", "stall")]
    place = RabbitQueue(subject)
    async with at_work(url, subject, got, exchange=shops[0], place=place) as (broker, channel):
        take = lambda delivery: (got.append(delivery.body), delivery.try_ack())  # noqa: E731
        await broker.subscribe(subject, take, queue=subject, durable=Durable(), exchange=shops[1], place=place)
        for shop in shops:
            await channel.queue_unbind(subject, shop.name, subject)
        for shop in shops:
            await comes(broker, got, Routed(subject, shop.name.encode(), exchange=shop))
        await channel.exchange_delete(shops[1].name)
    assert {shop.name.encode() for shop in shops} == set(got)


async def test_with_mandatory_nothing_is_confirmed_and_lost_where_another_makes_the_exchange_anew(
    url: str, subject: str, until: Until
) -> None:
    got: list[bytes] = []
    async with at_work(f"{url}&mandatory=true", subject, got) as (broker, channel):
        confirmed, refused = 0, 0
        for number in range(1000):
            if number in (10, 60):
                await channel.exchange_delete(f"{subject}.x")
                await channel.exchange_declare(f"{subject}.x", exchange_type="topic", durable=True)
            try:
                await broker.publish(Message(subject, b"%d" % number))
                confirmed += 1
            except NotStored:
                refused += 1
                await asyncio.sleep(0.01)
            if confirmed == 100:
                break
        await until(lambda: len(got) >= confirmed)
        assert len(got) == confirmed == 100
        assert refused > 0


async def test_the_queue_of_dead_letters_is_made_again(url: str, subject: str, until: Until) -> None:
    async with at_work(url, subject, []) as (broker, channel):
        await channel.queue_delete(f"{subject}.dead")
        await channel.exchange_delete(f"{subject}.x.dead")
        letters: list[Delivery] = []
        async with asyncio.timeout(20):
            while True:
                try:
                    await broker.publish(Message(f"{subject}.dead", b"1", {"Dead-Letter-Queue": "q"}))
                    break
                except NotStored:
                    await asyncio.sleep(0.05)
        await broker.subscribe(f"{subject}.dead", letters.append, queue=f"{subject}.dead", durable=Durable())
        await until(lambda: letters)


async def test_a_live_subscription_is_bound_again(url: str, subject: str) -> None:
    got: list[bytes] = []
    settings = f"{url}&look_every=0.1&exchange={subject}"
    async with raw_channel(url) as channel, RabbitBroker(settings) as broker:
        await broker.subscribe(subject, lambda delivery: got.append(delivery.body))
        await channel.exchange_delete(subject)
        await comes(broker, got, Message(subject, b"1"))
        await channel.exchange_delete(subject)
        await channel.exchange_declare(subject, exchange_type="topic", durable=True)
        await comes(broker, got, Message(subject, b"2"))
        await channel.exchange_delete(subject)


async def test_who_only_publishes_makes_an_exchange_again_when_its_subscribers_had_the_time_to(
    url: str, subject: str
) -> None:
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&look_every=0.1&exchange={subject}") as broker:
        await broker.publish(Message(subject))
        await channel.exchange_delete(subject)
        async with asyncio.timeout(20):
            refused = 0
            while True:
                try:
                    await broker.publish(Message(subject))
                    break
                except NotStored as error:
                    refused += "no exchange" in str(error)
                await asyncio.sleep(0.01)
        assert refused > 0
        await channel.exchange_delete(subject)


async def test_who_publishes_nothing_while_its_exchange_is_gone_knows_of_it_all_the_same(
    url: str, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another client has made it anew since, and no queue is bound to it yet."""
    shop = RabbitExchange(f"{subject}.shop")
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&look_every=600&exchange={subject}") as broker:
        messages = [Message(subject), Routed(subject, exchange=shop), Message(subject, headers={"amqp-user-id": "x"})]
        for message in messages[:2]:
            await broker.publish(message)
        with pytest.raises(NotStored, match="user_id"):  # over a channel of its own, to the same exchange
            await broker.publish(messages[2])
        await broker._looking.look()  # they are there
        for name in (subject, shop.name):
            await channel.exchange_delete(name)
        await broker._looking.look()
        await broker._looking.look()  # it is said once
        for name in (subject, shop.name):
            await channel.exchange_declare(name, exchange_type="topic", durable=True)
        for message in messages:
            with pytest.raises(NotStored, match="when its subscribers have bound their queues"):
                await broker.publish(message)
        for name in (subject, shop.name):
            await channel.exchange_delete(name)
    assert sum("nothing is published to it for 1200 s" in line for line in caplog.messages) == 2


async def test_a_look_at_what_is_published_to_is_one_question(
    url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rpc = Channel.rpc

    async def counted(self: Channel, frame: Any, timeout: float | None = None) -> Any:
        asked.append(frame.name)
        return await rpc(self, frame, timeout)

    async with raw_channel(url) as channel, RabbitBroker(f"{url}&look_every=600&exchange={subject}") as broker:
        await broker._looking.look()
        await broker.publish(Message(subject))
        await broker._looking.look()
        monkeypatch.setattr(Channel, "rpc", counted)
        for _ in range(3):
            await broker._looking.look()
        monkeypatch.undo()
        await channel.exchange_delete(subject)
    assert asked == ["Exchange.Declare"] * 3


@pytest.mark.parametrize("declare", ["check", "false"])
async def test_where_nothing_is_made_nothing_is_made_again(
    url: str, subject: str, declare: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    settings = f"{url}&look_every=0.05&exchange={subject}&declare={declare}"
    async with raw_channel(url) as channel, RabbitBroker(settings) as broker:
        await channel.exchange_declare(subject, exchange_type="topic", durable=True)
        await channel.queue_declare(subject, durable=True)
        place = RabbitQueue(subject)
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(), place=place)
        await channel.exchange_delete(subject)
        if declare == "check":
            await until(lambda: "its events may not come" in caplog.text)
        for makes in (False, True, False, True):  # again, also where nothing is to be seen of it
            await broker._upkeep.look(makes=makes)
        with pytest.raises(ChannelNotFoundEntity):
            await channel.exchange_declare(subject, passive=True)
    assert "made again" not in caplog.text
    assert caplog.text.count("its events may not come") == (declare == "check")
    async with raw_channel(url) as channel:
        await channel.queue_delete(subject)


async def test_a_look_asks_once_for_what_several_subscriptions_need(
    url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three questions for each, which are its own: its binding, and two of its dead letters; and four for all."""
    asked: list[str] = []
    got: list[bytes] = []
    rpc = Channel.rpc

    async def counted(self: Channel, frame: Any, timeout: float | None = None) -> Any:
        asked.append(frame.name)
        return await rpc(self, frame, timeout)

    queues = [f"{subject}.{number}" for number in range(4)]
    async with at_work(f"{url}&look_every=600", subject, got) as (broker, channel):
        for queue in queues:
            durable = Durable(dead_letter=f"dead.{queue}")
            await broker.subscribe(f"{subject}.*", lambda _: None, queue=queue, durable=durable)
        monkeypatch.setattr(Channel, "rpc", counted)
        assert not await broker._upkeep.look()
        monkeypatch.undo()
        for queue in queues:
            await channel.queue_delete(queue)
            await channel.queue_delete(f"dead.{queue}")
    counts = Counter(asked)
    assert counts["Queue.Bind"] == 3 * 5
    assert counts["Exchange.Declare"] == 2
    assert counts["Channel.Open"] == 1
    assert counts.total() <= 3 * 5 + 4
