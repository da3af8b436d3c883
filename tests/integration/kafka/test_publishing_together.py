"""Kafka: many publish to one partition at the same time: together, in turn, and no more of it waits than may."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.producing.accumulator import MOST_WAITING

from eventmicro.errors import Disconnected, MessageTooLarge, NotAllPublished, NotStored, Unconfirmed
from eventmicro.message import Message
from tests.integration.kafka.admin import make_topic
from tests.integration.kafka.kit import read_topic, records_of

CALLS = 100


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests with messages that are sent to brokers."""
    sent: list[str] = []
    send = AIOKafkaConnection.send

    def note(self: Any, request: object, *what: Any, **more: Any) -> object:
        if "Produce" in type(request).__name__:
            sent.append(type(request).__name__)
        return send(self, request, *what, **more)

    monkeypatch.setattr(AIOKafkaConnection, "send", note)
    return sent


async def publish_all(broker: KafkaBroker, calls: list[list[Message]], timeout: float = 30.0) -> list[Any]:
    """Publish each list of messages by a call of its own, all at the same time; what the calls raise."""
    return await asyncio.gather(*(broker.publish_many(call, timeout=timeout) for call in calls), return_exceptions=True)


@pytest.mark.parametrize("key", ["k", None])
async def test_what_many_calls_bring_goes_in_few_batches(
    kafka_url: str, subject: str, requests: list[str], key: str | None
) -> None:
    """One round trip for each call would have the last of them wait for all the others."""
    calls = [[Message(subject, b"%d" % number, key=key)] * 5 for number in range(CALLS)]
    async with KafkaBroker(f"{kafka_url}?partitions=1") as broker:
        await broker.publish(Message(subject, b"first"))
        requests.clear()
        assert await publish_all(broker, calls) == [None] * CALLS
        assert 1 <= len(requests) <= 5
    stored = Counter(await read_topic(kafka_url, subject))
    assert stored == Counter({b"first": 1} | {b"%d" % number: 5 for number in range(CALLS)})


async def test_many_calls_to_several_partitions_share_some_of_their_batches(kafka_url: str, subject: str) -> None:
    """Those of one call go partly with others, and partly in batches that begin with it."""
    calls = [
        [Message(subject, b"%d" % (100 * call + number), key=f"k{(call + number) % 7}") for number in range(size)]
        for call, size in enumerate((1, 2, 3, 5, 8, 13, 21, 1, 2, 3))
    ]
    calls[5] += [Message(subject, b"keyless %d" % number) for number in range(5)]
    async with KafkaBroker(f"{kafka_url}?partitions=5&batch_bytes=400") as broker:
        await broker.publish(Message(subject, b"first"))
        assert await publish_all(broker, calls) == [None] * len(calls)
    stored = Counter(await read_topic(kafka_url, subject))
    assert stored == Counter([b"first", *(message.body for call in calls for message in call)])


async def test_each_call_and_each_task_keeps_its_order_among_others(kafka_url: str, subject: str) -> None:
    """Each message once; of a batch few find room, so that most stand in line."""
    tasks, rounds, size = 12, 3, 40

    async def publish(broker: KafkaBroker, task: int) -> None:
        for first in range(0, rounds * size, size):
            messages = [Message(subject, b"%d" % number, key=f"k{task}") for number in range(first, first + size)]
            await broker.publish_many(messages, timeout=60)

    async def publish_singly(broker: KafkaBroker) -> None:
        for number in range(rounds * size):
            await broker.publish(Message(subject, b"%d" % number, key="single"), timeout=60)

    async with KafkaBroker(f"{kafka_url}?partitions=1&batch_bytes=800") as broker:
        await broker.declare(subject)
        await asyncio.gather(publish_singly(broker), *(publish(broker, task) for task in range(tasks)))
        inner = broker._connection.publisher._producer.inner  # type: ignore[union-attr]
        assert not inner.lines
    found: dict[bytes, list[int]] = {}
    async for record in records_of(kafka_url, subject):
        found.setdefault(record.key, []).append(int(record.value))
    keys = [b"single", *(b"k%d" % task for task in range(tasks))]
    assert found == {key: list(range(rounds * size)) for key in keys}


async def test_of_a_partition_that_takes_nothing_only_so_much_waits_and_each_message_is_told_what_became_of_it(
    kafka_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [[Message(subject, b"x" * 50, key="k") for _ in range(30)] for _ in range(20)]
    async with KafkaBroker(f"{kafka_url}?partitions=1&batch_bytes=1000") as broker:
        await broker.publish(Message(subject, b"first"))
        inner = broker._connection.publisher._producer.inner  # type: ignore[union-attr]
        with monkeypatch.context() as away:
            away.setattr(ClusterMetadata, "leader_for_partition", lambda *_: -1)
            failed = Counter[type]()
            for raised in await publish_all(broker, calls, timeout=0.5):
                assert isinstance(raised, NotAllPublished)
                assert sorted(raised.failed) == list(range(30))
                assert raised.confirmed == 0
                failed.update(type(error) for error in raised.failed.values())
            (pending,) = inner._message_accumulator._batches.values()
            waiting = sum(batch.record_count for batch in pending)
            assert (len(pending), inner.lines) == (MOST_WAITING, {})
        assert failed == {Unconfirmed: waiting, Disconnected: 20 * 30 - waiting}
        await broker.flush()
    assert len(await read_topic(kafka_url, subject)) == 1 + waiting, "what was said not to be sent was sent"


async def test_events_with_a_key_are_stored_though_others_without_one_were_to_go_with_them(
    kafka_url: str, subject: str
) -> None:
    """The broker of a topic that is compacted refuses all of a batch."""
    await make_topic(kafka_url, subject, config={"cleanup.policy": "compact"})
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"first", key="first"))
        keyed = [[Message(subject, b"%d" % call, key=f"k{call}.{number}") for number in range(3)] for call in range(4)]
        outcomes = await publish_all(broker, [keyed[0], [Message(subject, b"none")], *keyed[1:]])
        refused = outcomes.pop(1)
        assert outcomes == [None] * 4
        assert isinstance(refused, NotAllPublished)
        assert [type(error) for error in refused.failed.values()] == [NotStored]
    assert Counter(await read_topic(kafka_url, subject)) == {b"first": 1, b"0": 3, b"1": 3, b"2": 3, b"3": 3}


@pytest.mark.parametrize("together", [True, False])
async def test_messages_that_fit_are_stored_where_a_batch_of_them_is_more_than_the_topic_takes(
    kafka_url: str, subject: str, together: bool
) -> None:
    """A batch may be larger than `max.message.bytes`; only what is too large by itself is refused."""
    await make_topic(kafka_url, subject, config={"max.message.bytes": "600"})
    bodies = [b"%d" % number + bytes(200) for number in range(20)]
    messages = [Message(subject, body, key="k") for body in bodies]
    async with KafkaBroker(kafka_url) as broker:
        await broker.publish(Message(subject, b"first", key="k"))
        if together:
            messages.insert(7, Message(subject, bytes(700), key="k"))
            with pytest.raises(NotAllPublished) as raised:
                await broker.publish_many(messages)
            assert {at: type(error) for at, error in raised.value.failed.items()} == {7: MessageTooLarge}
        else:
            await asyncio.gather(*(broker.publish(message) for message in messages))
    stored = (await read_topic(kafka_url, subject))[1:]
    assert (stored if together else sorted(stored)) == (bodies if together else sorted(bodies))
