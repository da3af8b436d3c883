"""RabbitMQ: what is refused, what is stored, and what others send and see."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest
from eventmicro_rabbitmq import RabbitBroker

from eventmicro.broker import Durable
from eventmicro.errors import (
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    UsageError,
)
from eventmicro.message import Delivery, Message
from tests.integration.rabbitmq.kit import Properties, Until, publish_raw, raw_channel

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
        assert got[0].headers == {
            "text": "a",
            "number": "7",
            "bytes": "�",
            "Content-Type": "text/plain",
            "Correlation-Id": "c",
        }
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
