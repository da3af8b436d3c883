"""Events outside of handlers, on each broker: those that are kept, up to the present, and those that come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from eventmicro_nats.jetstream.broker import JetStreamBroker

from eventmicro import Client, DecodeError, Topic, Unsupported
from tests.delivery.bench import Bench, Number, Until, numbers

pytestmark = pytest.mark.timeout_seconds(60)


def values(events: Sequence[Number]) -> list[int]:
    return sorted(event.value for event in events)


async def consumers(client: Client) -> int:
    """How many consumers JetStream has at all; on others none are counted."""
    if not isinstance(client.broker, JetStreamBroker):
        return 0
    answer = await client.broker._connected_parts()._api.call("INFO", deadline=2**31)
    return int(answer["consumers"])


@pytest.mark.needs("replay")
async def test_what_is_kept_is_read_up_to_the_present_and_nothing_is_left_behind(bench: Bench, until: Until) -> None:
    seen = list[int]()

    async def see(event: Number) -> None:
        seen.append(event.value)

    async with bench.run(see) as client:
        await client.publish_many(bench.topic, numbers(300, keys=3))
        before, read = await consumers(client), list[Number]()
        async for event in client.read(bench.topic):
            if not read:
                await client.publish(bench.topic, Number(value=300))  # which was not there when it began
            read.append(event)
        assert values(read) == list(range(300))
        for key in ("k0", "k1", "k2"):
            assert values(of_key := [each for each in read if each.key == key]) == [each.value for each in of_key]
        assert values([each async for each in client.read(bench.topic)]) == list(range(301))
        async with aclosing(client.read(bench.topic)) as events:
            await anext(events)
        assert await consumers(client) == before
        await until(lambda: len(seen) == 301)


@pytest.mark.needs("replay")
async def test_it_begins_at_a_time(bench: Bench) -> None:
    async def see(event: Number) -> None: ...

    async with bench.run(see) as client:
        await client.publish_many(bench.topic, numbers(20))
        last = datetime.now(UTC) + timedelta(days=1)
        assert values([each async for each in client.read(bench.topic, since=timedelta(days=1))]) == list(range(20))
        assert [each async for each in client.read(bench.topic, since=last)] == []


@pytest.mark.needs("replay")
async def test_an_event_that_cannot_be_decoded_is_named(bench: Bench) -> None:
    async def see(event: Number) -> None: ...

    async with bench.run(see) as client:
        await client.publish(bench.topic.name, b"no number")
        with pytest.raises(DecodeError, match="Number"):
            async for _ in client.read(bench.topic):
                pass


async def test_a_broker_that_keeps_nothing_to_read_is_refused_by_name(bench: Bench) -> None:
    if bench.capabilities.replay:
        pytest.skip("it keeps events")
    client = Client(bench.url)
    with pytest.raises(Unsupported, match=r"keeps no events to read \(replay\); able are .*jetstream://"):
        client.read(bench.topic)


async def test_what_comes_is_read_from_the_beginning_of_the_block_on(bench: Bench) -> None:
    async with Client(bench.url) as client:
        other = Topic(f"{bench.name}.other", Number)
        async with client.events(bench.topic) as events:
            await client.publish_many(bench.topic, numbers(10))
            await client.publish(other, Number(value=99))
            read = list[Number]()
            async for event in events:
                read.append(event)
                if len(read) == 10:
                    break
        assert values(read) == list(range(10))
