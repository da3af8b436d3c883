"""Subscribers that are started while their service runs: what they do, are counted in, and how they end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Client, RunningSubscriber, Service, Topic
from eventmicro.errors import SignatureError, Unsupported, UsageError
from eventmicro.events.options import DeliveryOptions

Until = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(4)}"


class Handled:
    """A handler that notes what it gets, and waits where it is told to."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.ended: list[int] = []

    async def __call__(self, event: int) -> None:
        self.seen.append(event)
        await self.go_on.wait()
        self.ended.append(event)


HAPPENED = Topic("shop.happened", int)


async def test_it_takes_events_is_paused_goes_on_and_ends(url: str, until: Until) -> None:
    service, handled = Service("shop", broker=url), Handled()
    async with service:
        subscriber = await service.start_subscriber(HAPPENED, handled, name="note")
        await service.publish(HAPPENED, 1)
        await until(lambda: handled.seen == [1])
        await subscriber.pause()
        assert subscriber.is_paused
        await subscriber.pause()
        await service.publish(HAPPENED, 2)
        await service.flush()
        await subscriber.resume()
        await subscriber.resume()
        assert not subscriber.is_paused
        await until(lambda: handled.seen == [1, 2])
        await subscriber.drain()
        await subscriber.drain()
        await service.publish(HAPPENED, 3)
        await service.flush()
        with pytest.raises(UsageError, match=r"shop\.note was drained, or its service has stopped: start another"):
            await subscriber.resume()
        async with await service.start_subscriber(HAPPENED, handled, name="note"):  # the same queue, where it was
            await until(lambda: handled.seen == [1, 2, 3])
    assert handled.ended == [1, 2, 3]


async def test_without_a_durable_queue_what_comes_in_a_pause_is_missed(url: str, until: Until) -> None:
    service, handled = Service("shop", broker=url), Handled()
    async with service:
        subscriber = await service.start_subscriber(HAPPENED, handled, name="note", durable=False)
        await subscriber.pause()
        await service.publish(HAPPENED, 1)
        await subscriber.resume()
        await service.publish(HAPPENED, 2)
        await until(lambda: handled.seen)
    assert handled.seen == [2]


async def test_another_instance_takes_what_this_one_held_when_it_was_paused(url: str, until: Until) -> None:
    first, second = Handled(), Handled()
    first.go_on.clear()
    one, other = Service("shop", broker=url), Service("shop", broker=url)
    async with one, other:
        paused = await one.start_subscriber(HAPPENED, first, name="note")
        for number in range(5):
            await one.publish(HAPPENED, number)
        await until(lambda: first.seen == [0])
        await paused.pause()
        await other.start_subscriber(HAPPENED, second, name="note")
        await until(lambda: second.ended == [1, 2, 3, 4])
        assert (first.seen, first.ended) == ([0], [])
        first.go_on.set()
        await until(lambda: first.ended == [0])


@pytest.mark.parametrize("how", ["order_by", "batch"])
async def test_lanes_and_batches_go_on_after_a_pause(url: str, until: Until, how: str) -> None:
    from eventmicro import Batch, Retry

    service, seen, fails = Service("shop", broker=url), list[int](), [True]

    async def one(event: dict[str, int]) -> None:
        seen.append(event["number"])
        if fails[0] and event["number"] == 0:
            raise ValueError("not yet")

    async def several(events: list[dict[str, int]]) -> None:
        seen.extend(each["number"] for each in events)

    topic = Topic("shop.numbers", dict[str, int])
    async with service:
        if how == "order_by":
            retry = Retry(attempts=9, backoff=60)  # its lane is held for longer than this test takes
            subscriber = await service.start_subscriber(topic, one, order_by="key", retry=retry)
        else:
            subscriber = await service.start_subscriber(topic, several, batch=Batch(2, 0.05))
        for number in range(3):
            await service.publish(topic, {"key": 1, "number": number})
        await until(lambda: seen)
        await subscriber.pause()
        fails[0] = False
        await subscriber.resume()
        await until(lambda: {0, 1, 2} <= set(seen))
        if how == "order_by":
            assert seen == [0, 0, 1, 2]


async def test_it_is_counted_in_statistics_health_and_record(url: str, until: Until) -> None:
    service, handled = Service("shop", broker=url), Handled()

    async def subscribers(client: Client) -> list[str]:
        [record] = await client.services("shop")
        return [each.name for each in record.endpoints if each.is_subscriber]

    async with service, Client(url) as client:
        assert await subscribers(client) == []
        subscriber = await service.start_subscriber(HAPPENED, handled, name="note")
        assert await subscribers(client) == ["note"]
        await client.publish(HAPPENED, 1)
        await until(lambda: handled.ended == [1])
        await subscriber.pause()
        assert (await service.health()).ready
        await subscriber.resume()
        await client.publish(HAPPENED, 2)
        await until(lambda: handled.ended == [1, 2])
        [figures] = service.statistics().subscribers
        assert (figures.name, figures.count) == ("note", 2)
        await subscriber.drain()
        assert service.statistics().subscribers == []
        assert (await service.health()).ready
        assert await subscribers(client) == []


async def test_the_stop_of_the_service_ends_it_and_waits_for_what_runs(url: str, until: Until) -> None:
    service, handled = Service("shop", broker=url), Handled()
    handled.go_on.clear()
    await service.start()
    subscriber = await service.start_subscriber(HAPPENED, handled, name="note")
    await service.publish(HAPPENED, 1)
    await until(lambda: handled.seen == [1])
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    assert handled.ended == []
    handled.go_on.set()
    await stopping
    assert handled.ended == [1]
    await subscriber.drain()
    with pytest.raises(UsageError, match="or its service has stopped"):
        await subscriber.resume()
    await service.start()
    assert service.statistics().subscribers == []
    await service.stop()


async def test_a_paused_one_is_no_trouble_to_the_stop(url: str) -> None:
    service = Service("shop", broker=url)
    async with service:
        await (await service.start_subscriber(HAPPENED, Handled(), name="note")).pause()


async def test_its_own_handler_may_pause_and_end_it(url: str, until: Until) -> None:
    service, seen, running = Service("shop", broker=url), list[int](), list[RunningSubscriber]()

    async def note(event: int) -> None:
        seen.append(event)
        await (running[0].pause() if event == 1 else running[0].drain())
        seen.append(-event)

    async with service:
        running.append(await service.start_subscriber(HAPPENED, note))
        await service.publish(HAPPENED, 1)
        await until(lambda: seen == [1, -1])
        await service.publish(HAPPENED, 2)
        await running[0].resume()
        await until(lambda: seen == [1, -1, 2, -2])
        assert service.statistics().subscribers == []


async def test_the_service_says_how_it_gets_its_events_and_middleware_runs_around_it(url: str, until: Until) -> None:
    around = list[str]()

    async def look(message: Any, context: Any, call_next: Any) -> Any:
        around.append(context.endpoint)
        return await call_next(message, context)

    service, handled = Service("shop", broker=url, delivery=DeliveryOptions(concurrency=7)), Handled()
    async with service:
        await service.start_subscriber(HAPPENED, handled, name="note", middleware=[look])
        await service.publish(HAPPENED, 1)
        await until(lambda: handled.ended == [1])
    assert around == ["note"]


async def test_it_may_be_started_in_after_start_and_not_before(url: str, until: Until) -> None:
    service, handled, refused = Service("shop", broker=url), Handled(), list[str]()

    @service.before_start
    async def too_soon() -> None:
        with pytest.raises(UsageError) as raised:
            await service.start_subscriber(HAPPENED, handled, name="note")
        refused.append(str(raised.value))

    @service.after_start
    async def begin() -> None:
        await service.start_subscriber(HAPPENED, handled, name="note")

    async with service:
        await service.publish(HAPPENED, 1)
        await until(lambda: handled.ended == [1])
    assert refused == ["service 'shop' starts, or stops: start 'note' from after_start on"]


async def test_what_is_refused(url: str) -> None:
    service, handled = Service("shop", broker=url), Handled()

    @service.rpc
    async def quote() -> None: ...

    @service.subscribe("shop.other")
    async def other(event: int) -> None: ...

    with pytest.raises(UsageError, match=r"service 'shop' is not started: declare .* by @service.subscribe"):
        await service.start_subscriber(HAPPENED, handled, name="note")
    async with service:
        await service.start_subscriber(HAPPENED, handled, name="note")
        for taken in ("quote", "other", "note"):
            with pytest.raises(UsageError, match=f"has a handler '{taken}' already; give this one a name="):
                await service.start_subscriber(HAPPENED, handled, name=taken)
        with pytest.raises(UsageError, match=r"name the same queue, 'shop\.note'"):
            await service.start_subscriber(HAPPENED, handled, name="again", queue="shop.note")

        async def wrong(event: str) -> None: ...

        with pytest.raises(SignatureError, match=r"but .* carries int"):
            await service.start_subscriber(HAPPENED, wrong)
        assert [each.name for each in service.statistics().subscribers] == ["other", "note"]
        with pytest.raises(UsageError, match=r"await service\.start_subscriber"):
            service.subscribe(HAPPENED, name="late")(handled)
    async with Service("plain", broker=f"{url}?like=kafka") as like:
        with pytest.raises(Unsupported, match=r"plain\.other needs ordered"):
            await like.start_subscriber("shop.any", other, order_by=lambda event: event)
