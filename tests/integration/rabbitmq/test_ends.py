"""RabbitMQ: drains, closes and nacks that are cancelled, fail, or meet a lost connection."""

from __future__ import annotations

import asyncio
import gc
from typing import Any
from urllib.parse import urlsplit

import pytest
from eventmicro_rabbitmq import RabbitBroker
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.consuming import consumer, durable
from eventmicro_rabbitmq.consuming.durable import DurableSubscription
from pamqp.commands import Basic

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected
from eventmicro.message import Delivery, Message
from tests.integration.rabbitmq.frames import FrameProxy, Slow, Until, kept_events
from tests.integration.rabbitmq.kit import raw_channel
from tests.servers import FaultProxy
from tests.told import depth, until_told

# -- drains ----------------------------------------------------------------------------------------------------------


async def test_a_drain_that_is_cancelled_gives_back_all_the_same(url: str, subject: str, until: Until) -> None:
    slow, others = Slow(), Slow()
    async with kept_events(url, subject, 3) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, slow, queue=subject, durable=Durable())
        await until(lambda: slow.got)
        draining = asyncio.ensure_future(subscription.drain())
        await asyncio.sleep(0)
        draining.cancel()
        await asyncio.wait([draining])
        await other.subscribe(subject, others.got.append, queue=subject, durable=Durable())
        await until(lambda: len(others.got) == 2)
        assert others.bodies == [b"1", b"2"]
        slow.rooms[0].set_result(None)
        await slow.got[0].ack()
        await subscription.drain()
        assert (len(slow.got), slow.got[0].lapsed) == (1, False)


async def test_nothing_is_handed_over_while_a_subscription_leaves(url: str, subject: str, until: Until) -> None:
    slow = Slow()
    async with kept_events(url, subject, 2), FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        subscription = await broker.subscribe(subject, slow, queue=subject, durable=Durable())
        await until(lambda: slow.got)
        proxy.holds = {Basic.CancelOk}
        draining = asyncio.ensure_future(subscription.drain())
        await until(lambda: proxy.held)
        slow.rooms[0].set_result(None)
        await asyncio.sleep(0.01)
        assert slow.bodies == [b"0"]
        proxy.let_go()
        await draining
        assert slow.bodies == [b"0"]


async def test_an_ordered_queue_is_left_though_the_connection_is_lost_meanwhile(
    url: str, subject: str, until: Until
) -> None:
    got: list[Delivery] = []
    others: list[Delivery] = []
    async with (
        kept_events(url, subject, 2, ordered=True) as other,
        FaultProxy(urlsplit(url).port or 0) as proxy,
        RabbitBroker(url.replace(f":{urlsplit(url).port}", f":{proxy.port}")) as broker,
    ):
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable(ordered=True))
        await until(lambda: len(got) == 2)
        await subscription.drain()
        proxy.cut()
        await until(lambda: got[0].lapsed)
        await until(lambda: broker.online)
        for _ in range(30):  # time enough to take it up again, which it shall not
            await broker.flush()
        await other.subscribe(subject, others.append, queue=subject, durable=Durable(ordered=True))
        await until(lambda: len(others) == 2)


async def test_what_is_nacked_while_an_ordered_queue_is_left_comes_in_order(
    url: str, subject: str, until: Until
) -> None:
    got: list[Delivery] = []
    others: list[bytes] = []
    async with kept_events(url, subject, 4, ordered=True) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable(ordered=True))
        await until(lambda: len(got) == 4)
        await subscription.drain()
        await got[2].nack()
        await asyncio.sleep(3 * durable.NACK_AFTER)
        await got[1].nack()
        await got[0].ack()
        assert len(got) == 4
        await other.subscribe(subject, lambda d: others.append(d.body), queue=subject, durable=Durable(ordered=True))
        await got[3].nack()
        await until(lambda: len(others) == 3)
    assert others == [b"1", b"2", b"3"]


async def test_an_event_that_is_on_its_way_back_keeps_its_place_when_its_queue_is_left(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "NACK_AFTER", 0)
    slow = Slow()
    others: list[bytes] = []
    async with kept_events(url, subject, 4, ordered=True) as other, FrameProxy(url) as proxy:
        async with RabbitBroker(proxy.url) as broker:
            await broker.subscribe(subject, slow, queue=subject, durable=Durable(ordered=True))
            await until(lambda: slow.got)
            await broker.flush()  # the others have come by now
            await slow.got[0].nack()
            await asyncio.sleep(0.001)  # it is sent, and not answered yet
        await other.subscribe(subject, lambda d: others.append(d.body), queue=subject, durable=Durable(ordered=True))
        await until(lambda: len(others) == 4)
    assert others == [b"0", b"1", b"2", b"3"]


async def test_what_the_server_is_sending_when_an_ordered_queue_is_left_stays_behind_what_was_there(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "NACK_AFTER", 0)
    slow, late = Slow(), list[Event]()
    others: list[bytes] = []
    async with kept_events(url, subject, 4, ordered=True) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, slow, queue=subject, durable=Durable(ordered=True))
        assert isinstance(subscription, durable.DurableSubscription)
        await until(lambda: len(subscription._intake) == 3)
        await slow.got[0].nack()
        await until(lambda: len(subscription._intake) == 4)  # it has come again
        channel = subscription._consumer.channel
        assert channel is not None
        came, channel.on_events = channel.on_events, late.extend
        await other.publish(Message(subject, b"4"))
        await until(lambda: late)
        closing = asyncio.ensure_future(subscription.close())
        await until(lambda: len(late) == 4 or closing.done())  # those behind the first have come again, too
        assert came is not None
        came(late)
        channel.on_events = came
        await closing
        await other.subscribe(subject, lambda d: others.append(d.body), queue=subject, durable=Durable(ordered=True))
        await until(lambda: len(others) == 5)
    assert others == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_drain_that_fails_returns_and_leaves_no_consumer(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: object) -> None:
        raise LookupError("should never happen")

    others: list[Delivery] = []
    async with kept_events(url, subject) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        monkeypatch.setattr(consumer.Consumer, "leave", fail)
        await subscription.drain()
        monkeypatch.undo()
        await other.subscribe(subject, others.append, queue=subject, durable=Durable())
        await until(lambda: others)
        del subscription
    gc.collect()
    assert "never retrieved" in caplog.text, "that it failed is told"


async def test_what_is_acked_while_its_subscription_closes_is_settled(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    others: list[Delivery] = []
    async with kept_events(url, subject) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        assert isinstance(subscription, durable.DurableSubscription)
        await until(lambda: got)
        await subscription.drain()
        closing = asyncio.ensure_future(subscription.close())
        await asyncio.sleep(0)
        await got[0].ack()
        await closing
        await other.publish(Message(subject, b"last"))
        await other.subscribe(subject, others.append, queue=subject, durable=Durable())
        await until(lambda: others)
    assert [(d.body, d.attempt) for d in others] == [(b"last", 1)]


# -- closes ----------------------------------------------------------------------------------------------------------


async def test_a_close_that_is_cancelled_leaves_nothing(url: str, subject: str, until: Until) -> None:
    async with FrameProxy(url) as proxy:
        broker = RabbitBroker(proxy.url)
        await broker.connect()
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await broker.subscribe(subject, lambda _: None)
        proxy.holds = {Basic.Ack}
        publishing = asyncio.ensure_future(broker.publish(Message(subject)))
        await until(lambda: proxy.held)
        closing = asyncio.ensure_future(broker.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, publishing])
        assert not broker.connected

        # who runs the tests sees that no task is left


async def test_a_subscription_that_begins_while_its_broker_closes_is_ended(
    url: str, subject: str, until: Until
) -> None:
    async with kept_events(url, subject), FrameProxy(url) as proxy:
        broker = RabbitBroker(proxy.url)
        await broker.connect()
        await broker.publish(Message(f"{subject}.other"))
        proxy.holds = {Basic.ConsumeOk}
        subscribing = asyncio.ensure_future(broker.subscribe(subject, lambda _: None))
        await until(lambda: proxy.held)
        proxy.holds = {Basic.ConsumeOk, Basic.Ack}
        publishing = asyncio.ensure_future(broker.publish(Message(f"{subject}.other")))
        await until(lambda: proxy.held == 2)
        closing = asyncio.ensure_future(broker.close())
        await asyncio.sleep(0)
        proxy.let_go()
        with pytest.raises(Disconnected, match="closed"):
            await subscribing
        await asyncio.wait([publishing, closing])


async def test_a_consumer_that_ends_just_before_its_subscription_leaves_nothing(
    url: str, subject: str, until: Until
) -> None:
    """RabbitMQ would send it events that nobody takes."""
    others: list[Delivery] = []
    async with kept_events(url, subject) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        assert isinstance(subscription, durable.DurableSubscription)
        ending = subscription._consumer.channel
        assert ending is not None
        ending.end(ConnectionError("ended"))
        await subscription.close()
        await other.subscribe(subject, others.append, queue=subject, durable=Durable())
        await until(lambda: others)


async def test_who_waits_for_a_connection_is_told_that_it_is_closed(url: str, subject: str, until: Until) -> None:
    async with FaultProxy(urlsplit(url).port or 0) as proxy:
        broker = RabbitBroker(url.replace(f":{urlsplit(url).port}", f":{proxy.port}"))
        await broker.connect()
        proxy.refuse = True
        proxy.cut()
        await until(lambda: not broker.online)
        waiting = (
            asyncio.ensure_future(broker.publish(Message(subject), timeout=60)),
            asyncio.ensure_future(broker.subscribe(subject, lambda _: None)),
        )
        await asyncio.sleep(0)
        await broker.close()
        async with asyncio.timeout(20):  # each of them would wait for longer
            for told in waiting:
                with pytest.raises(Disconnected, match="closed"):
                    await told


# -- nacks -----------------------------------------------------------------------------------------------------------


async def test_a_nack_that_is_cancelled_gives_the_event_back(url: str, subject: str, until: Until) -> None:
    """Its copy may be stored or not; the event itself must not be held for ever, and with it the only place."""
    got: list[Delivery] = []
    async with kept_events(url, subject), FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable(prefetch=1))
        await until(lambda: got)
        proxy.holds = {Basic.Ack}
        nacking = asyncio.ensure_future(got[0].nack(0.05))
        await until(lambda: proxy.held)
        nacking.cancel()
        await asyncio.wait([nacking])
        await until(lambda: len(got) == 2)


async def test_a_nack_whose_connection_was_lost_settles_no_other_event(url: str, subject: str, until: Until) -> None:
    """On the next connection another event has its number, while the copy is still being stored."""
    got: list[Delivery] = []
    stored = asyncio.Event()

    async def postpone(*_: object) -> bool:
        return await stored.wait()

    port = urlsplit(url).port or 0
    async with (
        kept_events(url, subject, 3),
        FaultProxy(port) as proxy,
        RabbitBroker(url.replace(f":{port}", f":{proxy.port}")) as broker,
    ):
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        assert isinstance(subscription, durable.DurableSubscription)
        subscription._postpone = postpone
        await until(lambda: len(got) == 3)
        await got[0].ack()
        await broker.flush()
        nacking = asyncio.ensure_future(got[1].nack(1))
        await asyncio.sleep(0)
        proxy.cut()
        await until(lambda: len(got) == 5)
        stored.set()
        await nacking
        await broker.flush()
        proxy.cut()
        await until(lambda: len(got) == 7)
    assert [delivery.body for delivery in got] == [b"0", b"1", b"2", b"1", b"2", b"1", b"2"]


async def test_what_was_taken_back_is_neither_copied_nor_waited_for(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    copied: list[object] = []

    async def postpone(*about: object) -> bool:
        copied.append(about)
        return False

    port = urlsplit(url).port or 0
    async with (
        kept_events(url, subject, 2),
        FaultProxy(port) as proxy,
        RabbitBroker(url.replace(f":{port}", f":{proxy.port}")) as broker,
    ):
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        assert isinstance(subscription, durable.DurableSubscription)
        subscription._postpone = postpone
        await until(lambda: len(got) == 2)
        await got[0].nack(3600)
        (waiting,) = subscription._later.values()
        proxy.cut()
        await until(lambda: len(got) == 4)
        await got[1].nack(3600)
        assert len(copied) == 1
        assert waiting.cancelled()


async def test_what_was_to_be_settled_on_a_channel_that_has_ended_settles_nothing_on_the_next(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There other events have the numbers."""
    monkeypatch.setattr(durable, "NACK_AFTER", 3600)  # the nacks are sent by hand, below
    got: list[Delivery] = []
    async with kept_events(url, subject, 2), RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        assert isinstance(subscription, durable.DurableSubscription)
        await until(lambda: len(got) == 2)
        await got[0].ack()
        await got[1].nack()
        ending = subscription._consumer.channel
        assert ending is not None
        ending.end(ConnectionError("ended"))
        assert not subscription._acked
        await until(lambda: len(got) == 4)
        subscription._send_nacks()
        assert list(subscription._unsettled.values()) == got[2:]


@pytest.mark.parametrize("come_again", [False, True])
async def test_what_was_given_back_when_its_channel_ends_is_awaited_no_more(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch, come_again: bool
) -> None:
    """Another instance may have it by then: who keeps others behind it would do so until it gives up."""
    monkeypatch.setattr(durable, "NACK_AFTER", 3600)  # the nacks are sent by hand, below
    got: list[Delivery] = []
    async with kept_events(url, subject, 3, ordered=True), RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, got.append, queue=subject, durable=Durable(ordered=True))
        assert isinstance(subscription, durable.DurableSubscription)
        await until(lambda: len(got) == 3)
        first, second, third = got
        await first.nack()
        await second.nack()
        if come_again:  # one of them, and the other is on its way yet
            kept = subscription._nacked.pop()
            subscription._send_nacks()
            await until(lambda: len(subscription._returns) == 1)
            subscription._nacked.append(kept)
        subscription._send_nacks()
        channel = subscription._consumer.channel
        assert channel is not None
        channel.end(ConnectionError("ended"))
        assert [delivery.lapsed for delivery in (first, second, third)] == [True, True, True]
        await until(lambda: len(got) == 6)
        assert not any(delivery.lapsed for delivery in got[3:])


async def test_a_stop_while_it_is_told_to_hold_more_takes_nothing_back(url: str, subject: str, until: Until) -> None:
    """A call to the server that is cut off would end the channel, and all that is being handled would come again."""
    held: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        take = lambda delivery: held.append(delivery)  # noqa: E731
        subscription = await broker.subscribe(subject, take, queue=subject, durable=Durable(prefetch=50))
        assert isinstance(subscription, DurableSubscription)
        inside: Any = subscription
        begun = asyncio.Event()
        consume = inside._consumer._consume

        async def consume_slowly(*arguments: Any) -> None:
            begun.set()
            await consume(*arguments)

        inside._consumer._consume = consume_slowly
        for number in range(20):
            await broker.publish(Message(subject, b"%d" % number))
        await begun.wait()
        draining = asyncio.create_task(subscription.drain())
        await draining
        assert not any(delivery.lapsed for delivery in held)
        for delivery in held:
            await delivery.ack()
        await subscription.close()
        assert not any(delivery.lapsed for delivery in held)
        await until_told(lambda: depth(channel, subject), 20 - len(held))
        await channel.queue_delete(subject)
