"""RabbitMQ: events with a priority on a queue that is to keep its order."""

from __future__ import annotations

import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitQueue
from pamqp.commands import Basic

from eventmicro.broker import Durable
from tests.integration.rabbitmq.kit import Until, raw_channel


async def test_what_a_priority_does_to_an_ordered_queue_is_said_once(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    got: list[bytes] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        major = int(str(channel.connection.server_properties["version"]).partition(".")[0])
        durable = Durable(ordered=True)
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=durable)
        await made.drain()
        for priority in (None, 4, 7, 9):
            about = Basic.Properties(priority=priority, delivery_mode=2)
            body = str(priority or 0).encode()
            await channel.basic_publish(body, exchange="events", routing_key=subject, properties=about)
        await broker.subscribe(subject, lambda d: got.append(d.body), queue=subject, durable=durable)
        await until(lambda: len(got) == 4)
        await channel.queue_delete(subject)
    warned = [line for line in caplog.messages if "has priority" in line]
    assert len(warned) == 1
    assert ("would come before others on RabbitMQ 4" in warned[0]) == (major < 4)
    assert any("would serve events with a priority of 5 or more first" in line for line in caplog.messages) == (
        major >= 4
    )
    assert (got == [b"0", b"4", b"7", b"9"]) == (major < 4), "as the server does it"


async def test_where_no_order_is_asked_for_nothing_is_said(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    got: list[bytes] = []
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(subject, lambda d: got.append(d.body), queue=subject, durable=Durable())
        about = Basic.Properties(priority=9, delivery_mode=2)
        await channel.basic_publish(b"1", exchange="events", routing_key=subject, properties=about)
        await until(lambda: got)
        await channel.queue_delete(subject)
    assert "priority" not in caplog.text


async def test_of_a_queue_with_priorities_it_is_said_that_what_is_held_goes_first(
    url: str, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    urgent = RabbitQueue(subject, type="classic", max_priority=9)
    plain = RabbitQueue(subject)
    async with RabbitBroker(url) as broker:
        for place, prefetch in ((urgent, 100), (urgent, 1), (plain, 20)):  # the last finds it as it is
            subscription = await broker.subscribe(
                subject, lambda _: None, queue=subject, durable=Durable(prefetch=prefetch), place=place
            )
            await subscription.drain()
        async with raw_channel(url) as channel:
            await channel.queue_delete(subject)
        await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        async with raw_channel(url) as channel:
            await channel.queue_delete(subject)
    said = [line for line in caplog.messages if "has priorities" in line]
    assert [f"prefetch={prefetch} events" in line for prefetch, line in zip((100, 20), said, strict=True)] == [True] * 2
