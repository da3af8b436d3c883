"""A subscriber that is started, paused, resumed and ended while its service runs: a durable queue loses nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from eventmicro import Service
from tests.delivery.bench import Bench, Number, Until, numbers

pytestmark = pytest.mark.timeout_seconds(90)


async def test_what_is_published_in_a_pause_and_after_the_end_is_kept_in_order(bench: Bench, until: Until) -> None:
    seen = list[int]()

    async def see(event: Number) -> None:
        seen.append(event.value)

    service = Service(bench.name, broker=bench.url)
    async with service:
        subscriber = await service.start_subscriber(bench.topic, see, durable=True)
        await service.publish_many(bench.topic, numbers(10))
        await until(lambda: len(seen) == 10)
        await subscriber.pause()
        await service.publish_many(bench.topic, numbers(20)[10:])
        assert len(seen) == 10
        await subscriber.resume()
        await until(lambda: len(seen) == 20)
        await subscriber.drain()
        await service.publish_many(bench.topic, numbers(30)[20:])
        assert len(seen) == 20
        async with await service.start_subscriber(bench.topic, see, durable=True):
            await until(lambda: len(seen) == 30)
        assert service.statistics().subscribers == []
    assert Counter(seen) == dict.fromkeys(range(30), 1)
    assert seen == sorted(seen)
