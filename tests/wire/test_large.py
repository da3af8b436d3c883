"""Large bodies as they travel, message by message, as golden/large.json has them on record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from eventmicro import Client, MemoryBroker, Service, Topic
from eventmicro.message import Delivery
from eventmicro.rpc.streams import streams
from eventmicro.wire import LARGE
from tests.wire.test_streams import form, neutral

GOLDEN = json.loads((Path(__file__).parent / "golden" / "large.json").read_text())
Until = Callable[[Callable[[], object]], Awaitable[None]]
LIMIT = 500
TOPIC = Topic("files.made", bytes, large="object")


def connection() -> MemoryBroker:
    return MemoryBroker("memory://wire", max_payload=LIMIT)


async def large_request(client: Client) -> None:
    assert await client.call("files.size", b"a" * 800, int) == 800


async def large_reply(client: Client) -> None:
    assert await client.call("files.make", 800, bytes) == b"a" * 800


async def large_event(client: Client) -> None:
    await client.publish(TOPIC, b"a" * 800)


CASES = [large_request, large_reply, large_event]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_what_travels_is_what_is_on_record(
    case: Callable[[Client], Awaitable[None]], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "any_number", lambda: 1)
    expected = GOLDEN[case.__name__]
    recorded: list[Delivery] = []
    async with connection() as broker, connection() as wire:
        service = Service("files", broker=broker)

        @service.rpc
        async def size(request: bytes) -> int:
            return len(request)

        @service.rpc
        async def make(request: int) -> bytes:
            return b"a" * request

        async with service, Client(wire, large="stream") as client:
            await wire.subscribe(">", recorded.append)
            await case(client)
            await until(lambda: len(recorded) >= len(expected))
            await asyncio.sleep(0)
    assert [shown(delivery) for delivery in recorded] == expected


def test_every_record_has_its_case() -> None:
    assert set(GOLDEN) == {case.__name__ for case in CASES}


def shown(delivery: Delivery) -> dict[str, Any]:
    """A delivery as the record has it, and the header that says where the body is as what it is, JSON."""
    whole = form(delivery)
    if LARGE in whole.get("headers", {}):
        said = json.loads(whole["headers"][LARGE])
        whole["headers"][LARGE] = {name: neutral(v) if isinstance(v, str) else v for name, v in said.items()}
    return whole
