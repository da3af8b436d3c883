"""Kafka: what is ended, given up and waited for when something is closed, retired, or takes too long."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import ProducerClosed
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.producing import producer
from eventmicro_kafka.producing.producer import Producer
from eventmicro_kafka.producing.publishing import Publisher
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.broker import Durable
from eventmicro.errors import Disconnected
from eventmicro.message import Message
from tests.unit.kafka.test_transactions import Bench
from tests.unit.kafka.test_turns import Waiting, settle


async def test_a_member_leaves_its_group_though_closing_is_cancelled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = SimpleNamespace()
    subscription = KafkaSubscription("t", "q", lambda _: None, Durable(), KafkaSettings(), missing, {})
    closing, left = asyncio.Event(), []

    async def hang() -> None:
        closing.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        left.append(True)

    subscription._transactions = SimpleNamespace(close=hang)  # type: ignore[assignment]
    monkeypatch.setattr(subscription._member, "close", leave)
    task = asyncio.create_task(subscription.close())
    await closing.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (left, subscription.closed) == ([True], True)


async def test_a_flush_waits_for_what_a_producer_that_is_retired_has_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored, missing = asyncio.Event(), SimpleNamespace()

    async def stop(*_: object) -> None:
        await stored.wait()

    monkeypatch.setattr(producer, "stop_producer", stop)
    subject = Producer(KafkaSettings(), missing, missing)  # type: ignore[arg-type]
    publisher = Publisher(subject, 1000)
    subject.inner = SimpleNamespace()
    subject.retire(subject.inner)
    with pytest.raises(Disconnected, match="not confirmed"):
        await publisher.flush(0.01)
    stored.set()
    await publisher.flush(5.0)


async def test_who_waits_for_room_begins_nothing_with_a_producer_that_was_retired_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would fail what it is given now, though it may have stored it."""

    async def stop(*_: object) -> None:
        """It has stored what it had."""

    monkeypatch.setattr(producer, "stop_producer", stop)
    missing, waiting = SimpleNamespace(), Waiting()
    subject = Producer(KafkaSettings(), missing, missing)  # type: ignore[arg-type]
    subject.inner = waiting
    await waiting.fill()
    many = asyncio.create_task(waiting.publish_many(b"waits"))
    await settle()
    subject.retire(waiting)
    waiting.send()
    with pytest.raises(ProducerClosed):
        await many
    assert waiting.append(b"late", in_turn=True) is None


async def test_the_time_for_a_transaction_begins_before_its_topics_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, loop, whens = Bench(monkeypatch), asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def note(when: float, callback: Any, *args: Any, **more: Any) -> Any:
        if "commit" in callback.__qualname__:
            whens.append(when)
        return call_at(when, callback, *args, **more)

    async def ready(_: object) -> None:
        await asyncio.sleep(0.1)

    monkeypatch.setattr(bench.made, "ready", ready)
    monkeypatch.setattr(loop, "call_at", note)
    async with bench:
        began = loop.time()
        delivery = bench.take(bench.first, 0)
        await bench.subject.commit([Message("t", b"x")], [delivery], 60.0)
    (when,) = whens
    assert when < began + 60.0 + 0.1
