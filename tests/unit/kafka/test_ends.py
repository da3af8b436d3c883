"""What the Kafka adapter leaves behind when it is ended in the middle: nothing."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from eventmicro_kafka import KafkaSettings
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.producing import batches, producer
from eventmicro_kafka.producing.batches import Batches
from eventmicro_kafka.producing.producer import Producer

from eventmicro.errors import ConnectionFailed, Disconnected
from eventmicro.message import Message

KNOWN = [(3, 0, 0), (18, 0, 2)]  # the requests metadata and versions, each from which version to which
VERSIONS = struct.pack(">hi", 0, len(KNOWN)) + b"".join(struct.pack(">hhh", *known) for known in KNOWN)
NO_BROKERS = struct.pack(">ii", 0, 0)  # and no topics


@asynccontextmanager
async def server_that_hangs_after(*answers: bytes) -> AsyncIterator[str]:
    """It gives these answers on each connection, and nothing more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            answer = (await reader.readexactly(size))[4:8] + answer  # what it is an answer to
            writer.write(struct.pack(">i", len(answer)) + answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_stops_answering_while_it_is_connected_to_is_left() -> None:
    async with server_that_hangs_after(VERSIONS) as server:
        link = Link(KafkaSettings(servers=(server,), connect_timeout=0.2), "kafka://")
        with pytest.raises(ConnectionFailed, match="no answer within"):
            await link.open()
    # the runner of the tests sees that no task of a connection is left


async def test_a_server_that_knows_of_no_broker_yet_is_not_connected_to() -> None:
    async with server_that_hangs_after(VERSIONS, NO_BROKERS) as server:
        link = Link(KafkaSettings(servers=(server,), connect_timeout=0.5), "kafka://")
        with pytest.raises(ConnectionFailed, match="knows of no broker yet"):
            await link.open()


class FakeProducer:
    """One of aiokafka, which takes its time to start."""

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.client = SimpleNamespace(cluster=SimpleNamespace(add_listener=lambda _: None))
        self._sender = SimpleNamespace(sender_task=None)

    async def start(self) -> None:
        await self.may_start.wait()


async def test_no_producer_is_made_when_the_connection_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeProducer] = []

    def make(_: KafkaSettings) -> FakeProducer:
        made.append(FakeProducer())
        return made[-1]

    async def stop(*_: object) -> None: ...

    monkeypatch.setattr(producer, "make_producer", make)
    monkeypatch.setattr(producer, "stop_producer", stop)
    link: Any = SimpleNamespace(wait_online=lambda: asyncio.sleep(0))
    subject = Producer(KafkaSettings(), link, SimpleNamespace())  # type: ignore[arg-type]
    first = asyncio.create_task(subject.ready("t"))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(subject.close())
    await asyncio.sleep(0)
    second = asyncio.create_task(subject.ready("t"))
    await asyncio.sleep(0.01)
    made[0].may_start.set()
    await closing
    for publishing in (first, second):
        with pytest.raises(Disconnected, match="closed"):
            await publishing
    assert len(made) == 1
    assert subject.inner is None


async def test_a_close_that_is_cancelled_waits_for_nothing_more_to_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = asyncio.Event()

    async def stop(*_: object) -> None:
        stopping.set()
        await asyncio.Event().wait()  # as one does whose broker hangs

    monkeypatch.setattr(producer, "stop_producer", stop)
    subject = Producer(KafkaSettings(), SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    subject.inner = FakeProducer()
    closing = asyncio.create_task(subject.close())
    await stopping.wait()
    closing.cancel()
    await asyncio.wait([closing])
    # the runner of the tests sees that no task is left


async def test_a_producer_that_is_made_during_a_close_that_is_cancelled_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner, stopped = FakeProducer(), []

    async def stop(producer: object, *_: object) -> None:
        stopped.append(producer)

    monkeypatch.setattr(producer, "make_producer", lambda _: inner)
    monkeypatch.setattr(producer, "stop_producer", stop)
    link: Any = SimpleNamespace(wait_online=lambda: asyncio.sleep(0))
    subject = Producer(KafkaSettings(), link, SimpleNamespace())  # type: ignore[arg-type]
    publishing = asyncio.create_task(subject.ready("t"))
    while not subject._making.locked():
        await asyncio.sleep(0)
    closing = asyncio.create_task(subject.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    inner.may_start.set()
    with pytest.raises(Disconnected, match="closed"):
        await publishing
    assert stopped == [inner]


async def test_many_messages_go_on_where_their_producer_is_retired_between_two_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`producer.inner` is None meanwhile."""
    sent: list[int] = []

    class Builder(list[bytes]):
        def append(self, *, value: bytes, **_: object) -> object:  # type: ignore[override]
            return None if self else super().append(value) or self

        def close(self) -> None: ...

    async def send(_: object, builder: Builder, __: object) -> asyncio.Future[None]:
        sent.append(len(builder))
        producing.inner = None
        stored = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        return stored

    async def ready(_: str) -> None:
        producing.inner = SimpleNamespace(create_batch=Builder)

    def place(*_: object) -> object:
        return TopicPartition("t", 0) if producing.inner else None

    monkeypatch.setattr(batches, "send_batch", send)
    producing: Any = SimpleNamespace(inner=None, ready=ready, place=place, next_place=place)
    for key in (None, "key"):
        many = Batches(producing, [Message("t", b"x", key=key) for _ in range(3)], 1000, 5.0)
        await many.publish()
        assert not many.failed
    assert sent == [1] * 6
