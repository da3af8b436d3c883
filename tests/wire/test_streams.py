"""Whole streams as they travel, message by message, as golden/streams.json has them on record."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, MemoryBroker, Service
from eventmicro.errors import NotFound
from eventmicro.message import Delivery, Message
from eventmicro.rpc.streams import streams
from eventmicro.rpc.streams.frames import read_frame

GOLDEN = json.loads((Path(__file__).parent / "golden" / "streams.json").read_text())
Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://wire"


class Number(BaseModel):
    value: int


service = Service("numbers", broker=URL)


@service.rpc
async def count(request: Number) -> AsyncIterator[Number]:
    for value in range(request.value):
        yield Number(value=value)
    if request.value == 1:
        raise NotFound("no more")


@service.rpc
async def total(requests: AsyncIterator[Number]) -> Number:
    return Number(value=sum([each.value async for each in requests]))


@service.rpc
async def double(requests: AsyncIterator[Number]) -> AsyncIterator[Number]:
    async for each in requests:
        yield Number(value=2 * each.value)


async def server_stream(client: Client, wire: MemoryBroker) -> None:
    assert len([each async for each in client.stream("numbers.count", Number(value=2), Number, timeout=5.0)]) == 2


async def server_stream_that_fails(client: Client, wire: MemoryBroker) -> None:
    with pytest.raises(NotFound):
        _ = [each async for each in client.stream("numbers.count", Number(value=1), Number)]


async def client_stream(client: Client, wire: MemoryBroker) -> None:
    async with client.stream("numbers.total", reply=Number) as numbers:
        await numbers.send(Number(value=1))
        await numbers.send(Number(value=2))
        assert await numbers.reply() == Number(value=3)


async def bidirectional_stream_that_is_left(client: Client, wire: MemoryBroker) -> None:
    async with client.stream("numbers.double", reply=Number, keep_alive=60.0) as numbers:
        await numbers.send(Number(value=1))
        assert await anext(numbers) == Number(value=2)


async def plain_client_reads(client: Client, wire: MemoryBroker) -> None:
    await wire.send(Message("numbers.count", b'{"value":2}', reply="my.inbox"))


CASES = [
    server_stream,
    server_stream_that_fails,
    client_stream,
    bidirectional_stream_that_is_left,
    plain_client_reads,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_what_travels_is_what_is_on_record(
    case: Callable[[Client, MemoryBroker], Awaitable[None]], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "any_number", lambda: 1)
    expected = GOLDEN[case.__name__]
    recorded: list[Delivery] = []
    async with service, MemoryBroker(URL) as wire, Client(URL) as client:
        await wire.subscribe(">", recorded.append)
        await case(client, wire)
        await until(lambda: len(recorded) >= len(expected))
        await asyncio.sleep(0)
    assert [form(delivery) for delivery in recorded] == expected


def test_every_record_has_its_case() -> None:
    assert set(GOLDEN) == {case.__name__ for case in CASES}


def form(delivery: Delivery) -> dict[str, Any]:
    """A delivery as the record has it: only what is not empty, a frame by its fields."""
    subject = neutral(delivery.subject)
    whole: dict[str, Any] = {"subject": subject, "reply": neutral(delivery.reply)}
    whole["headers"] = {name: neutral(value) for name, value in (delivery.headers or {}).items()}
    if subject.endswith((".frames", "<secret>")):
        fields = {name: as_text(value) for name, value in asdict(read_frame(delivery.body)).items() if value}
        whole["frame"] = fields
    else:
        whole["body"] = delivery.body.decode()
    return {key: value for key, value in whole.items() if value}


def as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [each.decode() for each in value]
    return value.decode() if isinstance(value, bytes) else neutral(value) if isinstance(value, str) else value


def neutral(text: str) -> str:
    """A text without what differs from run to run: the inbox, the milliseconds, the secret of a node and of a probe."""
    text = re.sub(r"_INBOX\.\w+(?=\.)", "<inbox>", text)
    text = re.sub(r"^<inbox>\.[0-9a-f]{16}$", "<inbox>.<secret>", text)
    text = re.sub(r"\.\d+ms$", ".<milliseconds>ms", text)
    return re.sub(r"\$stream\.\w+", "$stream.<secret>", text)
