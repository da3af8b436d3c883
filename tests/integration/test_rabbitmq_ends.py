"""RabbitMQ, real server: what ends in between, and what is cancelled: channels, drains, closes, nacks, publishes."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from eventmicro_rabbitmq import RabbitBroker, channel, consumer, durable, live, publisher
from eventmicro_rabbitmq.connection import Connection
from eventmicro_rabbitmq.frames import Properties, ack_frame, publish_frames
from eventmicro_rabbitmq.incoming import RabbitDelivery, read_event
from pamqp import commands
from pamqp.base import Frame
from pamqp.commands import Basic, Queue

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected, NotAllPublished, Unconfirmed
from eventmicro.message import Delivery, Message
from tests.servers import FaultProxy

Until = Callable[[Callable[[], object]], Awaitable[None]]

HOST = "127.0.0.1"


@pytest.fixture
def url(rabbitmq_url: str) -> str:
    return f"{rabbitmq_url}?new_queue_wait=0"


class FrameProxy(FaultProxy):
    """A proxy that can hold back what the server answers, one kind of frame; of the other faults it knows `cut`.

    Attributes:
        holds: the methods that are held back, such as `Basic.ConsumeOk`.
        held: how many are, at this moment.
        stalled: take no more from the client.

    Args:
        url: where the server is.
    """

    def __init__(self, url: str) -> None:
        super().__init__(urlsplit(url).port or 0)
        self._url = url
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.holds: set[type[Frame]] = set()
        self.stalled = False

    @property
    def url(self) -> str:
        return self._url.replace(f":{self._upstream}", f":{self.port}")

    @property
    def held(self) -> int:
        return len(self._held)

    def let_go(self) -> None:
        """Pass on what was held back, and hold no more."""
        self.holds = set()
        held, self._held = self._held, []
        for writer, frame in held:
            writer.write(frame)

    async def _join(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        (reader, upstream), (answers, writer) = ways
        self._writers |= {upstream, writer}
        there = asyncio.ensure_future(self._pass_on(reader, upstream))
        try:
            while True:
                head = await answers.readexactly(7)
                rest = await answers.readexactly(int.from_bytes(head[3:], "big") + 1)
                if any(head[0] == 1 and rest[:4] == kind.index.to_bytes(4, "big") for kind in self.holds):
                    self._held.append((writer, head + rest))
                else:
                    writer.write(head + rest)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers -= {upstream, writer}
            upstream.transport.abort()
            writer.transport.abort()
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            upstream.write(data)
            while self.stalled:
                await asyncio.sleep(0.01)
        upstream.write_eof()


@asynccontextmanager
async def kept_events(url: str, subject: str, count: int = 1, *, ordered: bool = False) -> AsyncIterator[RabbitBroker]:
    """Another connection, which has made the queue of a subject and published so many events: 0, 1, 2 and so on."""
    async with RabbitBroker(url) as broker:
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(ordered=ordered))
        await made.drain()
        await broker.publish_many([Message(subject, b"%d" % number) for number in range(count)])
        yield broker


class Slow:
    """A consumer with room for one event at a time."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.rooms: list[asyncio.Future[None]] = []

    def __call__(self, delivery: Delivery) -> Awaitable[None]:
        self.got.append(delivery)
        self.rooms.append(asyncio.get_running_loop().create_future())
        return self.rooms[-1]

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.got]


def lost_connections(caplog: pytest.LogCaptureFixture) -> int:
    return sum("connection lost" in record.getMessage() for record in caplog.records)


# -- channels --------------------------------------------------------------------------------------------------------


async def test_a_subscription_that_could_not_begin_gives_back_what_came(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sends events before it answers, and the answer does not come."""
    monkeypatch.setattr(consumer, "CALL_TIMEOUT", 0.3)
    slow = Slow()
    async with kept_events(url, subject), FrameProxy(url) as proxy, RabbitBroker(proxy.url) as broker:
        proxy.holds = {Basic.ConsumeOk}
        with pytest.raises(Disconnected):
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
        async with asyncio.timeout(5):  # each of them would wait for longer
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
