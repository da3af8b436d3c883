"""RabbitMQ: handlers that take longer than it waits for, or that block the event loop, and what waits behind them; and
policies that are put on at work.

A server of its own takes events back after a second, and looks for that five times a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitQueue

from eventmicro.broker import Durable
from eventmicro.context import Context
from eventmicro.errors import NotStored
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.integration.rabbitmq.kit import Until, raw_channel
from tests.servers import RabbitServer
from tests.told import depth, until_told

TIMEOUT = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    with RabbitServer() as server:
        server.ctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {TIMEOUT * 1000:.0f}), "
            "application:set_env(rabbit, channel_tick_interval, 200).",
        )
        yield server


@pytest.fixture(autouse=True)
def all_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


@pytest.fixture
def slow_url(server: RabbitServer) -> str:
    return f"{server.url}?new_queue_wait=0"


class Slow:
    """A service whose handler takes its time, and what it has counted."""

    def __init__(self, url: str, subject: str, seconds: float, *, blocks: bool = False, **options: Any) -> None:
        self.begun = Counter[int]()
        self.ended = Counter[int]()
        self.attempts = Counter[int]()
        self.service = Service(subject, broker=url)

        @self.service.subscribe(subject, **({"queue": subject} | options))
        async def slow(event: int, context: Context) -> None:
            self.begun[event] += 1
            self.attempts[context.attempt] += 1
            if blocks:
                time.sleep(seconds)
            else:
                await asyncio.sleep(seconds)
            self.ended[event] += 1


async def version_of(url: str) -> int:
    async with raw_channel(url) as channel:
        return int(str(channel.connection.server_properties["version"]).partition(".")[0])


async def waiting_in(url: str, queue: str) -> int:
    async with raw_channel(url) as channel:
        return await depth(channel, queue)


async def deleted_with(url: str, counts: dict[str, int]) -> None:
    """Delete queues as soon as so many events are in each."""
    async with raw_channel(url) as channel:
        for queue, count in counts.items():
            await until_told(lambda queue=queue: depth(channel, queue), count)  # type: ignore[misc]
            await channel.queue_delete(queue)


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("kind", ["quorum", "classic"])
@pytest.mark.parametrize("told", [True, False])
async def test_what_waits_behind_a_slow_handler_is_not_held_for_too_long(
    slow_url: str, subject: str, told: bool, kind: Any, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{slow_url}&consumer_timeout={TIMEOUT}" if told else slow_url
    slow = Slow(url, subject, 0.15, queue=RabbitQueue(subject, type=kind))
    async with slow.service:
        await slow.service.publish_many(subject, range(20))
        await until(lambda: len(slow.ended) == 20)
        await slow.service.flush()
        while await waiting_in(slow_url, subject):  # one whose consumer was ended comes again
            await asyncio.sleep(0.05)
    ends = caplog.text.count("RabbitMQ has ended the consumer")
    assert ends == 0 if told else ends <= 1
    assert set(slow.ended.values()) == {1}
    assert set(slow.attempts) == {1}, "that it waited is not the event's fault"
    await deleted_with(slow_url, {subject: 0, f"dead.{subject}": 0})


@pytest.mark.timeout_seconds(60)
async def test_a_handler_that_takes_longer_than_rabbitmq_waits_is_run_once(
    slow_url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Its queue is made so that RabbitMQ 4 waits for it; 3.10 takes the event back, which then waits here."""
    slow = Slow(f"{slow_url}&consumer_timeout={TIMEOUT}", subject, 3 * TIMEOUT, timeout=30)
    async with slow.service:
        await slow.service.publish(subject, 1)
        await until(lambda: slow.ended)
        await slow.service.flush()
    assert slow.begun == {1: 1}
    assert ("RabbitMQ has ended the consumer" in caplog.text) == (await version_of(slow_url) < 4)
    await deleted_with(slow_url, {subject: 0, f"dead.{subject}": 0})


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("timeout", [30, None])
async def test_on_a_queue_of_others_it_is_run_again_no_more_when_it_has_ended_well(
    slow_url: str, subject: str, timeout: float | None, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    retry = Retry(attempts=2)
    place = RabbitQueue(subject)
    slow = Slow(slow_url, subject, 3 * TIMEOUT, queue=place, timeout=timeout, retry=retry, concurrency=9)
    async with raw_channel(slow_url) as channel:
        await channel.queue_declare(subject, durable=True, arguments={"x-queue-type": "quorum"})
    async with slow.service:
        await slow.service.publish(subject, 1)
        await until(lambda: "is not handled again" in caplog.text)
        await until(lambda: slow.ended[1] == slow.begun[1])
        await slow.service.flush()
    assert slow.begun == {1: 1}
    assert "RabbitMQ has ended the consumer" in caplog.text
    await deleted_with(slow_url, {subject: 0, f"dead.{subject}": 0})


@pytest.mark.timeout_seconds(60)
async def test_a_handler_that_blocks_the_event_loop_is_named_and_its_event_is_handled_once(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(f"{url}&heartbeat=1&reconnect_wait=0.05", subject, 3.0, blocks=True)
    async with slow.service:
        await slow.service.publish_many(subject, [1, 2])
        await until(lambda: len(slow.ended) == 2)
        await until(lambda: "is not handled again" in caplog.text)
        await slow.service.flush()
    assert slow.begun == {1: 1, 2: 1}
    assert set(slow.attempts) == {1}
    assert "the event loop stood still for" in caplog.text
    assert "asyncio.to_thread" in caplog.text
    await deleted_with(url, {subject: 0, f"dead.{subject}": 0})


@pytest.mark.timeout_seconds(60)
async def test_a_handler_that_blocks_the_event_loop_and_fails_is_given_up_in_the_end(
    url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = list[int]()
    service = Service(subject, broker=f"{url}&heartbeat=1&reconnect_wait=0.05")

    @service.subscribe(subject, queue=subject, retry=Retry(attempts=2, backoff=0.1, longest=0.1))
    async def fail(event: int, context: Context) -> None:
        attempts.append(context.attempt)
        time.sleep(3.0)
        raise ValueError("never")

    async with service:
        await service.publish(subject, 1)
        await until(lambda: "went to dead" in caplog.text and "is not handled again" in caplog.text)
        await service.flush()
    assert attempts == [1, 2]
    await deleted_with(url, {subject: 0, f"dead.{subject}": 1})


@pytest.mark.timeout_seconds(60)
async def test_several_instances_that_are_slow_at_times_take_nothing_from_one_another(
    slow_url: str, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """What one held too many of was given back, to the next that did the same, and counted until it was given up."""
    place, url = RabbitQueue(subject), f"{slow_url}&consumer_timeout={TIMEOUT}"
    services = [Service(subject, broker=url) for _ in range(3)]
    begun, attempts = Counter[int](), Counter[int]()

    async def work(event: int, context: Context) -> None:
        begun[event] += 1
        attempts[context.attempt] += 1
        await asyncio.sleep(0.01 if event < 60 else 0.1)

    async with AsyncExitStack() as stack:
        for service in services:
            service.subscribe(subject, queue=place, retry=Retry(attempts=1))(work)
            await stack.enter_async_context(service)
        await services[0].publish_many(subject, range(150))
        await until(lambda: len(begun) == 150)
    assert set(begun) == set(range(150))
    await deleted_with(slow_url, {subject: 0, f"dead.{subject}": 0})
    ends = caplog.text.count("RabbitMQ has ended the consumer")
    assert sum(attempts.values()) <= 150 + ends, "at most the one that is at work is run again where it ends"
    assert max(attempts) <= 1 + ends


@asynccontextmanager
async def policy(server: RabbitServer, name: str, pattern: str, kind: str, definition: str) -> AsyncIterator[None]:
    """A policy that an administrator puts on, and takes off again."""
    await asyncio.to_thread(server.ctl, "set_policy", name, pattern, definition, "--apply-to", kind)
    try:
        yield
    finally:
        await asyncio.to_thread(server.ctl, "clear_policy", name)


@pytest.mark.timeout_seconds(60)
async def test_a_limit_that_a_policy_puts_on_at_work_refuses_and_loses_nothing(
    server: RabbitServer, slow_url: str, subject: str, until: Until
) -> None:
    got, stored = list[bytes](), list[bytes]()

    async def publish(broker: RabbitBroker, number: int) -> bool:
        try:
            await broker.publish(Message(subject, b"%d" % number))
        except NotStored:
            return False
        stored.append(b"%d" % number)
        return True

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.try_ack()

    async with RabbitBroker(slow_url) as broker:
        subscription = await broker.subscribe(subject, take, queue=subject, durable=Durable())
        await subscription.close()  # nobody takes them
        async with policy(server, subject, f"^{subject}$", "queues", '{"max-length": 3}'):
            numbers = iter(range(1000))
            async with asyncio.timeout(20):
                while await publish(broker, next(numbers)):
                    await asyncio.sleep(0.01)
            await broker.subscribe(subject, take, queue=subject, durable=Durable())
            await until(lambda: len(got) == len(stored))
        async with asyncio.timeout(20):
            while not await publish(broker, next(numbers)):
                await asyncio.sleep(0.01)
        await until(lambda: len(got) == len(stored))
    assert got == stored
    await deleted_with(slow_url, {subject: 0})


@pytest.mark.timeout_seconds(60)
async def test_an_alternate_exchange_that_a_policy_adds_at_work_gets_what_no_queue_takes(
    server: RabbitServer, slow_url: str, subject: str, until: Until
) -> None:
    got, strays = list[bytes](), list[bytes]()

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.try_ack()

    async def stray(message: Any) -> None:
        strays.append(message.body)

    settings = f"{slow_url}&exchange={subject}.x&look_every=0.1&mandatory=true"
    async with raw_channel(slow_url) as channel, RabbitBroker(settings) as broker:
        await broker.subscribe(subject, take, queue=subject, durable=Durable())
        await channel.exchange_declare(f"{subject}.strays", exchange_type="fanout")
        queue = (await channel.queue_declare("", exclusive=True)).queue or ""
        await channel.queue_bind(queue, f"{subject}.strays")
        await channel.basic_consume(queue, stray, no_ack=True)
        with pytest.raises(NotStored, match="no queue takes it"):
            await broker.publish(Message(f"{subject}.nobody", b"1"))
        definition = f'{{"alternate-exchange": "{subject}.strays"}}'
        async with policy(server, subject, f"^{subject}.x$", "exchanges", definition):
            await broker.publish(Message(f"{subject}.nobody", b"2"))
            await broker.publish(Message(subject, b"3"))
            await until(lambda: strays and got)
        with pytest.raises(NotStored, match="no queue takes it"):
            await broker.publish(Message(f"{subject}.nobody", b"4"))
        await broker.publish(Message(subject, b"5"))
        await until(lambda: len(got) == 2)
        for name in (f"{subject}.x", f"{subject}.x.dead", f"{subject}.strays"):
            await channel.exchange_delete(name)
    assert (strays, got) == ([b"2"], [b"3", b"5"])
    await deleted_with(slow_url, {subject: 0})
