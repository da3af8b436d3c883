"""RabbitMQ: channels that end, and what was on its way on them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any

import pytest
from eventmicro_rabbitmq import RabbitBroker, publisher
from eventmicro_rabbitmq.connection import channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.frames import Properties, publish_frames
from eventmicro_rabbitmq.consuming import durable
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, read_event
from pamqp import commands
from pamqp.base import Frame
from pamqp.commands import Basic

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected, NotAllPublished, Unconfirmed
from eventmicro.message import Delivery, Message
from tests.integration.rabbitmq.frames import FrameProxy, Slow, Until, kept_events


def lost_connections(caplog: pytest.LogCaptureFixture) -> int:
    return sum("connection lost" in record.getMessage() for record in caplog.records)


# -- channels --------------------------------------------------------------------------------------------------------


async def test_a_subscription_that_could_not_begin_gives_back_what_came(url: str, subject: str, until: Until) -> None:
    """The server sends events before it answers, and the answer does not come."""
    slow = Slow()
    impatient = f"{url}&declare_timeout=1"
    async with kept_events(url, subject), FrameProxy(impatient) as proxy, RabbitBroker(proxy.url) as broker:
        proxy.holds = {Basic.ConsumeOk}
        with pytest.raises(Disconnected, match=r"consumer of queue .* did not answer within 1 s.*declare_timeout"):
            await broker.subscribe(subject, slow, queue=subject, durable=Durable())
        assert [delivery.lapsed for delivery in slow.got] == [True]
        proxy.let_go()
        await broker.subscribe(subject, slow, queue=subject, durable=Durable())
        await until(lambda: len(slow.got) == 2)
        await slow.got[0].ack()
        assert (slow.got[1].attempt, slow.got[1].lapsed) == (2, False)

        # who runs the tests sees that nobody waits for room any more


async def test_a_channel_whose_end_is_answered_late_costs_no_connection(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel, "CLOSE_TIMEOUT", 0.1)
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        proxy.holds = {commands.Channel.CloseOk}
        for _ in range(2):
            await broker.flush()
        assert proxy.held == 2
        proxy.let_go()
        await broker.flush()
        assert not lost_connections(caplog)


async def test_who_is_cancelled_just_as_the_server_refuses_costs_no_connection(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the others of a service are, whose first subscriber is refused: the channel is not closed a second time."""
    asking: list[asyncio.Task[None]] = []
    refuse = channel.Channel._on_close_frame

    async def refuse_and_cancel(self: channel.Channel, frame: Any) -> None:
        for task in asking:
            task.cancel()
        await refuse(self, frame)

    async def ask(broker: RabbitBroker) -> None:
        async with channel.borrowed_channel(await broker._link().wait(), "a test", 20) as asked:
            await asked.exchange_declare("not-there", passive=True)

    monkeypatch.setattr(channel.Channel, "_on_close_frame", refuse_and_cancel)
    async with RabbitBroker(url) as broker:
        asking.append(asyncio.create_task(ask(broker)))
        await asyncio.wait(asking)
        await broker.flush()
        assert (asking[0].cancelled(), lost_connections(caplog)) == (True, 0)


async def test_what_cannot_be_sent_waits_with_its_publisher(url: str, subject: str) -> None:
    """Not in memory: what was not sent is said to be so."""
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        await broker.publish(Message(subject))
        proxy.stalled = True
        with pytest.raises(NotAllPublished) as caught:
            await broker.publish_many([Message(subject, bytes(100_000))] * 300, timeout=1)
        kinds = [type(error) for error in caught.value.failed.values()]
        assert kinds.count(Disconnected) > 100
        proxy.stalled = False


async def test_a_batch_that_is_cancelled_leaves_no_noise(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        await broker.publish(Message(subject))
        proxy.holds = {Basic.Ack}
        publishing = asyncio.ensure_future(broker.publish_many([Message(subject)] * 3, timeout=0.2))
        await until(lambda: proxy.held)
        publishing.cancel()
        await asyncio.wait([publishing])
        del publishing
        await until(lambda: broker._publisher is not None and not len(broker._publisher))
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_flush_waits_for_what_was_published_and_not_for_what_comes_later(
    url: str, subject: str, until: Until
) -> None:
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        await broker.publish(Message(subject))
        proxy.holds = {Basic.Ack}
        before = asyncio.ensure_future(broker.publish(Message(subject)))
        await until(lambda: proxy.held)
        flushing = asyncio.ensure_future(broker.flush())
        await asyncio.sleep(0.01)
        assert not flushing.done()
        later = asyncio.ensure_future(broker.publish(Message(subject)))
        await asyncio.sleep(0)
        proxy.let_go()
        proxy.holds = {Basic.Ack}
        await flushing
        assert (before.done(), later.done()) == (True, False)
        proxy.let_go()
        await later


async def test_an_event_that_could_not_be_handed_over_comes_again(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ack of one behind it settles all that nobody holds."""
    got: list[Delivery] = []
    failed: list[bytes] = []

    def fail_once(frame: Basic.Deliver, properties: Properties, body: bytes, *rest: Any) -> RabbitDelivery:
        if body == b"1" and not failed:
            failed.append(body)
            raise LookupError
        return read_event(frame, properties, body, *rest)

    monkeypatch.setattr(durable, "read_event", fail_once)

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery)
        return delivery.ack()

    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, receive, queue=subject, durable=Durable())
        await broker.publish_many([Message(subject, b"%d" % number) for number in range(3)])
        await until(lambda: {delivery.body for delivery in got} == {b"0", b"1", b"2"})
        assert failed


async def test_a_consumer_that_ends_while_it_begins_has_not_begun(
    url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ending(channel.Channel):
        async def basic_consume(self, *args: Any, **options: Any) -> Any:
            answer = await super().basic_consume(*args, **options)
            self.end(ConnectionError("ended meanwhile"))
            return answer

    async with RabbitBroker(url) as broker:
        with monkeypatch.context() as patch:
            patch.setattr(channel, "Channel", Ending)
            with pytest.raises(Disconnected, match="ended meanwhile"):
                await broker.subscribe(subject, lambda _: None)


async def test_a_channel_that_ends_while_it_opens_is_not_published_on(
    url: str, subject: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[channel.Channel] = []

    async def open_and_close_once(connection: Connection, *, confirms: bool = False) -> channel.Channel:
        opened.append(await channel.open_channel(connection, confirms=confirms))
        if len(opened) == 1:
            await channel.close_channel(opened[0])
        return opened[-1]

    monkeypatch.setattr(publisher, "open_channel", open_and_close_once)
    async with RabbitBroker(url) as broker:
        await broker.publish(Message(subject))
    assert len(opened) == 2
    assert not lost_connections(caplog)


async def test_what_was_sent_on_a_channel_is_on_its_way_when_its_end_is_told(url: str) -> None:
    """Behind our answer to the server's end it would cost the connection."""
    async with RabbitBroker(url) as broker:
        connection = await broker._link().wait()
        opened = await channel.open_channel(connection)
        connection.send(publish_frames(opened.number, "", "nowhere", Properties(), b"", False, opened.frame_max))
        assert connection._outgoing
        opened.end(ConnectionError("ended"))
        assert not connection._outgoing
        await channel.close_channel(opened)


async def test_what_was_on_its_way_when_its_channel_ended_is_said_to_be_unconfirmed(
    url: str, subject: str, until: Until
) -> None:
    """On the next channel another message has its number, whose confirm is not its own."""
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        await broker.publish(Message(subject))
        proxy.holds = {Basic.Ack}
        earlier = [asyncio.ensure_future(broker.publish(Message(subject))) for _ in range(2)]
        await until(lambda: proxy.held)
        publishing = broker._connected_publisher()
        ending = publishing._channel
        assert ending is not None
        assert len(publishing) == 2
        ending.end(ConnectionError("ended"))
        assert len(publishing) == 0
        proxy.let_go()
        await broker.publish(Message(subject))
        assert [message.done() for message in earlier] == [True, True]
        for message in earlier:
            with pytest.raises(Unconfirmed, match="ended"):
                await message


# -- a server that takes its time --------------------------------------------------------------------------------------


async def test_a_server_that_is_busy_making_a_queue_is_waited_for(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long one may wait for a connection that is lost."""
    monkeypatch.setattr("eventmicro_rabbitmq.broker.SUBSCRIBE_TIMEOUT", 0.1)
    async with FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        proxy.holds = {commands.Queue.DeclareOk}
        starting = asyncio.ensure_future(broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable()))
        await until(lambda: proxy.held)
        await asyncio.wait([starting], timeout=0.5)
        assert not starting.done()
        proxy.let_go()
        await starting


@pytest.mark.parametrize(
    ("held", "about"),
    [
        (commands.Exchange.DeclareOk, "exchange '{}.x'"),
        (commands.Queue.DeclareOk, "queue '{}'"),
        (commands.Queue.BindOk, "binding of queue '{}' to '{}'"),
        (Basic.QosOk, "consumer of queue {}"),
    ],
)
async def test_a_server_that_does_not_answer_is_given_up_with_what_was_waited_for(
    url: str, subject: str, held: type[Frame], about: str
) -> None:
    impatient = f"{url}&declare_timeout=3&exchange={subject}.x"
    async with FrameProxy(impatient) as proxy, RabbitBroker(proxy.url) as broker:
        proxy.holds = {held}
        with pytest.raises(Disconnected, match=rf"^{about.format(subject, subject)}: .*within 3 s.*declare_timeout"):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        proxy.let_go()
