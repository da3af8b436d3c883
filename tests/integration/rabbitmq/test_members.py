"""RabbitMQ: subscriptions that share live events, and what a slow one holds."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

import pytest
from eventmicro_rabbitmq import RabbitBroker
from eventmicro_rabbitmq.connection.frames import ack_frame
from eventmicro_rabbitmq.consuming import live
from pamqp.commands import Queue

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected
from eventmicro.message import Delivery, Message
from tests.integration.rabbitmq.frames import FrameProxy, Slow, Until
from tests.servers import FaultProxy

# -- subscriptions that are not durable ------------------------------------------------------------------------------


async def test_what_a_slow_subscription_holds_over_lost_connections_is_bounded(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    acked: list[int] = []

    def ack(channel: int, tag: int) -> bytes:
        acked.append(tag)
        return ack_frame(channel, tag)

    monkeypatch.setattr(live, "PREFETCH", 3)
    monkeypatch.setattr(live, "ack_frame", ack)
    slow = Slow()
    port = urlsplit(url).port or 0
    async with (
        FaultProxy(port) as proxy,
        RabbitBroker(url) as publisher,
        RabbitBroker(url.replace(f":{port}", f":{proxy.port}")) as broker,
    ):
        subscription = await broker.subscribe(subject, slow)
        assert isinstance(subscription, live.LiveSubscription)
        for number, waiting in enumerate((3, 3 + 3, 3 + 3)):
            await publisher.publish_many([Message(subject, b"%d.%d" % (number, place)) for place in range(4)])
            await until(lambda: len(subscription._intake) == waiting)  # noqa: B023
            proxy.cut()
            await until(lambda: not broker.online)
            await until(lambda: broker.online)
            await broker.flush()
        assert (slow.bodies, subscription.dropped) == ([b"0.0"], 3 + 3)
        for count in range(1, 4):
            slow.rooms[-1].set_result(None)
            await until(lambda: len(slow.got) == count + 1)  # noqa: B023
        slow.rooms[-1].set_result(None)
        await subscription.drain()
    assert slow.bodies == [b"0.0", b"2.0", b"2.1", b"2.2"]
    assert len(acked) == 1, "the others are not known by their numbers any more"


async def test_what_waits_in_a_member_that_loses_its_connection_is_handed_over_once(
    url: str, subject: str, until: Until
) -> None:
    """The queue has it back, but no other member can tell whether it was begun."""
    slow, other = Slow(), Slow()
    port = urlsplit(url).port or 0
    async with (
        FaultProxy(port) as proxy,
        RabbitBroker(url) as publisher,
        RabbitBroker(url.replace(f":{port}", f":{proxy.port}")) as broker,
    ):
        subscription = await broker.subscribe(subject, slow, queue="q")
        assert isinstance(subscription, live.LiveSubscription)
        await publisher.publish_many([Message(subject, b"%d" % number) for number in range(4)])
        await until(lambda: len(subscription._intake) == 3)
        await publisher.subscribe(subject, other, queue="q")
        proxy.cut()
        await until(lambda: not broker.online)
        await until(lambda: broker.online)
        await broker.flush()
        await publisher.flush()
        for count in range(1, 4):
            slow.rooms[-1].set_result(None)
            await until(lambda: len(slow.got) == count + 1)  # noqa: B023
        slow.rooms[-1].set_result(None)
        assert (slow.bodies, other.bodies) == ([b"0", b"1", b"2", b"3"], [])
        assert subscription.dropped == 0


@pytest.mark.parametrize("queue", [None, "q"])
async def test_what_waits_when_a_subscription_is_closed_is_counted_and_said(
    url: str,
    subject: str,
    queue: str | None,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Slow()
    async with RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, slow, queue=queue)
        assert isinstance(subscription, live.LiveSubscription)
        await broker.publish_many([Message(subject)] * 3)
        await until(lambda: len(subscription._intake) == 2)
        end_consumer = subscription._consumer.close

        async def end_consumer_when_another_came() -> None:
            await broker.publish(Message(subject))
            await until(lambda: len(subscription._intake) == 3)
            await end_consumer()

        monkeypatch.setattr(subscription._consumer, "close", end_consumer_when_another_came)
        await subscription.close()
        monkeypatch.undo()
    assert (len(slow.got), subscription.dropped) == (1, 3)
    assert caplog.text.count("3 events still waited") == caplog.text.count("dropped") == 1


async def test_a_member_that_closes_when_its_consumer_has_just_ended_takes_no_more_of_the_others(
    url: str, subject: str, until: Until
) -> None:
    """RabbitMQ would go on to send it every other event."""
    got: list[bytes] = []
    async with RabbitBroker(url) as other, RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, lambda _: None, queue="q")
        assert isinstance(subscription, live.LiveSubscription)
        await other.subscribe(subject, lambda d: got.append(d.body), queue="q")
        ending = subscription._consumer.channel
        assert ending is not None
        ending.end(ConnectionError("ended"))
        await subscription.close()
        bodies = [b"%d" % number for number in range(4)]
        await other.publish_many([Message(subject, body) for body in bodies])
        await until(lambda: len(got) == 4)
    assert got == bodies


async def test_members_share_what_a_wildcard_brings(url: str, subject: str, until: Until) -> None:
    got: list[str] = []
    async with RabbitBroker(url) as broker:
        for _ in range(2):
            await broker.subscribe(f"{subject}.>", lambda d: got.append(f"> {d.subject}"), queue=f"{subject}-ä")
            await broker.subscribe(f"{subject}.*", lambda d: got.append(f"* {d.subject}"), queue=f"{subject}-ä")
        await broker.publish_many([Message(f"{subject}.a"), Message(f"{subject}.a.b")])
        await until(lambda: len(got) == 3)
        await broker.flush()
    assert sorted(got) == [f"* {subject}.a", f"> {subject}.a", f"> {subject}.a.b"]


async def test_a_queue_that_its_last_member_has_just_left_is_made_again(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as one, FrameProxy(url) as proxy, RabbitBroker(proxy.url) as two:
        leaving = await one.subscribe(subject, lambda _: None, queue="q")
        proxy.holds = {Queue.BindOk}
        joining = asyncio.ensure_future(two.subscribe(subject, got.append, queue="q"))
        await until(lambda: proxy.held)
        await leaving.drain()
        proxy.let_go()
        await joining
        await one.publish(Message(subject))
        await until(lambda: got)


# -- the log ---------------------------------------------------------------------------------------------------------


async def test_the_log_has_a_line_when_the_broker_goes_and_one_when_it_is_back(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = urlsplit(url).port or 0
    async with FaultProxy(port) as proxy:
        through = url.replace(f":{port}", f":{proxy.port}")
        async with RabbitBroker(f"{through}&connect_timeout=0.1&reconnect_wait=0.02") as broker:
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
            await (await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())).drain()
            await broker.subscribe(subject, lambda _: None)
            proxy.refuse = True
            proxy.cut()
            await until(lambda: not broker.online)
            with pytest.raises(Disconnected):
                await broker.publish(Message(subject), timeout=1)
            proxy.refuse = False
            await until(lambda: broker.online)
            await broker.flush()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("eventmicro", "aiormq"))]
    assert [line.split(": ", 1)[1].partition(":")[0] for line in lines] == [
        "connection lost, reconnecting",
        "connected again, 2 subscriptions are taken up",
    ]
