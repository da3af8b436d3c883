"""Events as they come, outside of handlers: where they begin and end, who is too slow, what is refused."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from eventmicro import Client, DecodeError, Disconnected, MemoryBroker, TooSlow, Topic
from eventmicro.errors import Unsupported, UsageError
from eventmicro.events import reading
from eventmicro.events.reading import Events


class Number(BaseModel):
    value: int = 0


T = TypeVar("T")
HAPPENED = Topic("shop.happened", Number)


async def _read_all(events: Events[T], read: list[T]) -> None:
    async for event in events:
        read.append(event)


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(4)}"


async def test_a_loop_alone_begins_with_its_first_step_and_ends_with_the_loop(url: str) -> None:
    async with Client(url) as client, Client(url) as other:
        events = client.events(HAPPENED)
        read = list[int]()

        async def reader() -> None:
            async for event in events:
                read.append(event.value)
                if event.value == 2:
                    break

        task = asyncio.create_task(reader())
        await asyncio.sleep(0)
        for number in range(5):
            await other.publish(HAPPENED, Number(value=number))
        await task
        assert read == [0, 1, 2]
        for _ in range(3):  # the loop's generator is closed by the event loop
            await asyncio.sleep(0)
        assert events._subscription is None


async def test_within_its_block_it_may_be_left_and_gone_on_with(url: str) -> None:
    async with Client(url) as client, client.events(Topic("shop.*", Number)) as events:
        for number in range(4):
            await client.publish(f"shop.n{number}", Number(value=number))
        async for event in events:
            assert event.value == 0
            break
        assert (await anext(aiter(events))).value == 1


async def test_who_is_too_slow_reads_what_waits_and_is_told(url: str) -> None:
    async with Client(url) as client, client.events(HAPPENED, limit=3) as events:
        for number in range(5):
            await client.publish(HAPPENED, Number(value=number))
        read = list[Number]()
        with pytest.raises(TooSlow, match=r"events of shop\.happened came faster .* more than 3 waited"):
            await _read_all(events, read)
        assert [each.value for each in read] == [0, 1, 2]


async def test_large_events_are_bounded_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINE_BYTES", 20)
    topic = Topic("shop.blobs", bytes)
    async with Client(url) as client, client.events(topic) as events:
        for _ in range(5):
            await client.publish(topic, b"x" * 11)
        read = list[bytes]()
        with pytest.raises(TooSlow):
            await _read_all(events, read)
        assert read == [b"x" * 11] * 2


async def test_one_that_cannot_be_decoded_is_named_and_the_next_is_read(url: str) -> None:
    async with Client(url) as client, client.events(HAPPENED) as events:
        await client.publish("shop.happened", b"no number")
        await client.publish(HAPPENED, Number(value=1))
        with pytest.raises(DecodeError, match="Number"):
            await anext(aiter(events))
        assert (await anext(aiter(events))).value == 1


async def test_other_content_types_and_large_bodies_are_read(url: str) -> None:
    narrow = MemoryBroker(url, max_payload=2000)
    topic = Topic("shop.texts", str, large="object")
    async with Client(narrow) as client, client.events(topic) as events:
        await client.publish(topic, "tea", content_type="msgpack")
        await client.publish(topic, "x" * 5000)
        stream = aiter(events)
        assert [await anext(stream), await anext(stream)] == ["tea", "x" * 5000]


async def test_the_end_of_the_client_ends_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOOK", 0.01)
    client = Client(url)
    await client.connect()
    events = client.events(HAPPENED)
    async with events:
        waiting = asyncio.create_task(anext(aiter(events)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Disconnected, match=r"no events of shop\.happened come any more"):
            await waiting


@pytest.mark.parametrize("since", [7, "yesterday", datetime(2026, 1, 1), timedelta(days=-1)])
async def test_what_is_no_time_is_refused(url: str, since: Any) -> None:
    with pytest.raises(UsageError, match=r"write timedelta\(days=7\), or a datetime with a time zone"):
        Client(url).read(HAPPENED, since=since)


async def test_what_is_no_topic_and_no_limit_is_refused(url: str) -> None:
    client: Any = Client(url)
    for method in (client.read, client.events):
        with pytest.raises(UsageError, match=r"'shop\.happened' is no topic: write Topic\("):
            method("shop.happened")
    with pytest.raises(UsageError, match="limit=0"):
        client.events(HAPPENED, limit=0)


async def test_memory_keeps_nothing_to_read(url: str) -> None:
    with pytest.raises(Unsupported, match=r"memory://.* keeps no events to read \(replay\); able are"):
        Client(url).read(HAPPENED)
    with pytest.raises(Unsupported, match=r"keeps no events to read"):
        Client(f"{url}?like=kafka").read(HAPPENED)
