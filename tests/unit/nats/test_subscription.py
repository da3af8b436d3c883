"""A subscription of core NATS that is left: what the server had sent is handed over, whoever waits for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_nats.settings import NatsSettings
from eventmicro_nats.subscription import NatsSubscription

from eventmicro.message import Delivery
from tests.unit.nats.kit import Server


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The server's answer that it sends no more."""
    answered = asyncio.Event()

    async def finish(server: Server, *_: object) -> None:
        await answered.wait()

    monkeypatch.setattr(Server, "finish", finish)
    return answered


async def left() -> tuple[NatsSubscription, Any, list[bytes]]:
    """One whose drain was cancelled when it had just begun."""
    got: list[bytes] = []

    def receive(delivery: Delivery) -> None:
        got.append(delivery.body)

    server: Any = Server()
    subscription = NatsSubscription("orders.quote", "q", receive, NatsSettings(), lambda _: None)
    await subscription.open(server)
    draining = asyncio.ensure_future(subscription.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait([draining])
    assert subscription.ended
    return subscription, server, got


async def test_what_was_on_its_way_is_handed_over_though_who_waits_for_the_drain_is_cancelled(
    answer: asyncio.Event,
) -> None:
    subscription, server, got = await left()
    again = asyncio.ensure_future(subscription.drain())
    server.take(b"orders.quote", b"", b"7", b"")
    assert (got, again.done()) == ([b"7"], False)
    answer.set()
    await again
    assert (server.take, subscription.leaving, subscription.dropped) == (None, None, 0)


async def test_its_end_ends_what_nobody_waits_for(answer: asyncio.Event) -> None:
    subscription, server, _ = await left()
    leaving = subscription.leaving
    assert leaving is not None
    subscription.end()
    await subscription.drain()
    assert leaving.cancelled()
    assert server.take is None
