"""RabbitMQ: queues that an administrator has made otherwise than we would, with declare=false."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from eventmicro_rabbitmq import RabbitBroker
from eventmicro_rabbitmq.connection.channel import Asking, Channel, borrowed_channel
from eventmicro_rabbitmq.connection.connecting import connect
from eventmicro_rabbitmq.existing import check_existing, look_at
from eventmicro_rabbitmq.settings import read_url
from eventmicro_rabbitmq.topology import Arguments

from eventmicro.broker import Durable
from eventmicro.context import Context
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.integration.rabbitmq.kit import Until, raw_channel
from tests.told import consumers, depth, until_told

CLASSIC: dict[str, Any] = {}
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
STREAM: dict[str, Any] = {"x-queue-type": "stream"}


@pytest.mark.parametrize(
    "arguments", [CLASSIC, {"x-max-priority": 5}, QUORUM, QUORUM | {"x-delivery-limit": 100}], ids=str
)
async def test_attempts_are_counted_on_any_queue(
    url: str, subject: str, arguments: dict[str, Any], until: Until
) -> None:
    """Over two instances, of which one ends with an event in its hands."""
    attempts: list[int] = []
    letters: list[Delivery] = []
    queue, dead = f"{subject}.q", f"{subject}.dead"

    def service() -> Service:
        made = Service(subject, broker=f"{url}&declare=false")

        @made.subscribe(subject, queue=queue, dead_letter=dead, retry=Retry(attempts=4, backoff=0.01, longest=0.01))
        async def fail(event: int, context: Context) -> None:
            attempts.append(context.attempt)
            raise ValueError("never")

        return made

    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(dead, letters.append, queue=dead, durable=Durable())
        await channel.queue_declare(queue, durable=True, arguments=dict(arguments))
        await channel.queue_bind(queue, "events", subject)
        async with RabbitBroker(f"{url}&declare=false") as leaving:
            held: list[Delivery] = []
            await leaving.subscribe(subject, held.append, queue=queue, durable=Durable())
            await broker.publish(Message(subject, b"1", {"A": "b"}))
            await until(lambda: held)
        async with service(), service():
            await until(lambda: letters)
        await until_told(lambda: depth(channel, queue), 0)
        await channel.queue_delete(queue)
    assert attempts == [2, 3, 4]
    assert len(letters) == 1
    headers = letters[0].headers or {}
    assert (headers["A"], headers["Dead-Letter-Attempts"], headers["Dead-Letter-Subject"]) == ("b", "4", subject)


async def test_attempts_are_counted_here_where_no_copy_can_be_made(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> bool:
        return False

    monkeypatch.setattr("eventmicro_rabbitmq.retry.Retries.recount", refuse)
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&declare=false") as broker:
        await channel.queue_declare(subject, durable=True)
        await channel.queue_bind(subject, "events", subject)
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"1"))
        for count in (1, 2, 3):
            await until(lambda: len(got) == count)  # noqa: B023
            await got[-1].nack()
        await until(lambda: len(got) == 4)
        await channel.queue_delete(subject)
    assert [delivery.attempt for delivery in got] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"arguments": {"x-queue-type": "stream"}, "durable": True}, "is a stream.*x-queue-type=quorum"),
        ({"durable": True, "auto_delete": True}, "goes with its last consumer.*without auto_delete"),
        ({"durable": False, "exclusive": True}, "goes with the connection|has it for itself"),
        ({"durable": True, "arguments": {"x-expires": 60_000}}, "deleted with its events.*and x-expires"),
        ({"durable": True, "arguments": QUORUM | {"x-expires": 60_000}}, "deleted with its events"),
    ],
    ids=str,
)
async def test_a_queue_that_keeps_no_events_is_refused(url: str, subject: str, made: dict[str, Any], says: str) -> None:
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&declare=false") as broker:
        await channel.queue_declare(subject, **made)
        with pytest.raises(UsageError, match=says):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await until_told(lambda: consumers(channel, subject), 0)
        await channel.queue_delete(subject)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (CLASSIC, "does not count deliveries.*x-queue-type=quorum"),
        ({"x-single-active-consumer": True}, "does not count deliveries"),
        (QUORUM, "to several instances at a time.*x-single-active-consumer=true"),
        (QUORUM | {"x-single-active-consumer": True}, "x-delivery-limit=1000000"),
    ],
    ids=str,
)
async def test_a_queue_that_keeps_no_order_is_refused_for_ordered_events(
    url: str, subject: str, arguments: dict[str, Any], says: str
) -> None:
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&declare=false") as broker:
        await channel.queue_declare(subject, durable=True, arguments=dict(arguments))
        with pytest.raises(UsageError, match=says):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(ordered=True))
        await channel.queue_delete(subject)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (CLASSIC, None),
        ({"x-message-ttl": 60_000}, "x-message-ttl, 60000 ms"),
        ({"x-message-ttl": 60_000, "x-dead-letter-exchange": "amq.direct"}, None),
        (QUORUM | {"x-max-length": 5, "x-delivery-limit": 2_000_000}, "oldest events.*x-max-length"),
        (QUORUM | {"x-max-length": 5, "x-delivery-limit": 2_000_000, "x-overflow": "reject-publish"}, None),
        (QUORUM | {"x-delivery-limit": 3}, "more than 3 times"),
    ],
    ids=str,
)
async def test_what_a_queue_may_lose_is_said(
    url: str, subject: str, arguments: dict[str, Any], says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&declare=false") as broker:
        await channel.queue_declare(subject, durable=True, arguments=dict(arguments))
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await channel.queue_delete(subject)
    told = [record.getMessage() for record in caplog.records if "dead letter exchange" in record.getMessage()]
    assert bool(told) == bool(says)
    assert says is None or re.search(says, told[0])


def test_a_limit_that_is_none_keeps_no_order() -> None:
    """RabbitMQ 4 takes -1 for it."""
    made = QUORUM | {"x-single-active-consumer": True}
    check_existing("q", made | {"x-delivery-limit": 20, "x-dead-letter-exchange": "x"}, ordered=True)
    with pytest.raises(UsageError, match="x-delivery-limit=1000000"):
        check_existing("q", made | {"x-delivery-limit": -1}, ordered=True)


@pytest.mark.parametrize("declare", ["check", "false"])
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_queue_that_goes_while_it_is_looked_at_is_not_made(
    url: str, subject: str, declare: str, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exists(*_: object) -> bool:  # as of a moment ago
        return True

    async with raw_channel(url) as channel, RabbitBroker(url), RabbitBroker(f"{url}&declare={declare}") as broker:
        monkeypatch.setattr("eventmicro_rabbitmq.declare.exists", exists)
        with pytest.raises(EventMicroError):
            await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(ordered=ordered))
        with pytest.raises(ChannelNotFoundEntity):
            await channel.queue_declare(subject, passive=True)


@pytest.mark.parametrize("asks", range(1, 6))
@pytest.mark.parametrize(
    "arguments", [CLASSIC, QUORUM | {"x-single-active-consumer": True, "x-max-length": 5}, STREAM], ids=str
)
async def test_a_queue_that_goes_between_two_looks_is_not_made(
    url: str, subject: str, arguments: dict[str, Any], asks: int
) -> None:
    connection = await connect(read_url(url))
    count = 0

    @asynccontextmanager
    async def ask(about: str) -> AsyncIterator[Channel]:
        nonlocal count
        count += 1
        async with borrowed_channel(connection, about, 10) as channel:
            if count == asks:
                await channel.queue_delete(subject)
            yield channel

    async with raw_channel(url) as channel:
        await channel.queue_declare(subject, durable=True, arguments=dict(arguments))
        found = await look_at(ask, subject)
        await channel.queue_delete(subject)
        assert found is None if count >= asks else arguments.items() <= (found or {}).items()
        await look_at(ask, subject)
        with pytest.raises(ChannelNotFoundEntity):
            await channel.queue_declare(subject, passive=True)
    await connection.end()


@pytest.mark.parametrize(
    ("major", "told"), [(3, ""), (4, "queue q loses events that are delivered more than 20 times")]
)
def test_the_limit_that_a_queue_has_by_itself_is_that_of_the_server(
    major: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_existing("q", QUORUM, ordered=False, major=major)
    check_existing("q", QUORUM | {"x-delivery-limit": 1_000_000}, ordered=False, major=major)
    assert [record.getMessage().startswith(told) for record in caplog.records] == [True] * bool(told)


async def test_of_a_server_it_is_asked_what_it_is(url: str, subject: str, caplog: pytest.LogCaptureFixture) -> None:
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&declare=false") as broker:
        major = int(str(channel.connection.server_properties["version"]).partition(".")[0])
        await channel.queue_declare(subject, durable=True, arguments=dict(QUORUM))
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await channel.queue_delete(subject)
    assert ("more than 20 times" in caplog.text) == (major >= 4)


async def test_a_queue_that_is_there_is_looked_at_once(
    url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often its consumer begins anew; one that has been made again is looked at again."""
    looks: list[str] = []

    async def look(ask: Asking, queue: str) -> Arguments | None:
        looks.append(queue)
        return await look_at(ask, queue)

    monkeypatch.setattr("eventmicro_rabbitmq.declare.look_at", look)
    monkeypatch.setattr("eventmicro_rabbitmq.consuming.consumer.FIRST_WAIT", 0.01)
    got: list[Delivery] = []
    async with raw_channel(url) as channel, RabbitBroker(f"{url}&declare=false") as broker:
        await channel.queue_declare(subject, durable=True, arguments=dict(QUORUM))
        subscription: Any = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        for _ in range(2):
            subscription._consumer.begin_anew()
            await broker.flush()
        other: Any = await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        assert looks == [subject]
        with pytest.raises(UsageError, match="x-single-active-consumer"):  # it cannot keep what this one wants
            await broker.subscribe(subject, got.append, queue=subject, durable=Durable(ordered=True))
        await other.close()
        del looks[:]
        await channel.queue_delete(subject)
        await until(lambda: not subscription._consumer._standing.is_set())
        link: Any = broker._consuming
        await broker._declarer.durable_queue(link.connection, subject, subject, Durable())
        await channel.queue_declare(subject, durable=True, arguments=dict(QUORUM))
        await broker.flush()
        assert looks == [subject]
        await channel.queue_delete(subject)
