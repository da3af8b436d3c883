"""RabbitMQ, real servers: what is particular to it, on a server that all share."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiormq
import pytest
from aiormq.abc import AbstractChannel, ChannelFrame
from eventmicro_rabbitmq import RabbitBroker, durable, retry
from eventmicro_rabbitmq.frames import publish_frames
from eventmicro_rabbitmq.incoming import RabbitDelivery, for_retry
from pamqp.commands import Basic

from eventmicro.broker import Durable
from eventmicro.context import Context
from eventmicro.errors import (
    ConnectionFailed,
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    Reject,
    Unconfirmed,
    Unsupported,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.servers import FaultProxy

Until = Callable[[Callable[[], object]], Awaitable[None]]
Properties = Basic.Properties


@pytest.fixture
def url(rabbitmq_url: str) -> str:
    return f"{rabbitmq_url}?new_queue_wait=0"


@asynccontextmanager
async def raw_channel(url: str) -> AsyncIterator[AbstractChannel]:
    """RabbitMQ without us."""
    connection = await aiormq.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def publish_raw(
    channel: AbstractChannel, subject: str, properties: Properties, change: tuple[bytes, bytes] = (b"", b"")
) -> None:
    """Publish b"1" with these properties alone, to which aiormq would add an id; change some bytes on their way."""
    data = publish_frames(channel.number, "events", subject, properties, b"1", False, 131_072)
    await channel.connection.write_queue.put(ChannelFrame(data.replace(*change) if change[0] else data, False))


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of a server that takes connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()


def through(proxy: FaultProxy, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}")


async def publish_until_stored(broker: RabbitBroker, message: Message, again: list[bytes]) -> None:
    while True:
        try:
            return await broker.publish(message, timeout=5)
        except (Disconnected, Unconfirmed, NotStored):
            again.append(message.body)
            await asyncio.sleep(0.01)


# -- connecting ------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_said_at_once_and_not_shown(rabbitmq_url: str) -> None:
    broker = RabbitBroker(rabbitmq_url.replace("guest:guest", "guest:not-this-one"))
    with pytest.raises(ConnectionFailed, match=r"refused.*Login was refused") as caught:
        await broker.connect()
    assert "not-this-one" not in f"{caught.value}{broker.url}{broker.settings!r}"
    assert not broker.connected


async def test_a_missing_vhost_is_named(rabbitmq_url: str) -> None:
    with pytest.raises(ConnectionFailed, match=r"refused.*vhost nowhere not found"):
        await RabbitBroker(f"{rabbitmq_url}nowhere").connect()


async def test_nobody_there_is_said_within_the_timeout() -> None:
    with pytest.raises(ConnectionFailed, match="is it running"):
        await RabbitBroker("amqp://127.0.0.1:1?connect_timeout=0.2").connect()


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("amqp", b"INFO {}\r\n", r"speaks no AMQP, or wants TLS \(amqps://\)"),
        ("amqp", b"\x15\x03\x01\x00\x02\x02\x46", r"speaks no AMQP, or wants TLS \(amqps://\)"),  # an alert of TLS
        ("amqps", b"AMQP\x00\x00\x09\x01", r"no TLS is spoken there \(WRONG_VERSION_NUMBER\); write amqp://"),
    ],
)
async def test_what_speaks_something_else_is_told_apart(scheme: str, answer: bytes, words: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailed, match=words):
            await RabbitBroker(f"{scheme}://127.0.0.1:{port}?connect_timeout=0.5").connect()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with silent_server() as port:
        with pytest.raises(ConnectionFailed, match=r"no answer within 0.2 s"):
            await RabbitBroker(f"amqp://127.0.0.1:{port}?connect_timeout=0.2").connect()


async def test_another_node_is_tried(rabbitmq_url: str) -> None:
    parts = urlsplit(rabbitmq_url)
    async with RabbitBroker(f"amqp://guest:guest@127.0.0.1:1,127.0.0.1:{parts.port}/") as broker:
        assert broker.online


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "a b"])
async def test_a_host_that_cannot_be_is_named_and_the_others_are_tried(rabbitmq_url: str, host: str) -> None:
    with pytest.raises(ConnectionFailed, match=rf"within 0.2 s: {host}:1: "):
        await RabbitBroker(f"amqp://{host}:1?connect_timeout=0.2").connect()
    async with RabbitBroker(f"amqp://guest:guest@{host}:1,127.0.0.1:{urlsplit(rabbitmq_url).port}/") as broker:
        assert broker.online


async def test_a_node_that_hangs_leaves_time_for_the_others(rabbitmq_url: str) -> None:
    works = urlsplit(rabbitmq_url).port
    async with silent_server() as hangs:
        url = f"amqp://guest:guest@127.0.0.1:{hangs},127.0.0.1:{works}/?connect_timeout=2"
        async with RabbitBroker(url) as broker:
            assert broker.online
        with pytest.raises(ConnectionFailed, match=rf"127.0.0.1:{hangs} does not answer"):
            await RabbitBroker(f"amqp://127.0.0.1:1,127.0.0.1:{hangs}/?connect_timeout=0.4").connect()


async def test_two_closes_at_once_and_one_more(url: str, subject: str) -> None:
    broker = RabbitBroker(url)
    await broker.connect()
    await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
    await asyncio.gather(broker.close(), broker.close())
    await broker.close()
    assert not broker.connected


# -- publishing ------------------------------------------------------------------------------------------------


async def test_what_no_queue_takes_is_refused_if_asked(url: str, subject: str) -> None:
    async with RabbitBroker(f"{url}&mandatory=true") as broker:
        with pytest.raises(NotStored, match=f"{subject}: no queue takes it"):
            await broker.publish(Message(subject))
        await broker.subscribe(f"{subject}.taken", lambda _: None)
        batch = [Message(f"{subject}.{name}", id="same") for name in ("taken", "not", "taken", "not")]
        with pytest.raises(NotAllPublished) as caught:
            await broker.publish_many(batch)
        assert (sorted(caught.value.failed), caught.value.confirmed) == ([1, 3], 2)


async def test_without_being_asked_it_is_not(url: str, subject: str) -> None:
    async with RabbitBroker(url) as broker:
        await broker.publish(Message(subject))


async def test_a_queue_that_is_full_refuses(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.publish(Message(subject))  # makes the exchange
        await channel.queue_declare(subject, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await channel.queue_bind(subject, "events", subject)
        with pytest.raises(NotAllPublished, match=f"{subject}: RabbitMQ refuses it") as caught:
            await broker.publish_many([Message(subject)] * 10)
        assert {type(error) for error in caught.value.failed.values()} == {NotStored}
        await channel.queue_delete(subject)


async def test_what_is_too_large_is_not_sent(url: str, subject: str) -> None:
    async with RabbitBroker(f"{url}&max_payload=1000") as broker:
        with pytest.raises(MessageTooLarge, match="1001 bytes, over the 1000 of max_payload"):
            await broker.publish(Message(subject, b"x" * 1001))
        await broker.publish(Message(subject, b"x" * 1000))


async def test_a_body_of_many_frames_arrives_whole(url: str, subject: str) -> None:
    bodies = [secrets.token_bytes(size) for size in (131_063, 131_064, 131_065, 1_000_000)]
    arrived: list[bytes] = []
    async with RabbitBroker(url) as broker:
        subscription = await broker.subscribe(subject, lambda d: arrived.append(d.body))
        await broker.publish_many([Message(subject, body) for body in bodies])
        await subscription.drain()
    assert arrived == bodies


@pytest.mark.parametrize(
    ("headers", "error", "says"),
    [
        ({"CC": "elsewhere"}, UsageError, "CC"),
        ({"ä" * 65: ""}, UsageError, "128 bytes"),
        ({"Content-Type": "x" * 256}, UsageError, "255 bytes"),
        ({"Long": "x" * 131_072}, MessageTooLarge, "131072 of RabbitMQ's frame_max"),
    ],
    ids=["routing", "name", "content type", "size"],
)
async def test_headers_that_cannot_be_sent_are_refused(
    url: str,
    subject: str,
    headers: dict[str, str],
    error: type[Exception],
    says: str,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append)
        with pytest.raises(error, match=says):
            await broker.publish(Message(subject, headers=headers))
        fit = {"ä" * 64: "", "Content-Type": "x" * 255, "Long": "x" * 130_000}
        await broker.publish(Message(subject, headers=fit))
        await until(lambda: got)
    assert got[0].headers == fit
    assert "connection lost" not in caplog.text


async def test_a_subject_that_is_too_long_is_refused(url: str) -> None:
    async with RabbitBroker(url) as broker:
        with pytest.raises(UsageError, match="255 bytes"):
            await broker.publish(Message("ä" * 128))


# -- what others send and read -----------------------------------------------------------------------------------


async def test_others_see_plain_properties(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, lambda _: None)  # makes the exchange
        queue = (await channel.queue_declare(exclusive=True)).queue or ""
        await channel.queue_bind(queue, "events", subject)
        headers = {"Content-Type": "application/json", "Traceparent": "00-1"}
        await broker.publish(Message(subject, b"{}", headers, id="order-7"))
        properties = (await channel.basic_get(queue, no_ack=True)).header.properties
    assert properties.content_type == "application/json"
    assert properties.headers == {"Traceparent": "00-1"}
    assert (properties.message_id, properties.delivery_mode) == ("order-7", 2)


async def test_what_others_send_is_understood(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        headers = {
            "text": "a",
            "number": 7,
            "bytes": bytearray(b"\xff"),
            "x-eventmicro-attempts": 5,
            "x-eventmicro-subject": "lie",
        }
        properties = Properties(headers=headers, content_type="text/plain", correlation_id="c", priority=3)
        await channel.basic_publish(b"1", exchange="events", routing_key=subject, properties=properties)
        await channel.basic_publish(b"2", exchange="events", routing_key=subject)
        await until(lambda: len(got) == 2)
        assert got[0].headers == {"text": "a", "number": "7", "bytes": "�", "Content-Type": "text/plain"}
        assert (got[0].subject, got[0].attempt) == (subject, 1)
        await got[0].nack(0.05)
        await until(lambda: len(got) == 3)
        assert (got[2].headers, got[2].subject, got[2].attempt) == (got[0].headers, subject, 2)
        assert got[2].id == got[0].id != got[1].id


async def test_an_event_whose_properties_cannot_be_read_stops_nothing(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a time in nanoseconds, which is in the year 52 million."""
    got: list[Delivery] = []
    now = datetime(2020, 1, 1, tzinfo=UTC)
    seconds, nanoseconds = (int(now.timestamp() * unit).to_bytes(8, "big") for unit in (1, 10**9))
    properties = Properties(headers={"a": "b"}, message_id="1", timestamp=now)
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await publish_raw(channel, subject, properties, (seconds, nanoseconds))
        await until(lambda: got)
        await got[0].nack()
        await until(lambda: len(got) == 2)
        await got[1].nack(0.05)
        await until(lambda: len(got) == 3)
    assert [(d.body, d.headers, d.id, d.attempt) for d in got] == [
        (b"1", {"a": "b"}, f"{subject} 1", n) for n in (1, 2, 3)
    ]
    assert "connection lost" not in caplog.text


@pytest.mark.parametrize(
    "properties",
    [
        Properties(message_id="1", headers={"CC": ["nowhere"]}),
        Properties(message_id="1" * 250),
        Properties(message_id="1", content_type="x" * 255),
    ],
    ids=["copies", "id", "type"],
)
async def test_whatever_others_publish_can_be_published_again(
    url: str, subject: str, until: Until, properties: Properties
) -> None:
    """As its dead letter is, which it would else remain without for ever."""
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await publish_raw(channel, subject, properties)
        await until(lambda: got)
        await broker.publish(Message(subject, b"letter", got[0].headers, id=f"{subject}.{got[0].id}"))
        await until(lambda: len(got) == 2)
    assert got[1].headers == got[0].headers


async def test_the_next_attempt_of_an_event_is_not_for_those_to_whom_it_was_copied(
    url: str, subject: str, until: Until
) -> None:
    got: list[Delivery] = []
    copies: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(f"{subject}.cc", copies.append, queue=f"{subject}.cc", durable=Durable())
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await publish_raw(channel, subject, Properties(message_id="1", headers={"CC": [f"{subject}.cc"]}))
        await until(lambda: got and copies)
        await got[0].nack(0.05)
        await until(lambda: len(got) == 2)
        await broker.publish(Message(f"{subject}.cc", b"last"))
        await until(lambda: copies[-1].body == b"last")
    assert [(d.body, d.attempt) for d in copies] == [(b"1", 1), (b"last", 1)]


# -- queues --------------------------------------------------------------------------------------------------------


async def test_a_queue_that_is_made_otherwise_is_named_with_the_mend(url: str, subject: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await channel.queue_declare(subject, durable=True)
        with pytest.raises(
            UsageError, match=rf"queue '{subject}' exists and is made otherwise: x-.*rabbitmqctl delete_queue"
        ):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        ordered = f"{subject}.ordered"
        await broker.subscribe(subject, lambda _: None, queue=ordered, durable=Durable())
        with pytest.raises(UsageError, match="x-single-active-consumer"):
            await broker.subscribe(subject, lambda _: None, queue=ordered, durable=Durable(ordered=True))
        await channel.queue_delete(subject)


async def test_check_makes_nothing(url: str, subject: str) -> None:
    async with RabbitBroker(f"{url}&declare=check&exchange={subject}") as broker:
        with pytest.raises(UsageError, match=f"exchange '{subject}' is missing and declare=check"):
            await broker.publish(Message(subject))
    async with RabbitBroker(url) as maker, RabbitBroker(f"{url}&declare=check") as broker:
        await maker.publish(Message(subject))
        with pytest.raises(UsageError, match=f"queue '{subject}' is missing and declare=check: make it, durable, with"):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await maker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        with pytest.raises(UsageError, match="x-single-active-consumer"):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(ordered=True))


async def test_false_leaves_all_alone_and_delays_on_this_side(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as maker:
        await (await maker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())).drain()
    async with RabbitBroker(f"{url}&declare=false") as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"1"))
        await until(lambda: got)
        await got[0].nack(0.05)
        await until(lambda: len(got) == 2)
        assert got[1].attempt == 2
        await got[1].ack()
        with pytest.raises(UsageError, match="no queue"):
            await broker.subscribe(subject, got.append, queue=f"{subject}.missing", durable=Durable())


async def test_a_consumer_that_the_server_ends_is_taken_up_again(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"before"))
        await until(lambda: got)
        await channel.queue_delete(subject)
        await until(lambda: got[0].lapsed)
        await broker.flush()
        await got[0].ack()
        await broker.publish(Message(subject, b"after"))
        await until(lambda: [d.body for d in got] == [b"before", b"after"])
    assert "RabbitMQ has ended the consumer" in caplog.text


async def test_an_event_stays_where_no_queue_takes_its_dead_letter(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    service, attempts = Service(subject), list[int]()

    @service.subscribe(
        subject, queue=f"{subject}.q", dead_letter=f"{subject}.dead", retry=Retry(backoff=0.1, longest=0.1)
    )
    async def refuse(event: int, context: Context) -> None:
        attempts.append(context.attempt)
        raise Reject("not for me")

    async with raw_channel(url) as channel:
        await service.start(url)
        await channel.queue_delete(f"{subject}.dead")
        await service.publish(subject, 1)
        await until(lambda: len(attempts) > 1)
        await service.stop()
    assert "no queue takes it" in caplog.text


async def test_what_rabbitmq_gives_up_becomes_a_dead_letter(url: str, subject: str, until: Until) -> None:
    letters: list[Delivery] = []
    dead = f"{subject}.dead"
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        worker = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(dead_letter=dead))
        await worker.drain()
        await broker.publish(Message(subject, b"1", {"A": "b"}))
        taken = await channel.basic_get(subject)
        await channel.basic_reject(taken.delivery_tag or 0, requeue=False)
        await broker.subscribe(dead, letters.append, queue=dead, durable=Durable())
        await until(lambda: letters)
    assert (letters[0].subject, letters[0].body, letters[0].attempt) == (dead, b"1", 1)
    assert letters[0].headers == {
        "A": "b",
        "Dead-Letter-Reason": "given up by RabbitMQ: rejected",
        "Dead-Letter-Attempts": "1",
        "Dead-Letter-Subject": subject,
        "Dead-Letter-Queue": subject,
    }


async def test_names_that_rabbitmq_cannot_take_are_refused_before_anything_is_made(url: str, subject: str) -> None:
    longest = subject + "x" * (238 - len(subject))
    async with RabbitBroker(url) as broker:
        for queue, dead, says in (
            ("ä", None, "queue 'ä': write letters"),
            (subject, "dead.ä", "dead_letter 'dead.ä': write letters"),
            (subject, "x" * 256, "255 bytes"),
            (f"{longest}x", None, r"255 bytes.*in which its events wait"),
        ):
            with pytest.raises(UsageError, match=says):
                await broker.subscribe(subject, lambda _: None, queue=queue, durable=Durable(dead_letter=dead))
        await broker.subscribe(subject, lambda _: None, queue=longest, durable=Durable(prefetch=100_000))
        await broker.subscribe(subject, lambda _: None, queue=f"{longest}{'x' * 17}", durable=Durable(ordered=True))
    async with raw_channel(url) as channel:
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await channel.queue_declare(subject, passive=True)


async def test_what_rabbitmq_cannot_do_is_refused(url: str, subject: str) -> None:
    async with RabbitBroker(url) as broker:
        for durable, word in ((Durable(start="all"), "start"), (Durable(dedupe=60), "dedupe")):
            with pytest.raises(Unsupported, match=word):
                await broker.subscribe(subject, lambda _: None, queue=subject, durable=durable)
        with pytest.raises(Unsupported, match="nats://"):
            await broker.send(Message(subject))
        with pytest.raises(UsageError, match="'#' is a wildcard"):
            await broker.subscribe(f"{subject}.#", lambda _: None)


# -- retries ---------------------------------------------------------------------------------------------------------


async def test_delayed_events_come_again_in_the_order_of_their_delays(url: str, subject: str, until: Until) -> None:
    """Twice, so that the second time the waiting queues are there already."""
    delays = {b"a": 0.9, b"b": 0.3, b"c": 0.6}
    again: list[tuple[bytes, int]] = []

    async def settle(delivery: Delivery) -> None:
        if delivery.attempt <= 2:
            await delivery.nack(delays[delivery.body])
        if delivery.attempt > 1:
            again.append((delivery.body, delivery.attempt))
        if delivery.attempt == 3:
            await delivery.ack()

    tasks: list[asyncio.Future[None]] = []
    async with RabbitBroker(url) as broker:
        receive = lambda d: tasks.append(asyncio.ensure_future(settle(d)))  # noqa: E731
        await broker.subscribe(subject, receive, queue=subject, durable=Durable())
        await broker.publish_many([Message(subject, body) for body in delays])
        await until(lambda: len(again) == 6)
        await asyncio.gather(*tasks)
    assert [body for body, attempt in again if attempt == 2] == [b"b", b"c", b"a"]
    assert [body for body, attempt in again if attempt == 3] == [b"b", b"c", b"a"]


@pytest.mark.parametrize("id", ["1", None])
async def test_a_waiting_queue_that_was_deleted_is_made_again(
    url: str, subject: str, id: str | None, until: Until
) -> None:
    """Also for an event of which its publisher has said no id."""
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await publish_raw(channel, subject, Properties(message_id=id))
        for attempt in (1, 2, 3):
            await until(lambda: len(got) == attempt)  # noqa: B023
            assert got[-1].attempt == attempt
            await channel.queue_delete(f"{subject}.retry.{50}")
            await got[-1].nack(0.05)
        await until(lambda: len(got) == 4)


async def test_an_event_that_cannot_be_copied_waits_here_and_alone(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Its headers only just fit, and a copy has some more."""
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"full", {"Long": "x" * 131_000}))
        await until(lambda: got)
        await got[0].nack(0.05)
        await until(lambda: len(got) == 2)
        assert (got[1].body, got[1].attempt, got[1].headers) == (b"full", 2, got[0].headers)
    assert "no copy can be made" in caplog.text
    assert "takes no events" not in caplog.text


async def test_an_event_of_which_no_copy_can_be_made_leaves_the_others_their_delays(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_for_one(delivery: RabbitDelivery) -> Properties:
        if delivery.body == b"odd":
            raise struct.error("whatever a driver raises that cannot encode something")
        return for_retry(delivery)

    monkeypatch.setattr(retry, "for_retry", fail_for_one)
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish_many([Message(subject, b"odd"), Message(subject, b"even")])
        await until(lambda: len(got) == 2)
        for delivery in got[:2]:
            await delivery.nack(0.05)
        await until(lambda: len(got) == 4)
    assert "no copy can be made" in caplog.text
    assert "takes no events" not in caplog.text


async def test_a_delay_survives_the_instance_that_asked_for_it(url: str, subject: str, until: Until) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"1", {"A": "b"}))
        await until(lambda: got)
        await got[0].nack(0.5)
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await until(lambda: len(got) == 2)
    assert (got[1].attempt, got[1].headers, got[1].id) == (2, {"A": "b"}, got[0].id)


KILLED = """
import asyncio, sys
from eventmicro_rabbitmq import RabbitBroker, durable
from eventmicro.broker import Durable

async def main(url, queue):
    async with RabbitBroker(url) as broker:
        receive = lambda delivery: print(delivery.attempt, flush=True)
        await broker.subscribe(queue, receive, queue=queue, durable=Durable())
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_deliveries_to_a_process_that_is_killed_are_counted(url: str, subject: str, until: Until) -> None:
    async with RabbitBroker(url) as broker:
        await (await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())).drain()
        await broker.publish(Message(subject, b"deadly"))
        for attempt in (1, 2):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", KILLED, url, subject, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == b"%d\n" % attempt
            process.send_signal(signal.SIGKILL)
            await process.wait()
        got: list[Delivery] = []
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await until(lambda: got)
        assert got[0].attempt == 3


# -- order -----------------------------------------------------------------------------------------------------------


async def test_an_ordered_queue_goes_to_the_next_instance_when_all_is_settled(
    url: str, subject: str, until: Until
) -> None:
    first, second = [], []
    durable = Durable(ordered=True, prefetch=10)
    async with RabbitBroker(url) as one, RabbitBroker(url) as two:
        leaving = await one.subscribe(subject, first.append, queue=subject, durable=durable)
        await two.subscribe(subject, second.append, queue=subject, durable=durable)
        await one.publish_many([Message(subject, b"%d" % number) for number in range(20)])
        await until(lambda: len(first) == 10)
        await leaving.drain()
        for delivery in first[:9]:
            await delivery.ack()
        await two.flush()
        assert not second
        await first[9].ack()
        await until(lambda: len(second) == 10)
        assert [d.body for d in first + second] == [b"%d" % number for number in range(20)]


async def test_an_event_nacked_comes_before_those_that_wait_on_this_side(url: str, subject: str, until: Until) -> None:
    handed: list[tuple[bytes, int]] = []
    room: list[asyncio.Future[None]] = []
    held: list[Delivery] = []

    def receive(delivery: Delivery) -> Awaitable[None]:
        handed.append((delivery.body, delivery.attempt))
        held.append(delivery)
        room.append(asyncio.get_running_loop().create_future())
        return room[-1]

    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, receive, queue=subject, durable=Durable(ordered=True, prefetch=10))
        await broker.publish_many([Message(subject, b"%d" % number) for number in range(4)])
        await until(lambda: held)
        await held[0].nack()
        room[0].set_result(None)
        for count in range(2, 6):
            await until(lambda: len(held) == count)  # noqa: B023
            await held[-1].ack()
            room[-1].set_result(None)
    assert handed == [(b"0", 1), (b"0", 2), (b"1", 1), (b"2", 1), (b"3", 1)]


@pytest.mark.parametrize("other", ["a", "b"])
async def test_an_event_of_the_same_id_does_not_take_the_place_of_one_nacked(
    url: str, subject: str, other: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of another subject, or one that was published twice; it comes while the first is on its way back."""
    monkeypatch.setattr(durable, "NACK_AFTER", 0.2)
    got: list[Delivery] = []
    async with RabbitBroker(url) as broker:
        await broker.subscribe(f"{subject}.*", got.append, queue=subject, durable=Durable(ordered=True, prefetch=10))
        await broker.publish(Message(f"{subject}.a", b"1", id="7"))
        await until(lambda: got)
        await got[0].nack()
        await broker.publish(Message(f"{subject}.{other}", b"2", id="7"))
        await until(lambda: len(got) == 3)
        for delivery in got[1:]:
            await delivery.ack()
        await broker.flush()
    assert [(d.body, d.attempt) for d in got] == [(b"1", 1), (b"1", 2), (b"2", 1)]


# -- a bad network -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(120)
async def test_connections_cut_under_load_lose_nothing(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [b"%d" % number for number in range(5000)]
    got: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()
    again: list[bytes] = []

    def receive(delivery: Delivery) -> None:
        got.append(delivery.body)
        task = asyncio.create_task(delivery.ack() if delivery.attempt > 1 or len(got) % 10 else delivery.nack(0.05))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with FaultProxy(urlsplit(url).port or 0) as proxy, RabbitBroker(through(proxy, url)) as broker:
        await broker.subscribe(subject, receive, queue=subject, durable=Durable())

        async def publish(number: int) -> None:
            for body in sent[number::50]:
                await publish_until_stored(broker, Message(subject, body), again)

        publishing = [asyncio.ensure_future(publish(number)) for number in range(50)]
        for count in (500, 1500, 3000):
            while len(got) < count:
                await asyncio.sleep(0.005)
            proxy.cut()
        await asyncio.gather(*publishing)
        while not set(sent) <= set(got):
            await asyncio.sleep(0.01)
        while tasks:
            await asyncio.sleep(0.01)
    lost = Counter(sent) - Counter(got)
    assert not lost
    logged = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [name for name in logged if name.startswith("aiormq")]
    print(f"5000 events, 3 cuts: 0 lost, {len(again)} published again, {len(got) - len(sent)} deliveries too many")


async def test_a_server_that_hangs_is_noticed_and_left(url: str, subject: str, until: Until) -> None:
    async with FaultProxy(urlsplit(url).port or 0) as proxy:
        broker = RabbitBroker(f"{through(proxy, url)}&heartbeat=1")
        await broker.connect()
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await broker.publish(Message(subject))
        proxy.blackhole = True
        with pytest.raises(Unconfirmed, match=f"{subject}: not confirmed in time"):
            await broker.publish(Message(subject), timeout=0.2)
        await until(lambda: not broker.online)
        with pytest.raises(Disconnected):
            await broker.publish(Message(subject), timeout=0.2)
        proxy.blackhole = False
        await until(lambda: broker.online)
        await broker.publish(Message(subject))
        proxy.blackhole = True
        await broker.close()
        assert not broker.connected


async def test_a_hundred_queues_at_once_and_a_number_that_is_used_again(url: str, subject: str) -> None:
    """What fails ends its channel; another one of the same number must not get the end of it."""
    async with RabbitBroker(url) as broker:
        subscribing = (
            broker.subscribe(subject, lambda _: None, queue=f"{subject}.{number % 50}", durable=Durable())
            for number in range(100)
        )
        await asyncio.gather(*subscribing)
        async with asyncio.timeout(20):
            for _ in range(2100):  # more than a connection may have at the same time
                await broker.flush()
