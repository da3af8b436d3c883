"""Publishing while the broker is away: waited for, refused, or buffered; and handlers go on when it is back."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from eventmicro import Client, Publishing
from eventmicro.errors import Disconnected, NotAllPublished, Unconfirmed
from tests.conformance.servers import Restartable
from tests.delivery.bench import Bench, Number, Until, numbers

pytestmark = pytest.mark.timeout_seconds(120)


class Seen(Counter[int]):
    async def handle(self, event: Number) -> None:
        self[event.value] += 1


async def kill(server: Restartable, client: Client, until: Until) -> None:
    """End a server as a crash would; return when the client knows."""
    await server.kill()
    await until(lambda: not client.broker.online)


async def test_a_publish_waits_for_the_broker_to_come_back(
    own_server: Restartable, own_bench: Bench, until: Until
) -> None:
    seen = Seen()
    async with own_bench.run(seen.handle) as client:
        await client.publish(own_bench.topic, Number(value=0))
        await until(lambda: seen[0])
        await kill(own_server, client, until)
        with pytest.raises((Disconnected, Unconfirmed)):  # of two connections, the other one may still seem to be there
            await client.publish(own_bench.topic, Number(value=-1), timeout=0.1)
        with pytest.raises(Disconnected):
            await client.publish(own_bench.topic, Number(value=-1), timeout=0.1)
        with pytest.raises(NotAllPublished) as refused:
            await client.publish_many(own_bench.topic, [Number(value=-1)], timeout=0.1)
        assert type(refused.value.failed[0]) is Disconnected  # and not one that may be sent yet
        waiting = [client.publish(own_bench.topic, Number(value=n), timeout=60) for n in range(1, 10)]
        publishing = asyncio.gather(*waiting, client.publish_many(own_bench.topic, numbers(30)[10:], timeout=60))
        await asyncio.sleep(0.1)
        assert not publishing.done()
        await own_server.start()
        await publishing
        await until(lambda: len(seen) >= 30)
        assert client.outgoing.confirmed == 30
    assert set(seen) == set(range(30))


async def test_a_publish_fails_at_once_where_it_is_told_to(
    own_server: Restartable, own_bench: Bench, until: Until
) -> None:
    async with Client(own_bench.url, publishing=Publishing(while_away="fail")) as client:
        await client.publish(own_bench.topic, Number(value=0))
        await kill(own_server, client, until)
        with pytest.raises(Disconnected):
            await client.publish(own_bench.topic, Number(value=1))
        with pytest.raises(NotAllPublished):
            await client.publish_many(own_bench.topic, numbers(2))
        assert (client.outgoing.confirmed, client.outgoing.failed) == (1, 3)


async def test_events_are_buffered_where_that_is_asked_for_and_sent_when_the_broker_is_back(
    own_server: Restartable, own_bench: Bench, until: Until
) -> None:
    seen = Seen()
    async with (
        own_bench.run(seen.handle),
        Client(own_bench.url, publishing=Publishing(timeout=30, while_away="buffer", buffer=150)) as client,
    ):
        await client.publish(own_bench.topic, Number(value=0))
        await until(lambda: seen[0])
        await kill(own_server, client, until)
        for value in range(1, 100):
            await client.publish(own_bench.topic, Number(value=value))
        with pytest.raises(NotAllPublished, match=r"49 of 100 .*buffer is full"):
            await client.publish_many(own_bench.topic, [Number(value=100 + n) for n in range(100)])
        assert client.outgoing.buffered == 150
        await own_server.start()
        await client.flush()
        await until(lambda: len(seen) >= 151)
        assert (client.outgoing.confirmed, client.outgoing.failed) == (151, 49)
    assert set(seen) == set(range(151))
