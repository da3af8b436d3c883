"""core NATS: a service with very many handlers starts, works and stops at the same cost for each of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from eventmicro_nats import NatsBroker

from eventmicro import Client, Service
from tests.memory import memory_of_start
from tests.unit.running.test_scale import with_endpoints, with_subscribers
from tests.unit.services import Number

MANY = 2_000


class Commands(NatsBroker):
    """Notes what goes out."""

    sent: list[bytes]

    async def connect(self) -> None:
        await super().connect()
        assert self._driver is not None
        self.sent, push, ping = [], self._driver.push, self._driver._leaving._ping

        def note(command: bytes) -> None:
            self.sent.append(command.partition(b" ")[0])
            push(command)

        def note_ping(answer: Any) -> None:
            self.sent.append(b"PING")
            ping(answer)

        self._driver.push = note  # type: ignore[method-assign]
        self._driver._leaving._ping = note_ping


@pytest.mark.parametrize("make", [with_endpoints, with_subscribers])
async def test_a_handler_takes_little_memory_while_nothing_comes(make: Any, nats_url: str) -> None:
    async with make(1, nats_url):
        pass  # what is imported and made once is there
    service = make(MANY, nats_url)
    each = await memory_of_start(service) / MANY
    assert each < 3_000  # bytes
    await service.stop()


@pytest.mark.parametrize("make", [with_endpoints, with_subscribers])
async def test_all_subscriptions_end_together(make: Any, nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    broker = Commands(nats_url)
    async with broker:
        async with make(MANY, broker):
            broker.sent.clear()
        assert broker.sent.count(b"UNSUB") >= MANY
        assert 1 <= broker.sent.count(b"PING") <= 4
        assert not broker._subscriptions
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_calls_to_very_many_endpoints_are_answered_by_the_right_one(nats_url: str) -> None:
    service = Service("numbers", broker=nats_url)

    def declare(each: int) -> None:
        @service.rpc(name=f"add{each}")
        async def add(request: Number) -> Number:
            return Number(value=request.value + each)

    for each in range(MANY):
        declare(each)
    async with service, Client(nats_url) as client:
        for each in range(0, MANY, 37):
            assert await client.call(f"numbers.add{each}", Number(value=7), Number) == Number(value=7 + each)
