"""RabbitMQ: what is delivered again, in which order, and what is lost when connections are."""

from __future__ import annotations

import asyncio
import logging
import signal
import struct
import sys
from collections import Counter
from collections.abc import Awaitable
from urllib.parse import urlsplit

import pytest
from eventmicro_rabbitmq import RabbitBroker, retry
from eventmicro_rabbitmq.consuming import durable
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, for_retry

from eventmicro.broker import Durable
from eventmicro.errors import (
    Disconnected,
    NotStored,
    Unconfirmed,
)
from eventmicro.message import Delivery, Message
from tests.integration.rabbitmq.kit import Properties, Until, publish_raw, raw_channel
from tests.servers import FaultProxy


def through(proxy: FaultProxy, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}")


async def publish_until_stored(broker: RabbitBroker, message: Message, again: list[bytes]) -> None:
    while True:
        try:
            return await broker.publish(message, timeout=5)
        except (Disconnected, Unconfirmed, NotStored):
            again.append(message.body)
            await asyncio.sleep(0.01)


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
from eventmicro_rabbitmq import RabbitBroker
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
        refused: Exception | None = None
        while not isinstance(refused, Disconnected):  # once the connection that publishes has missed a heartbeat, too
            with pytest.raises((Disconnected, Unconfirmed)) as told:
                await broker.publish(Message(subject), timeout=0.2)
            refused = told.value
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
            for _ in range(42):  # more together than a connection may have at the same time
                await asyncio.gather(*(broker.flush() for _ in range(50)))
