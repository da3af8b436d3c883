"""RabbitMQ: queues that are made, checked or left alone, and what they give up."""

from __future__ import annotations

import aiormq
import pytest
from eventmicro_rabbitmq import RabbitBroker
from eventmicro_rabbitmq.topology import live_queue

from eventmicro.broker import Durable
from eventmicro.context import Context
from eventmicro.errors import (
    Reject,
    Unsupported,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.integration.rabbitmq.kit import Until, raw_channel

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
        await until(lambda: caplog.text.count("no queue takes it") > 1)
        await service.stop()
    assert attempts == [1], "only its dead letter is tried again"


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
        with pytest.raises(UsageError, match="'#' is a wildcard"):
            await broker.subscribe(f"{subject}.#", lambda _: None)


async def test_a_group_that_keeps_nothing_shares_a_queue_that_rabbitmq_4_allows(url: str, subject: str) -> None:
    """One that is neither durable nor one connection's is deprecated: refused, it costs the connection, and again."""
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, lambda _: None, queue="group")
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match=r"'durable'.* current is 'true'"):
            await channel.queue_declare(live_queue("events", "group", subject), durable=False, auto_delete=True)
    async with raw_channel(url) as channel:
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await channel.queue_declare(live_queue("events", "group", subject), passive=True)
