"""RabbitMQ: a durable subscription that stands still begins anew, and one that has reason to stand does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eventmicro_rabbitmq import RabbitBroker
from eventmicro_rabbitmq.connection.channel import Channel
from pamqp.commands import Queue

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected, UsageError
from eventmicro.message import Delivery, Message
from tests.integration.rabbitmq.frames import FrameProxy, Slow
from tests.integration.rabbitmq.kit import Until, raw_channel

BARK = "events and room, and no progress for"


async def look(subscription: Any) -> None:
    """What the watchdog does when all its patience is over."""
    subscription._watchdog._limit = 0.0
    await subscription._watchdog.look()


async def look_until(subscription: Any, condition: Callable[[], object]) -> None:
    while not condition():
        await look(subscription)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("ordered", [False, True])
async def test_events_that_nobody_hands_over_are_taken_anew(
    url: str, subject: str, ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        durable = Durable(ordered=ordered)
        subscription: Any = await broker.subscribe(subject, got.append, queue=subject, durable=durable)
        subscription._intake.hold()  # as if what was to go on had been forgotten
        await broker.publish_many([Message(subject, b"1"), Message(subject, b"2")])
        await look_until(subscription, lambda: len(got) == 2)
        await asyncio.gather(*(delivery.ack() for delivery in got))
    assert [delivery.body for delivery in got] == [b"1", b"2"]
    assert f"queue {subject}: {BARK}" in caplog.text
    assert "RabbitMQ has ended the consumer" not in caplog.text


async def test_events_that_the_server_does_not_send_are_taken_anew(
    url: str, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        subscription: Any = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        for tag in subscription._consumer._tags:
            await subscription._consumer.channel.basic_cancel(tag)  # of which the subscription knows nothing
        await broker.publish(Message(subject, b"1"))
        await look_until(subscription, lambda: got)
    assert (got[0].body, got[0].attempt) == (b"1", 1)
    assert BARK in caplog.text


async def test_who_is_full_not_in_turn_or_has_nothing_to_do_is_left_alone(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    slow, first, second, idle = Slow(), list[Delivery](), list[Delivery](), list[Delivery]()
    full, turns, quiet = f"{subject}.full", f"{subject}.turns", f"{subject}.quiet"
    ordered = Durable(ordered=True, prefetch=2)
    async with RabbitBroker(url) as broker, RabbitBroker(url) as other:
        subscriptions = [
            await broker.subscribe(full, slow, queue=full, durable=Durable(prefetch=3)),
            await broker.subscribe(turns, first.append, queue=turns, durable=ordered),
            await other.subscribe(turns, second.append, queue=turns, durable=ordered),
            await broker.subscribe(quiet, idle.append, queue=quiet, durable=Durable()),
        ]
        await broker.publish_many([Message(full)] * 5 + [Message(turns)] * 5)
        held: Any = subscriptions[0]
        await until(lambda: len(held._unsettled) == 3 and len(first) == 2)
        for subscription in subscriptions * 3:
            await look(subscription)
    assert (len(slow.got), len(first), len(second), len(idle)) == (1, 2, 0, 0)
    assert BARK not in caplog.text


async def test_all_watchdogs_ask_on_one_channel_which_is_taken_anew_where_it_has_ended(
    url: str, subject: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[int] = []
    opens = Channel.open

    async def open_counted(channel: Channel, *args: Any, **options: Any) -> Any:
        opened.append(channel.number)
        return await opens(channel, *args, **options)

    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker, raw_channel(url) as other:
        queues = [f"{subject}.{number}" for number in range(3)]
        idle: list[Any] = [await broker.subscribe(queue, print, queue=queue, durable=Durable()) for queue in queues]
        monkeypatch.setattr(Channel, "open", open_counted)
        for _ in range(3):
            assert await asyncio.gather(*(subscription._waits() for subscription in idle)) == [False] * 3
        assert len(opened) == 1

        link: Any = broker._consuming
        with pytest.raises(UsageError, match="no queue"):  # which ends the channel
            await broker._declarer.has_events(link.connection, f"{subject}.none")
        assert [await subscription._waits() for subscription in idle] == [False] * 3
        assert len(opened) == 2

        lost = link.connection.lost
        proxy.cut()
        await asyncio.wait([lost])
        await broker.flush()
        del opened[:]
        await other.queue_declare(f"{subject}.full", durable=True)
        await other.basic_publish(b"1", routing_key=f"{subject}.full")
        assert [await subscription._waits() for subscription in idle] == [False] * 3
        assert await broker._declarer.has_events(link.connection, f"{subject}.full")
        assert len(opened) == 1
        await other.queue_delete(f"{subject}.full")
    assert caplog.text.count("connection lost") == 1


async def test_who_is_cancelled_while_it_asks_takes_no_more_than_one_look_from_the_others(
    url: str, subject: str, until: Until
) -> None:
    """Its answer, which comes yet, is nobody else's."""
    full, empty = f"{subject}.full", f"{subject}.empty"
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker, raw_channel(url) as other:
        for queue in (full, empty):
            await other.queue_declare(queue, durable=True)
        await other.basic_publish(b"1", routing_key=full)
        link: Any = broker._consuming
        ask = broker._declarer.has_events
        assert await ask(link.connection, full)
        proxy.holds = {Queue.DeclareOk}
        asking = [asyncio.ensure_future(ask(link.connection, queue)) for queue in (full, empty)]
        await until(lambda: proxy.held)
        asking[0].cancel()
        await asyncio.wait(asking[:1])
        proxy.let_go()
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert told[1] is False or isinstance(told[1], Disconnected)
        for queue in (empty, full, empty):
            assert await ask(link.connection, queue) == (queue == full)
        for queue in (full, empty):
            await other.queue_delete(queue)
        assert broker.online
