"""The Kafka adapter against real servers: their death, hanging, groups in motion, retries, limits, TLS and logins."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from aiokafka.producer.sender import Sender
from eventmicro_kafka import KafkaBroker, batches, driver, ending, member, subscription
from eventmicro_kafka.batches import PART, Batches
from eventmicro_kafka.live import Broadcast, Shared
from eventmicro_kafka.member import Member
from eventmicro_kafka.partitions import partition_of
from eventmicro_kafka.records import to_record
from eventmicro_kafka.subscription import KafkaSubscription

from eventmicro.broker import Durable
from eventmicro.errors import (
    ConnectionFailed,
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    TransportError,
    Unconfirmed,
    Unsupported,
    UsageError,
)
from eventmicro.message import Delivery, Message
from tests.certificates import Certificates, make_certificates
from tests.conftest import open_transports
from tests.integration.kafka_workers import Worker, hear_of_partitions, numbered, workers
from tests.servers import FaultProxy, KafkaServer

Until = Callable[[Callable[[], object]], Awaitable[None]]


async def publish_all(broker: KafkaBroker, subject: str, bodies: list[bytes], *, tasks: int = 32) -> int:
    """Publish each until it is accepted, some at the same time; how many were published more than once."""
    waiting, again = iter(bodies), 0

    async def publish() -> None:
        nonlocal again
        for body in waiting:
            while True:
                try:
                    await broker.publish(Message(subject, body, key=body.decode()), timeout=15)
                    break
                except (Disconnected, Unconfirmed):
                    again += 1
            await asyncio.sleep(0.002)

    await asyncio.gather(*(publish() for _ in range(tasks)))
    return again


# -- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(90)
async def test_a_broker_killed_under_load_loses_nothing(
    subject: str, record_property: Callable[[str, object], None], until: Until
) -> None:
    with KafkaServer() as server:
        worker, publisher = Worker(server.url, subject), KafkaBroker(server.url)
        async with workers(worker), publisher:
            await worker.start()
            sent = numbered(8000)
            publishing = asyncio.ensure_future(publish_all(publisher, subject, sent))
            await until(lambda: len(worker.deliveries) > 1500)
            server.kill()
            await asyncio.to_thread(server.start)
            again = await publishing
            async with asyncio.timeout(30):
                while set(worker.bodies) != set(sent):
                    await asyncio.sleep(0.02)
            record_property("duplicates", len(worker.bodies) - len(sent))
            record_property("published again", again)


@pytest.mark.timeout_seconds(90)
async def test_a_broker_that_hangs_for_ten_seconds_loses_nothing(
    subject: str, record_property: Callable[[str, object], None], until: Until
) -> None:
    with KafkaServer() as server:
        worker, publisher = Worker(server.url, subject), KafkaBroker(server.url)
        async with workers(worker), publisher:
            await worker.start()
            sent = numbered(4000)
            publishing = asyncio.ensure_future(publish_all(publisher, subject, sent))
            await until(lambda: len(worker.deliveries) > 500)
            server.pause()
            await until(lambda: not publisher.online)
            with pytest.raises((Disconnected, Unconfirmed)):
                await publisher.publish(Message(subject, b"late"), timeout=0.2)
            await asyncio.sleep(7)
            server.resume()
            again = await publishing
            async with asyncio.timeout(30):
                while not set(sent) <= set(worker.bodies):
                    await asyncio.sleep(0.02)
            record_property("duplicates", len(worker.bodies) - len(sent))
            record_property("published again", again)


@pytest.mark.timeout_seconds(90)
async def test_a_connection_that_is_cut_comes_back(subject: str, until: Until) -> None:
    server = KafkaServer()
    async with FaultProxy(server.port) as proxy:
        server.addresses["PLAINTEXT"] = f"127.0.0.1:{proxy.port}"
        with server:
            url = f"kafka://127.0.0.1:{proxy.port}"
            worker, publisher = Worker(url, subject), KafkaBroker(url)
            async with workers(worker), publisher:
                await worker.start()
                sent = numbered(3000)
                publishing = asyncio.ensure_future(publish_all(publisher, subject, sent))
                await until(lambda: len(worker.deliveries) > 300)
                await proxy.stop()
                await until(lambda: not publisher.online and not worker.broker.online)
                await asyncio.sleep(2)
                await proxy.start()
                await publishing
                async with asyncio.timeout(30):
                    while not set(sent) <= set(worker.bodies):
                        await asyncio.sleep(0.02)
                assert publisher.online


async def test_a_broker_with_nothing_to_do_is_sent_the_first_of_many_at_once(kafka_url: str, subject: str) -> None:
    """It works on them while the others are put together."""
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish_many([Message(subject, body) for body in numbered(2 * PART)])
    parts: dict[int, list[bytes]] = {}
    async for record in records_of(kafka_url, subject):
        parts.setdefault(record.partition, []).append(record.value)
    assert sorted(parts.values()) == [numbered(2 * PART)[:PART], numbered(2 * PART)[PART:]]


async def test_many_are_put_together_while_a_broker_has_the_first_of_them(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, sent, all_put = 0, [], asyncio.Event()
    send = AIOKafkaConnection.send

    def count(message: Message, limit: int) -> object:
        nonlocal put
        put += 1
        if put == 4 * PART:
            all_put.set()
        return to_record(message, limit)

    async def hold(answer: Awaitable[object]) -> object:
        await all_put.wait()
        return await answer

    def note(self: Any, request: object, *what: Any, **more: Any) -> object:
        answer = send(self, request, *what, **more)
        if "Produce" not in type(request).__name__ or not put:
            return answer
        sent.append(put)
        return asyncio.ensure_future(hold(answer))

    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject))
        monkeypatch.setattr(AIOKafkaConnection, "send", note)
        monkeypatch.setattr(batches, "to_record", count)
        await broker.publish_many([Message(subject, body) for body in numbered(4 * PART)])
    assert sent == [PART, 4 * PART]


async def test_many_of_one_key_stay_in_order_though_their_producer_dies_in_between(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = False

    async def send_and_die(self: Batches) -> None:
        nonlocal died
        inner = self._producer.inner
        for batch in list(self._open.values()):
            await self._send(batch)
        if not died:
            died = True
            inner._message_accumulator.fail_all(errors.ProducerClosed())
            self._producer.retire(inner)
            await self._producer.ready(subject)

    monkeypatch.setattr(Batches, "_occupy", send_and_die)
    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        await broker.publish_many([Message(subject, body, key="k") for body in numbered(3 * PART + 7)])
    assert died
    assert await read_topic(kafka_url, subject) == numbered(3 * PART + 7)


async def test_a_partition_without_a_leader_holds_up_no_other(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = ClusterMetadata.leader_for_partition
    sent = [Message(subject, key=f"k{number}") for number in range(6 * PART)]
    without = [number for number, message in enumerate(sent) if partition_of((message.key or "").encode(), 3) == 1]
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject))
        monkeypatch.setattr(
            ClusterMetadata, "leader_for_partition", lambda self, place: -1 if place[1] == 1 else leader(self, place)
        )
        with pytest.raises(NotAllPublished) as raised:
            await broker.publish_many(sent, timeout=1)
        monkeypatch.undo()
    assert sorted(raised.value.failed) == without


async def test_many_batches_wait_for_a_broker_that_hangs_for_longer_than_a_request_may_take(
    subject: str, until: Until
) -> None:
    with KafkaServer() as server:
        url = f"{server.url}?partitions=1&batch_bytes=1000&request_timeout=0.5&ping_interval=1"
        async with KafkaBroker(url) as broker:
            await broker.publish(Message(subject, b"first"))
            server.pause()
            publishing = asyncio.ensure_future(
                broker.publish_many([Message(subject, body) for body in numbered(1000)], timeout=30)
            )
            await until(lambda: not broker.online)
            server.resume()
            await publishing
        assert (await read_topic(server.url, subject))[1:] == numbered(1000)


async def test_a_connection_on_which_nothing_comes_any_more_is_made_anew(kafka_url: str, until: Until) -> None:
    """As where a firewall has forgotten it: it is not closed, and stays silent though the broker is there."""
    async with KafkaBroker(f"{kafka_url}?ping_interval=0.2&request_timeout=0.5") as broker:
        await broker.flush()
        (silent,) = broker._connection.link._client._conns.values()  # type: ignore[union-attr]
        silent._writer.transport.pause_reading()
        await until(lambda: not broker.online)
        await until(lambda: broker.online)
        assert not silent.connected()


@pytest.mark.parametrize("kind", [Member, Broadcast])
async def test_a_consumer_is_made_anew_whatever_fails_at_that(
    kind: Any, kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    got: list[Delivery] = []
    name = "open" if kind is Member else "_start"
    opening, failed = getattr(kind, name), asyncio.Event()

    async def fail_first(self: object) -> None:
        if not failed.is_set():
            failed.set()
            raise AssertionError("as aiokafka's own")
        await opening(self)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(kind, name, fail_first)
        raise AssertionError("as aiokafka's own")

    async with KafkaBroker(kafka_url) as broker:
        durable = Durable() if kind is Member else None
        await broker.subscribe(subject, got.append, queue="q" + subject if durable else None, durable=durable)
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", fail)
        await failed.wait()
        await broker.publish(Message(subject, b"one"))
        await until(lambda: got)


async def test_events_whose_handing_over_fails_are_read_again(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    read, headers_read = subscription.delivery_headers, 0

    def fail_at_third(headers: Any) -> dict[str, str] | None:
        nonlocal headers_read
        headers_read += 1
        if headers_read == 3:
            raise AssertionError("which never should")
        return read(headers)

    worker = Worker(f"{kafka_url}?partitions=1", subject)
    async with workers(worker):
        await worker.start()
        monkeypatch.setattr(subscription, "delivery_headers", fail_at_third)
        await worker.broker.publish_many([Message(subject, body, {"A": "a"}) for body in numbered(5)])
        await until(lambda: len(worker.deliveries) == 5)
        assert worker.bodies == numbered(5), "those before it lapsed before they were handled"
        assert worker.subscription.held == 0
    assert caplog.text.count("AssertionError: which never should") == 1


async def test_a_live_subscription_drains_while_its_consumer_is_made_anew(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    async with KafkaBroker(kafka_url) as broker:
        subscription = await broker.subscribe(subject, lambda _: None)
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", None)
        await until(lambda: subscription._consumer is None)
        await subscription.drain()
        assert subscription.closed


async def test_a_consumer_that_is_ended_at_whatever_moment_leaves_no_task_behind(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await (await broker.subscribe(subject, lambda _: None)).close()
        places = [TopicPartition(subject, 0)]
        for moment, cancelled in product(range(8), (1, 2, 3, 5, 8)):
            before = asyncio.all_tasks()
            consumer = driver.make_consumer(broker.settings, None)
            await consumer.start()
            consumer.assign(places)
            await consumer.end_offsets(places)
            consumer.assign(places)  # its fetcher lets go of what it did for the first
            consumer.seek(places[0], 0)
            await turns(moment)
            stopping = asyncio.create_task(ending.stop_consumer(consumer))
            await turns(cancelled)
            stopping.cancel()
            await asyncio.wait([stopping])
            await turns(10)
            assert asyncio.all_tasks() <= before


async def test_a_producer_that_fails_while_it_is_ended_is_not_reported_by_the_loop(
    kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_at_the_end(sender: Sender) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise errors.KafkaError("too late") from None

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    monkeypatch.setattr(Sender, "_sender_routine", fail_at_the_end)
    producer = driver.make_producer(KafkaBroker(kafka_url).settings)
    await producer.start()
    await asyncio.sleep(0)
    await ending.stop_producer(producer, 0)
    await turns(10)
    assert not reported


async def turns(count: int) -> None:
    """Let the event loop run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_subscription_that_is_made_while_its_broker_closes_is_closed_with_it(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, durable in ((KafkaSubscription, Durable()), (Shared, None), (Broadcast, None)):
        opening = kind.open

        async def open_and_close(subscription: Any, opening: Any = opening) -> None:
            await opening(subscription)
            await broker.close()

        monkeypatch.setattr(kind, "open", open_and_close)
        async with KafkaBroker(kafka_url) as broker:
            with pytest.raises(Disconnected):
                await broker.subscribe(
                    subject, lambda _: None, queue=None if kind is Broadcast else "q" + subject, durable=durable
                )
    # the runner of the tests sees that no task is left


async def test_a_flush_that_a_close_overtakes_says_so(kafka_url: str) -> None:
    broker = KafkaBroker(kafka_url)
    await broker.connect()
    flushing = asyncio.create_task(broker.flush())
    await asyncio.sleep(0)
    await broker.close()
    with pytest.raises(Disconnected):
        await flushing


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_close_is_bounded_whatever_the_broker_does(subject: str, fault: str) -> None:
    with KafkaServer() as server:
        worker, publisher, live = Worker(server.url, subject, hold=True), KafkaBroker(server.url), []
        await worker.start()
        await publisher.connect()
        await publisher.subscribe(subject, live.append)
        await publisher.publish_many([Message(subject, body) for body in numbered(50)])
        server.kill() if fault == "kill" else server.pause()
        publishing = asyncio.ensure_future(publisher.publish(Message(subject, b"late"), timeout=60))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            await asyncio.gather(worker.broker.close(), worker.broker.close(), publisher.close(), publisher.close())
        with pytest.raises(TransportError):
            await publishing
        for delivery in worker.deliveries:
            await delivery.ack()
        await worker.broker.close()


async def test_a_close_that_is_cancelled_leaves_nothing(kafka_url: str, subject: str) -> None:
    broker = KafkaBroker(kafka_url)
    await broker.connect()
    await broker.publish(Message(subject, b"one"))
    await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=Durable())
    await broker.subscribe(subject, lambda _: None, queue="q" + subject)
    await broker.subscribe(subject, lambda _: None)
    closing = asyncio.create_task(broker.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    # the runner of the tests sees that no task is left


@pytest.mark.parametrize("error", [errors.RequestTimedOutError, AssertionError])
async def test_a_commit_that_failed_is_said_again_though_nothing_comes_any_more(
    error: type[Exception], kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    commit, tried = member.commit, []

    async def fail_first(*what: object) -> None:
        tried.append("")
        if len(tried) == 1:
            raise error
        await commit(*what)
        tried[-1] = "done"

    worker = Worker(kafka_url, subject)
    async with workers(worker):
        await worker.start()
        monkeypatch.setattr(member, "commit", fail_first)
        await worker.broker.publish(Message(subject, b"one"))
        await until(lambda: tried == ["", "done"])


async def test_commits_go_on_where_the_broker_takes_little_beside_them(subject: str, until: Until) -> None:
    with KafkaServer({"offset.metadata.max.bytes": 20}) as server:
        worker = Worker(f"{server.url}?partitions=1", subject, hold=True)
        async with workers(worker):
            await worker.start()
            await worker.broker.publish_many([Message(subject, body) for body in numbered(50)])
            await until(lambda: len(worker.deliveries) == 50)
            for number in (*range(20), *range(20, 50, 2)):
                await worker.deliveries[number].ack()
            lane = worker.subscription.lanes[TopicPartition(subject, 0)]
            await until(lambda: lane.committed == (21, ""))


async def test_a_close_does_not_cut_off_the_commit_of_a_drain(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    commit, begun = member.commit, asyncio.Event()

    async def slowly(*what: object) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        await commit(*what)

    worker, successor = Worker(kafka_url, subject, hold=True), Worker(kafka_url, subject)
    async with workers(worker, successor):
        await worker.start()
        await worker.broker.publish(Message(subject, b"one", key="key"))
        await until(lambda: worker.deliveries)
        monkeypatch.setattr(member, "commit", slowly)
        await worker.subscription.drain()
        await worker.deliveries[0].ack()
        await begun.wait()
        await worker.close()
        await successor.start()
        await successor.broker.publish(Message(subject, b"two", key="key"))
        await until(lambda: successor.deliveries)
        assert successor.bodies == [b"two"]


async def test_nothing_is_committed_under_a_membership_that_has_no_share_yet(
    kafka_url: str, subject: str, until: Until
) -> None:
    """The group has moved on, and its new share has not come: what is committed then is in another's place."""
    worker = Worker(kafka_url, subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"one"))
        await until(lambda: worker.deliveries)
        group = worker.subscription._member
        coordinator = group._consumer._coordinator
        generation = coordinator.generation
        coordinator.generation += 1
        await worker.deliveries[0].ack()
        assert not await group.commit()
        assert coordinator.generation == generation + 1, "the broker was not asked, which would have refused it"
        coordinator.generation = generation
        assert await group.commit()


async def test_a_shared_subscription_drains_though_the_broker_is_away(subject: str, until: Until) -> None:
    with KafkaServer() as server:
        async with KafkaBroker(f"{server.url}?partitions=3") as broker:
            rooms, got = [asyncio.Event(), asyncio.Event(), asyncio.Event()], []
            parts: list[list[Message]] = [[], [], []]
            for body in numbered(100):
                parts[partition_of(body, 3)].append(Message(subject, body, key=body.decode()))

            def receive(delivery: Delivery) -> asyncio.Future[bool]:
                got.append(delivery)
                return asyncio.ensure_future(rooms[partition_of(delivery.body, 3)].wait())

            subscription = await broker.subscribe(subject, receive, queue="q")
            fetched = subscription._member._consumer._fetcher._records
            await broker.publish_many(parts[0])
            await until(lambda: got)
            await broker.publish_many(parts[1] + parts[2])
            await until(lambda: len(fetched) == 2)
            rooms[0].set()
            await until(lambda: subscription._taken)  # the one, while the other is being handed over
            server.kill()
            rooms[1].set()
            rooms[2].set()
            await subscription.drain()


async def test_a_live_subscription_drains_behind_the_end_of_a_transaction(
    kafka_url: str, subject: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    got: list[Delivery] = []
    async with KafkaBroker(kafka_url) as broker:
        subscription = await broker.subscribe(subject, got.append)
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka_url.removeprefix("kafka://"), transactional_id=subject, enable_idempotence=True
        )
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(subject, b"one", partition=0)
        await producer.stop()
        await until(lambda: got)
        await subscription.drain()
    assert "left before all was read" not in caplog.text


# -- groups in motion ------------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(60)
async def test_a_group_that_grows_and_shrinks_at_work_loses_nothing(
    kafka_url: str, subject: str, record_property: Callable[[str, object], None]
) -> None:
    """One member, then three; one leaves in order, one is closed in the middle of its work."""
    url = f"{kafka_url}?partitions=6"
    members = [Worker(url, subject, work=0.002) for _ in range(3)]
    async with workers(*members), KafkaBroker(url) as publisher:
        await members[0].start()
        sent = numbered(3000)
        await publisher.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await asyncio.sleep(0.5)
        await members[1].start()
        await members[2].start()
        await asyncio.sleep(0.5)
        await members[1].subscription.drain()
        await asyncio.sleep(0.2)
        await members[2].broker.close()
        async with asyncio.timeout(40):
            while {body for member in members for body in member.bodies} != set(sent):
                await asyncio.sleep(0.02)
        assert all(member.deliveries for member in members)
        record_property("duplicates", sum(len(member.bodies) for member in members) - len(sent))


MEMBER = """
import asyncio, sys
from eventmicro_kafka import KafkaBroker
from eventmicro.broker import Durable

async def main():
    broker = KafkaBroker(sys.argv[1])
    await broker.connect()

    async def work(delivery):
        await asyncio.sleep(0.001)
        print(delivery.body.decode(), flush=True)
        await delivery.ack()

    await broker.subscribe(sys.argv[2], lambda d: work(d), queue=sys.argv[3], durable=Durable())
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.timeout_seconds(60)
async def test_what_a_member_had_that_is_killed_is_taken_over(
    kafka_url: str, subject: str, record_property: Callable[[str, object], None]
) -> None:
    url = f"{kafka_url}?session_timeout=2"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, url, subject, f"{subject}.q", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    other = Worker(url, subject)
    async with workers(other), KafkaBroker(url) as publisher:
        sent = numbered(2000)
        await publisher.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        first = [(await process.stdout.readline()).strip() for _ in range(700)]
        os.kill(process.pid, signal.SIGKILL)
        first += (await process.stdout.read()).split()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
        await other.start()
        async with asyncio.timeout(40):
            while {*first, *other.bodies} != set(sent):
                await asyncio.sleep(0.02)
        duplicates = len(first) + len(other.bodies) - len(sent)
        record_property("duplicates", duplicates)
        assert duplicates < len(first)  # it had committed behind its work


async def test_a_member_that_dies_before_its_first_commit_keeps_the_place_of_its_queue(
    kafka_url: str, subject: str
) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"before"))
        subscription = await broker.subscribe(subject, lambda _: None, queue=f"{subject}.q", durable=Durable())
        await ending._abandon(subscription._member._consumer._client, list)  # type: ignore[union-attr]  as if it had died
        async with KafkaBroker(kafka_url) as publisher:
            await publisher.publish(Message(subject, b"after"))
    worker = Worker(kafka_url, subject)
    async with workers(worker):
        await worker.start()
        async with asyncio.timeout(20):
            while not worker.deliveries:
                await asyncio.sleep(0.01)
        assert worker.bodies == [b"after"]


async def test_commits_that_fail_do_no_harm(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    commit, failed = member.commit, 0

    async def fail_often(*what: object) -> None:
        nonlocal failed
        failed += 1
        if failed % 3:
            raise member.NOT_A_MEMBER[failed % 3]
        await commit(*what)

    monkeypatch.setattr(member, "commit", fail_often)
    worker = Worker(kafka_url, subject, work=0.002)
    async with workers(worker), KafkaBroker(kafka_url) as publisher:
        await worker.start()
        sent = numbered(500)
        await publisher.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(worker.deliveries) == 500)
        await until(lambda: failed > 3)
    await worker.close()
    assert sorted(worker.bodies) == sorted(sent)


async def test_only_what_was_not_settled_comes_again_though_later_ones_were(
    kafka_url: str, subject: str, until: Until
) -> None:
    url = f"{kafka_url}?partitions=1"
    first, second = Worker(url, subject, hold=True), Worker(url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        await first.broker.publish_many([Message(subject, body) for body in numbered(100)])
        await until(lambda: len(first.deliveries) == 100)
        for number, delivery in enumerate(first.deliveries):
            if number not in (0, 17, 50):
                await delivery.ack()
        await first.broker.close()
        await second.start()
        await until(lambda: len(second.deliveries) >= 3)
        await second.broker.publish(Message(subject, b"next"))
        await until(lambda: b"next" in second.bodies)
        assert second.bodies == [b"0", b"17", b"50", b"next"]
        assert [d.id for d in second.deliveries[:3]] == [first.deliveries[number].id for number in (0, 17, 50)]


async def test_where_a_topic_has_one_partition_events_without_a_key_have_their_order(
    kafka_url: str, subject: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?partitions=1", subject)
    async with workers(worker):
        await worker.start(durable=Durable(ordered=True))
        await worker.broker.publish(Message(subject, b"x"))
        await until(lambda: worker.deliveries)
    assert "has no key" not in caplog.text


async def test_events_that_move_to_another_member_are_lapsed_here(kafka_url: str, subject: str, until: Until) -> None:
    url = f"{kafka_url}?rebalance_wait=0.1"
    first, second = Worker(url, subject, hold=True), Worker(url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        sent = numbered(60)
        await first.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(first.deliveries) == 60)
        await second.start()
        await until(lambda: any(delivery.lapsed for delivery in first.deliveries))
        lapsed = [delivery for delivery in first.deliveries if delivery.lapsed]
        kept = [delivery for delivery in first.deliveries if not delivery.lapsed]
        await until(lambda: len(second.deliveries) == len(lapsed))
        assert sorted(second.bodies) == sorted(delivery.body for delivery in lapsed)
        assert kept, "what stayed with the first member was handed over again"
        for delivery in first.deliveries + second.deliveries:
            await delivery.ack()


async def test_what_is_finished_when_partitions_move_is_committed_before_and_does_not_come_again(
    kafka_url: str, subject: str, until: Until
) -> None:
    url = f"{kafka_url}?partitions=2&commit_interval=60"
    first, second = Worker(url, subject), Worker(url, subject)
    async with workers(first, second):
        await first.start()
        sent = numbered(20)
        await first.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(first.deliveries) == 20)
        await second.start()
        await until(lambda: any(place.topic == subject for place in second.subscription.lanes))
        later = {b"later " + body for body in sent}
        await first.broker.publish_many([Message(subject, body, key=body.decode()[6:]) for body in later])
        await until(lambda: later <= {*first.bodies, *second.bodies})
        assert second.deliveries
        assert set(second.bodies) <= later


async def test_what_is_handled_when_a_subscription_drains_is_finished_and_does_not_come_again(
    kafka_url: str, subject: str, until: Until
) -> None:
    first, second = Worker(kafka_url, subject, hold=True), Worker(kafka_url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        sent = numbered(40)
        await first.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(first.deliveries) == 40)
        await first.subscription.drain()
        joining = asyncio.ensure_future(second.start())
        await asyncio.sleep(0.2)
        for delivery in first.deliveries:
            await delivery.ack()
        await joining
        await first.broker.publish(Message(subject, b"next"))
        await until(lambda: b"next" in second.bodies)
        assert second.bodies == [b"next"]


async def test_partitions_that_are_added_are_read_from_their_beginning(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "METADATA_AGE", 0.2)
    url, live = f"{kafka_url}?partitions=1", []
    worker = Worker(url, subject)
    async with workers(worker):
        await worker.start()
        await worker.broker.subscribe(subject, live.append)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await admin.start()
        await admin.create_partitions({subject: NewPartitions(4)})
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await producer.start()
        await hear_of_partitions(producer, subject, 4)
        for partition in range(4):
            await producer.send_and_wait(subject, b"%d" % partition, partition=partition)
        await producer.stop()
        async with asyncio.timeout(20):
            while len(worker.deliveries) < 4 or len(live) < 4:
                await asyncio.sleep(0.01)
        assert sorted(worker.bodies) == sorted(d.body for d in live) == numbered(4)


async def test_a_new_queue_begins_at_the_end_of_partitions_that_were_added_before(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        await broker.publish(Message(subject, b"the topic is known"))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await admin.start()
        await admin.create_partitions({subject: NewPartitions(2)})
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await producer.start()
        await hear_of_partitions(producer, subject, 2)
        await producer.send_and_wait(subject, b"old", partition=1)
        await producer.stop()
        subscription = await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=Durable())
        assert subscription.lanes[TopicPartition(subject, 1)].next == 1


async def test_a_session_that_the_broker_does_not_allow_is_refused(subject: str) -> None:
    with KafkaServer({"group.min.session.timeout.ms": 6000}) as server:
        async with KafkaBroker(f"{server.url}?session_timeout=2") as broker:
            with pytest.raises(UsageError, match="session_timeout"):
                await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())


async def test_subscribing_waits_for_nobody_where_the_place_of_the_queue_is_fixed(subject: str, until: Until) -> None:
    with KafkaServer({"group.initial.rebalance.delay.ms": 5000}) as server:
        worker = Worker(server.url, subject)
        async with workers(worker):
            async with asyncio.timeout(4):
                await worker.start()
            await worker.broker.publish(Message(subject, b"x"))
            await until(lambda: worker.bodies == [b"x"])


# -- retries ---------------------------------------------------------------------------------------------------


async def test_a_nacked_event_waits_in_the_retry_topic_and_comes_again_as_it_was(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(kafka_url, subject, hold=True)
    async with workers(worker):
        await worker.start("workers")
        await worker.broker.publish(Message(subject, b"body", {"A": "ä"}, key="k"))
        await until(lambda: worker.deliveries)
        began = time.monotonic()
        await worker.deliveries[0].nack(0.5)
        await worker.deliveries[0].ack()  # the first settlement counts
        await until(lambda: len(worker.deliveries) == 2)
        assert time.monotonic() - began > 0.4
        first, second = worker.deliveries
        assert (second.subject, second.body, second.headers) == (subject, b"body", {"A": "ä"})
        assert (second.id, second.attempt) == (first.id, 2)
        await second.nack(0.1)
        await until(lambda: len(worker.deliveries) == 3)
        assert (worker.deliveries[2].id, worker.deliveries[2].attempt) == (first.id, 3)
        await worker.deliveries[2].ack()
    assert len(await read_topic(kafka_url, f"workers.{subject}.retry")) == 2


async def test_attempts_are_known_after_a_restart(kafka_url: str, subject: str, until: Until) -> None:
    for ordered, delay in ((True, 0.0), (False, 0.0), (False, 0.2)):
        name = f"{subject}-{ordered}-{delay}"
        first, second = Worker(kafka_url, name, hold=True), Worker(kafka_url, name, hold=True)
        async with workers(first, second):
            await first.start(durable=Durable(ordered=ordered))
            await first.broker.publish(Message(name, b"x"))
            for attempt in (1, 2, 3):
                await until(lambda: len(first.deliveries) == attempt)  # noqa: B023
                assert first.deliveries[-1].attempt == attempt
                if attempt < 3:
                    await first.deliveries[-1].nack(delay)
            await first.broker.close()
            await second.start(durable=Durable(ordered=ordered))
            await until(lambda: second.deliveries)  # noqa: B023
            assert second.deliveries[0].attempt == 3


async def test_more_events_than_may_wait_on_this_side_come_again_all_the_same(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?retry_messages=10", subject, hold=True)
    async with workers(worker):
        await worker.start(durable=Durable(prefetch=500))
        sent = numbered(200)
        await worker.broker.publish_many([Message(subject, body, key=body.decode()) for body in sent])
        await until(lambda: len(worker.deliveries) == 200)
        for delivery in worker.deliveries:
            await delivery.nack(0.3)
        await until(lambda: len(worker.deliveries) == 400)
        again = worker.deliveries[200:]
        assert Counter(d.body for d in again) == Counter(sent)
        assert all(delivery.attempt == 2 for delivery in again)


async def test_an_event_that_is_too_large_for_the_retry_topic_waits_here(
    kafka_url: str, subject: str, until: Until
) -> None:
    worker = Worker(f"{kafka_url}?max_message=2000", subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"x" * 1900))
        await until(lambda: worker.deliveries)
        await worker.deliveries[0].nack(0.1)
        await until(lambda: len(worker.deliveries) == 2)
        assert worker.deliveries[1].attempt == 2


async def test_no_more_wait_here_than_may_where_the_retry_topic_takes_none(
    kafka_url: str, subject: str, until: Until
) -> None:
    handed: list[asyncio.Future[None]] = []
    settings = "max_message=2000&retry_messages=10"
    async with KafkaBroker(f"{kafka_url}?{settings}") as broker, KafkaBroker(kafka_url) as publisher:

        def give_back(delivery: Delivery) -> None:
            handed.append(asyncio.ensure_future(delivery.nack(60.0)))

        await broker.subscribe(subject, give_back, queue="q" + subject, durable=Durable(prefetch=5))
        await publisher.publish_many([Message(subject, bytes(2000)) for _ in range(100)])
        await until(lambda: len(handed) >= 15)
        await asyncio.sleep(0.5)
        assert len(handed) < 25, "retry_messages, what is held, and those of the batch that fills it"


async def test_a_nack_before_the_close_keeps_its_delay_and_its_count(
    kafka_url: str, subject: str, until: Until
) -> None:
    first, second = Worker(kafka_url, subject, hold=True), Worker(kafka_url, subject, hold=True)
    async with workers(first, second):
        await first.start()
        await first.broker.publish_many([Message(subject, body) for body in numbered(20)])
        await until(lambda: len(first.deliveries) == 20)
        for delivery in first.deliveries:
            await delivery.nack(0.2)
        await first.close()
        await second.start()
        await until(lambda: len(second.deliveries) == 20)
        assert {delivery.attempt for delivery in second.deliveries} == {2}


async def test_a_drain_that_is_overtaken_by_a_close_leaves_nothing(kafka_url: str, subject: str, until: Until) -> None:
    worker = Worker(kafka_url, subject, hold=True)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"one"))
        await until(lambda: worker.deliveries)
        worker.subscription.held += 1  # as one whose copy is on its way and is not stored any more
        draining = asyncio.create_task(worker.subscription.drain())
        await asyncio.sleep(0)
        await worker.broker.close()
        await draining
    # the runner of the tests sees that no task is left


async def test_one_queue_may_take_events_of_two_subjects(kafka_url: str, subject: str, until: Until) -> None:
    one, two = Worker(kafka_url, f"{subject}.one", hold=True), Worker(kafka_url, f"{subject}.two", hold=True)
    async with workers(one, two):
        await asyncio.gather(one.start("workers" + subject), two.start("workers" + subject))
        for worker in (one, two):
            await worker.broker.publish(Message(worker.subject, worker.subject.encode()))
        for attempt in (1, 2):
            for worker in (one, two):
                await until(lambda: len(worker.deliveries) == attempt)  # noqa: B023
                await worker.deliveries[-1].nack(0.1)
        for worker in (one, two):
            assert {delivery.body.decode() for delivery in worker.deliveries} == {worker.subject}


# -- topics and limits -----------------------------------------------------------------------------------------


async def test_a_topic_is_made_as_the_settings_say(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=5&replication=1") as broker:
        await broker.publish(Message(subject, b"x"))
        assert await broker._connection.topics.partitions(subject) == 5  # type: ignore[union-attr]


async def test_a_topic_that_cannot_be_made_is_refused_by_name(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?replication=3") as broker:
        with pytest.raises(UsageError, match=subject):
            await broker.publish(Message(subject, b"x"))


async def test_nothing_is_made_where_it_is_only_to_be_checked(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?declare=check") as broker:
        with pytest.raises(UsageError, match=f"no topic '{subject}'"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(NotAllPublished, match=subject):
            await broker.publish_many([Message(subject, b"x")])
        with pytest.raises(UsageError, match=f"no topic '{subject}'"):
            await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())
        await make_topic(kafka_url, subject)
        with pytest.raises(UsageError, match=f"no topic 'q.{subject}.retry'"):
            await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())
        subscription = await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable(ordered=True))
        assert not subscription.ended
        await broker.publish(Message(subject, b"x"))


async def test_nothing_is_looked_at_where_all_is_to_be_left_alone(subject: str) -> None:
    with KafkaServer({"auto.create.topics.enable": "false"}) as server:
        async with KafkaBroker(f"{server.url}?declare=false") as broker:
            with pytest.raises(NotStored, match=subject):
                await broker.publish(Message(subject, b"x"))
            with pytest.raises(UsageError, match=subject):
                await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable())
            await make_topic(server.url, subject)
            await broker.publish(Message(subject, b"x"))


async def test_a_topic_that_was_deleted_is_made_again(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"x"))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
        await admin.start()
        await admin.delete_topics([subject])
        await admin.close()
        await broker._connection.publisher._producer.inner.client.force_metadata_update()  # type: ignore[union-attr]
        await broker.publish(Message(subject, b"y"))


@pytest.mark.parametrize("subject", ["", "a b", "ä", "a/b", "..", "x" * 250])
async def test_what_is_no_name_of_a_topic_is_refused(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        with pytest.raises(UsageError, match="topic"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(UsageError, match="topic"):
            await broker.subscribe(subject, lambda _: None)


async def test_what_kafka_cannot_do_is_refused_with_what_can(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        with pytest.raises(Unsupported, match="nats://"):
            await broker.send(Message(subject))
        with pytest.raises(Unsupported, match="nats://"):
            broker.inbox()
        with pytest.raises(Unsupported, match="nats://"):
            await broker.publish(Message(subject, reply="r"))
        with pytest.raises(Unsupported, match="nats://"):
            await broker.subscribe("a.*", lambda _: None)
        with pytest.raises(Unsupported, match="jetstream://"):
            await broker.subscribe(subject, lambda _: None, queue="q", durable=Durable(dedupe=1.0))


async def test_a_message_over_the_topics_own_limit_fails_alone(kafka_url: str, subject: str) -> None:
    await make_topic(kafka_url, subject, {"max.message.bytes": "1000"})
    async with KafkaBroker(kafka_url) as broker:
        for _ in range(3):
            with pytest.raises(MessageTooLarge):
                await broker.publish(Message(subject, b"x" * 5000))
            await broker.publish(Message(subject, b"small"))
        outcomes = await asyncio.gather(
            *(broker.publish(Message(subject, b"x" * (5000 if n % 10 == 5 else 10))) for n in range(30)),
            return_exceptions=True,
        )
        assert all(outcome is None or isinstance(outcome, MessageTooLarge) for outcome in outcomes)
    stored = Counter(len(body) for body in await read_topic(kafka_url, subject))
    assert stored[5] == 3
    assert stored[10] == sum(outcome is None for outcome in outcomes)


@pytest.mark.parametrize("many", [False, True], ids=["publish", "publish_many"])
async def test_what_comes_after_a_message_that_the_broker_has_refused_is_stored(
    many: bool, kafka_url: str, subject: str
) -> None:
    """By a new producer: the one before has counted the message, and the broker has not."""
    await make_topic(kafka_url, subject, {"max.message.bytes": "1000"})
    async with KafkaBroker(kafka_url) as broker:

        async def publish(body: bytes) -> None:
            message = Message(subject, body, key="key")  # all to one partition, as each counts by itself
            await (broker.publish_many([message]) if many else broker.publish(message))

        await publish(b"before")
        with pytest.raises(NotAllPublished if many else MessageTooLarge):
            await publish(b"x" * 5000)
        await publish(b"after")
    assert await read_topic(kafka_url, subject) == [b"before", b"after"]


async def test_what_has_no_key_goes_to_all_partitions_a_burst_to_one(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject, b"first"))
        for burst in range(6):
            await asyncio.gather(*(broker.publish(Message(subject, b"%d" % burst)) for _ in range(20)))
    bursts: dict[bytes, Counter[int]] = {}
    async for record in records_of(kafka_url, subject):
        bursts.setdefault(record.value, Counter())[record.partition] += 1
    del bursts[b"first"]
    assert all(len(burst) == 1 for burst in bursts.values())
    assert Counter(partition for burst in bursts.values() for partition in burst) == {0: 2, 1: 2, 2: 2}


async def test_what_has_no_key_leaves_out_a_partition_to_which_something_is_still_on_its_way(
    kafka_url: str, subject: str
) -> None:
    async with KafkaBroker(f"{kafka_url}?partitions=3") as broker:
        await broker.publish(Message(subject, b"first"))
        inner = broker._connection.publisher._producer.inner  # type: ignore[union-attr]
        inner._sender._muted_partitions.add(TopicPartition(subject, 1))
        for body in numbered(10):
            await broker.publish(Message(subject, body))
        await broker.publish_many([Message(subject, body) for body in numbered(10)])
        inner._sender._muted_partitions.clear()
    partitions = [record.partition async for record in records_of(kafka_url, subject) if record.value != b"first"]
    assert set(partitions) == {0, 2}


async def test_the_key_chooses_the_partition_as_with_other_clients(kafka_url: str, subject: str) -> None:
    server = kafka_url.removeprefix("kafka://")
    producer = AIOKafkaProducer(bootstrap_servers=server)
    async with KafkaBroker(f"{kafka_url}?partitions=7") as broker:
        keys = [f"key-{number}" for number in range(50)]
        for key in keys[:25]:
            await broker.publish(Message(subject, key.encode(), key=key))
        await broker.publish_many([Message(subject, key.encode(), key=key) for key in keys[25:]])
        await producer.start()
        for key in keys:
            await producer.send_and_wait(subject, b"theirs " + key.encode(), key=key.encode())
        await producer.stop()
    places: dict[bytes, set[int]] = {}
    async for record in records_of(kafka_url, subject):
        places.setdefault(record.key, set()).add(record.partition)
    assert len(places) == 50
    assert all(len(partitions) == 1 for partitions in places.values())


async def test_the_id_of_a_message_travels_as_a_header(kafka_url: str, subject: str) -> None:
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"x", id="order-7"))
        await broker.publish(Message(subject, b"x"))
    headers = [record.headers async for record in records_of(kafka_url, subject)]
    assert sorted(headers) == [(), (("Message-Id", b"order-7"),)]


# -- TLS and logins --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> KafkaServer:
    listeners = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
    users, scram = {"alice": "won@der"}, {"bob": "builder"}
    with KafkaServer(listeners=listeners, users=users, scram=scram, certificates=certificates) as server:
        yield server


def secured_url(server: KafkaServer, listener: str, scheme: str, login: str = "", query: str = "") -> str:
    return f"{scheme}://{login}{server.addresses[listener]}?connect_timeout=3&{query}"


@pytest.mark.parametrize(
    ("listener", "scheme", "login", "query"),
    [
        ("SSL", "kafkas", "", "tls_ca={ca}"),
        ("SSL", "kafka", "", "tls=true&tls_ca={ca}"),
        ("SASL_PLAINTEXT", "kafka", "bob:builder@", ""),
        ("SASL_PLAINTEXT", "kafka", "bob:builder@", "sasl=SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "kafka", f"alice:{quote('won@der')}@", "sasl=PLAIN"),
        ("SASL_SSL", "kafka+ssl", "bob:builder@", "tls_ca={ca}"),
    ],
)
async def test_who_may_log_in_works(
    secured: KafkaServer, certificates: Certificates, subject: str, until: Until,
    listener: str, scheme: str, login: str, query: str,
) -> None:  # fmt: skip
    url = secured_url(secured, listener, scheme, login, query.format(ca=certificates.authority))
    worker = Worker(url, subject)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"x"))
        await until(lambda: worker.bodies == [b"x"])
        assert "builder" not in worker.broker.url
        assert "tls_ca" not in worker.broker.url


@pytest.mark.parametrize(
    ("listener", "scheme", "login", "query", "words"),
    [
        ("SSL", "kafkas", "", "", "certificate is not to be trusted"),
        ("SSL", "kafka", "", "", "TLS"),
        ("PLAINTEXT", "kafkas", "", "", "TLS"),
        ("SASL_PLAINTEXT", "kafka", "bob:wrong@", "", "wrong user or password"),
        ("SASL_PLAINTEXT", "kafka", "nobody:builder@", "", "wrong user or password"),
        ("SASL_PLAINTEXT", "kafka", "alice:wrong@", "sasl=PLAIN", "wrong user or password"),
        ("SASL_PLAINTEXT", "kafka", "", "", "login"),
        ("SASL_SSL", "kafka+ssl", "bob:wrong@", "tls_ca={ca}", "wrong user or password"),
    ],
)
async def test_who_may_not_is_told_why(
    secured: KafkaServer, certificates: Certificates,
    listener: str, scheme: str, login: str, query: str, words: str,
) -> None:  # fmt: skip
    broker = KafkaBroker(secured_url(secured, listener, scheme, login, query.format(ca=certificates.authority)))
    with pytest.raises(ConnectionFailed, match=words) as error:
        await broker.connect()
    assert "wrong@" not in str(error.value)
    assert not broker.connected
    await broker.close()


async def test_a_server_that_refuses_a_login_is_not_waited_for_until_it_says_goodbye(
    secured: KafkaServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secured_url(secured, "SASL_SSL", "kafka+ssl", "bob:wrong@", f"tls_ca={certificates.authority}")
    port = secured.addresses["SASL_SSL"].rpartition(":")[2]
    close = driver._Brief.close
    async with FaultProxy(int(port)) as proxy:

        def close_behind_a_wall(self: Any, reason: object = None, exc: object = None) -> object:
            proxy.blackhole = True
            return close(self, reason, exc)

        monkeypatch.setattr(driver._Brief, "close", close_behind_a_wall)
        with pytest.raises(ConnectionFailed, match="wrong user or password"):
            await KafkaBroker(url.replace(f":{port}", f":{proxy.port}")).connect()
        await asyncio.sleep(0)
        here = [each for each in open_transports() if (each.get_extra_info("peername") or ())[-1:] == (proxy.port,)]
        assert not any(each._sock for each in here)


async def test_nobody_there_is_told_within_the_timeout() -> None:
    broker = KafkaBroker("kafka://127.0.0.1:1?connect_timeout=0.5")
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionFailed, match="is it running"):
            await broker.connect()


async def test_of_several_servers_one_is_enough(kafka_url: str, subject: str) -> None:
    host = kafka_url.removeprefix("kafka://")
    async with KafkaBroker(f"kafka://127.0.0.1:1,{host}") as broker:
        await broker.publish(Message(subject, b"x"))


# -- by other means --------------------------------------------------------------------------------------------


async def make_topic(url: str, name: str, config: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    await admin.create_topics([NewTopic(name, 3, 1, topic_configs=config)])
    while (await admin.describe_topics([name]))[0]["error_code"]:  # it takes the broker a moment
        await asyncio.sleep(0.01)
    await admin.close()


async def records_of(url: str, topic: str) -> AsyncIterator[Any]:
    """All that is in a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=url.removeprefix("kafka://"), auto_offset_reset="earliest")
    await consumer.start()
    try:
        count = len(await consumer._client._wait_on_metadata(topic))
        places = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        left = sum(ends.values())
        while left > 0:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                left -= len(records)
                for record in records:
                    yield record
    finally:
        await consumer.stop()


async def read_topic(url: str, topic: str) -> list[bytes]:
    return [record.value async for record in records_of(url, topic)]
