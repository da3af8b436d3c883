"""The limits: so many at once and in line, and so many a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventmicro import CallTimeout, Client, InternalError, Service, TooManyRequests, UsageError
from eventmicro.middlewares import ConcurrencyLimit, RateLimit, rates
from tests.unit.middlewares.kit import Called, Clock, Numbers, at, turns


def start(limit: Any, called: Called, many: int, **where: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(limit(number, at(**where), called)) for number in range(many)]


async def test_so_many_run_so_many_wait_and_the_others_are_told_when_to_come_again() -> None:
    limit, called = ConcurrencyLimit(3, queue=5), Called()
    called.gate.clear()
    calls = start(limit, called, 20)
    await turns()
    assert (called.running, limit.running, limit.waiting) == (3, 3, 5)
    called.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert outcomes[:8] == ["answer"] * 8
    refused = outcomes[8:]
    assert all(isinstance(each, TooManyRequests) and (each.retry_after or 0) > 0 for each in refused)
    assert "3 run already, and 5 wait" in str(refused[0])
    assert (called.most, limit.running, limit.waiting) == (3, 0, 0)


async def test_who_waits_gets_a_place_in_the_order_of_coming() -> None:
    limit, order = ConcurrencyLimit(1, queue=10), list[int]()

    async def call_next(message: Any, context: Any) -> None:
        order.append(message)
        await asyncio.sleep(0)

    await asyncio.gather(*(limit(number, at(), call_next) for number in range(8)))
    assert order == list(range(8))


async def test_failures_and_cancellations_give_their_places_back() -> None:
    limit, called = ConcurrencyLimit(2, queue=2), Called()
    called.gate.clear()
    calls = start(limit, called, 4)
    await turns()
    calls[0].cancel()
    calls[2].cancel()
    await turns()
    assert (called.running, limit.running, limit.waiting) == (2, 2, 0)
    called.outcome = InternalError("failed")
    called.gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert (limit.running, limit.waiting) == (0, 0)
    called.outcome = "answer"
    assert await limit(None, at(), called) == "answer"


async def test_who_gives_up_in_the_moment_of_getting_a_place_passes_it_on() -> None:
    limit, called = ConcurrencyLimit(1, queue=2), Called()
    called.gate.clear()
    first, second, third = start(limit, called, 3)
    await turns()
    called.gate.set()
    await first
    second.cancel()
    assert await third == "answer"
    await asyncio.gather(second, return_exceptions=True)
    assert (limit.running, limit.waiting) == (0, 0)


async def test_nobody_waits_beyond_the_deadline() -> None:
    limit, called = ConcurrencyLimit(1, queue=5), Called()
    called.gate.clear()
    (running,) = start(limit, called, 1)
    await turns()
    with pytest.raises(CallTimeout, match=r"orders.quote: its time was over while it waited for a place"):
        await limit(None, at(deadline=time.monotonic() + 0.01), called)
    assert limit.waiting == 0
    called.gate.set()
    await running


async def test_each_key_has_a_limit_of_its_own_and_none_is_kept_that_is_not_used() -> None:
    limit, called = ConcurrencyLimit(1, by=lambda context: context.metadata.get("Tenant", "")), Called()
    called.gate.clear()
    calls = [asyncio.create_task(limit(None, at(metadata={"Tenant": str(number)}), called)) for number in (1, 2, 3, 3)]
    await turns()
    assert (called.running, len(limit._places)) == (3, 3)
    called.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in outcomes] == [str, str, str, TooManyRequests]
    assert limit._places == {}


async def test_a_stream_holds_its_place_until_it_has_ended() -> None:
    limit = ConcurrencyLimit(1)
    stream = await limit(None, at(), Called(Numbers(2)))
    with pytest.raises(TooManyRequests):
        await limit(None, at(), Called())
    assert [number async for number in stream] == [1, 0]
    assert limit.running == 0
    stream = await limit(None, at(), Called(Numbers(2)))
    del stream  # nobody reads it any more
    assert limit.running == 0


async def test_a_stream_of_which_one_reading_is_given_up_holds_its_place_as_it_may_be_read_on() -> None:
    limit, service, gate = ConcurrencyLimit(1), Service("orders", broker="memory://limits"), asyncio.Event()

    @service.rpc
    async def count() -> AsyncIterator[int]:
        yield 1
        await gate.wait()
        yield 2
        await asyncio.Event().wait()

    async with (
        service,
        Client("memory://limits", middleware=[limit]) as client,
        client.stream("orders.count", None, int) as stream,
    ):
        assert await anext(stream) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(stream)
        assert limit.running == 1
        gate.set()
        assert await anext(stream) == 2
        assert limit.running == 1
    assert limit.running == 0


async def test_around_an_endpoint_its_caller_gets_429_with_retry_after(until: Any) -> None:
    service, gate = Service("orders", broker="memory://limits"), asyncio.Event()
    limit = ConcurrencyLimit(2)

    @service.rpc(middleware=[limit])
    async def quote() -> int:
        await gate.wait()
        return 7

    async with service, Client("memory://limits") as client:
        calls = [asyncio.create_task(client.call("orders.quote", None, int)) for _ in range(2)]
        await until(lambda: limit.running == 2)
        with pytest.raises(TooManyRequests) as caught:
            await client.call("orders.quote", None, int)
        assert caught.value.retryable
        assert caught.value.retry_after is not None
        gate.set()
        assert await asyncio.gather(*calls) == [7, 7]


async def test_around_a_service_what_it_calls_meanwhile_counts_apart() -> None:
    service = Service("orders", broker="memory://limits", middleware=[ConcurrencyLimit(1), RateLimit(0.001, burst=2)])

    @service.rpc
    async def outer() -> int:
        return await service.call("other.inner", None, int)

    other = Service("other", broker="memory://limits")

    @other.rpc
    async def inner() -> int:
        return 7

    async with service, other, Client("memory://limits") as client:
        assert [await client.call("orders.outer", None, int) for _ in range(2)] == [7, 7]
        with pytest.raises(TooManyRequests):
            await client.call("orders.outer", None, int)


async def allowed(limit: RateLimit, many: int, **where: Any) -> int:
    called = Called()
    outcomes = await asyncio.gather(*(limit(None, at(**where), called) for _ in range(many)), return_exceptions=True)
    assert all(each == "answer" or isinstance(each, TooManyRequests) for each in outcomes)
    return called.count


async def test_so_many_a_second_and_a_burst(clock: Clock) -> None:
    limit = RateLimit(10, burst=5)
    assert await allowed(limit, 20) == 5
    clock.now += 0.1001
    assert await allowed(limit, 20) == 1
    clock.now += 1.0001
    assert await allowed(limit, 20) == 5
    counted = 0
    for _ in range(1000):
        clock.now += 0.05
        counted += await allowed(limit, 3)
    assert 500 <= counted <= 505


@pytest.mark.parametrize(("side", "whose"), [("client", "this client's"), ("endpoint", "the service's")])
async def test_who_finds_all_places_taken_is_told_where_and_whose_they_are(side: str, whose: str) -> None:
    limit = ConcurrencyLimit(1)

    async def again(message: Any, context: Any) -> Any:
        return await limit(message, context, Called())

    with pytest.raises(TooManyRequests) as caught:
        await limit(None, at(side), again)
    told = f"orders.quote: 429 Too Many Requests: 1 run already, and 0 wait: that is {whose} ConcurrencyLimit"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("side", "told"),
    [
        ("client", "orders.quote: 429 Too Many Requests: it was not called: this client makes more than 4 a second"),
        ("endpoint", "orders.quote: 429 Too Many Requests: the service is asked for more than 4 a second"),
        ("publisher", "orders.quote: 429 Too Many Requests: it was not published: this client makes more than 4 a sec"),
    ],
)
async def test_who_is_refused_is_told_what_was_and_by_whom(clock: Clock, side: str, told: str) -> None:
    limit = RateLimit(4, burst=1)
    await limit(None, at(side), Called())
    with pytest.raises(TooManyRequests) as caught:
        await limit(None, at(side), Called())
    assert str(caught.value).startswith(told)


async def test_who_is_refused_is_told_when_to_come_again(clock: Clock) -> None:
    limit = RateLimit(4, burst=1)
    await limit(None, at(), Called())
    with pytest.raises(TooManyRequests, match="more than 4 a second") as caught:
        await limit(None, at(), Called())
    assert caught.value.retry_after == 0.25
    clock.now += 0.25
    assert await limit(None, at(), Called()) == "answer"


async def test_by_default_a_burst_is_what_comes_in_a_second(clock: Clock) -> None:
    assert await allowed(RateLimit(7), 20) == 7
    assert await allowed(RateLimit(0.5), 20) == 1


async def test_each_caller_has_a_bucket_of_its_own_and_their_number_is_bounded(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "KEYS", 50)
    limit = RateLimit(1, by=lambda context: context.metadata["Tenant"])
    assert [await allowed(limit, 3, metadata={"Tenant": str(number)}) for number in range(200)] == [1] * 200
    assert len(limit._due) == 50


async def test_one_may_wait_for_its_turn_but_not_beyond_its_deadline(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr(rates.asyncio, "sleep", sleep)
    limit = RateLimit(10, burst=1, wait=0.35)
    for _ in range(4):
        await limit(None, at(), Called())
    assert slept == [0.1, 0.2, 0.3]
    with pytest.raises(TooManyRequests):
        await limit(None, at(), Called())
    clock.now += 0.2
    with pytest.raises(TooManyRequests):
        await limit(None, at(deadline=time.monotonic() + 0.15), Called())
    await limit(None, at(deadline=time.monotonic() + 60), Called())
    assert slept[3:] == [0.2]


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (ConcurrencyLimit, {"limit": 0}, "limit=0"),
    (ConcurrencyLimit, {"limit": 1, "queue": -1}, "queue=-1: write how many may wait"),
    (ConcurrencyLimit, {"limit": 1, "queue": 0.5}, "queue=0.5"),
    (ConcurrencyLimit, {"limit": 1, "by": "tenant"}, "by: 'tenant' is no function"),
    (RateLimit, {"rate": 0}, "rate=0: write how many a second"),
    (RateLimit, {"rate": float("inf")}, "rate=inf"),
    (RateLimit, {"rate": 1, "burst": 0}, "burst=0"),
    (RateLimit, {"rate": 1, "by": 1}, "by: 1 is no function"),
    (RateLimit, {"rate": 1, "wait": -1}, "wait=-1"),
]


@pytest.mark.parametrize(("kind", "words", "message"), WRONG)
def test_what_is_no_limit_is_refused(kind: Any, words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**words)


@pytest.mark.parametrize("limit", [ConcurrencyLimit(1), RateLimit(1)])
def test_around_a_subscriber_there_is_none(limit: Any) -> None:
    async def take(event: int) -> None: ...

    with pytest.raises(UsageError, match=r"Limit.* never around one subscriber: leave it out"):
        Service("orders").subscribe("orders.placed", middleware=[limit])(take)


async def test_a_long_key_is_not_kept_as_it_is() -> None:
    limit, called = RateLimit(0.001, by=lambda context: context.metadata["Tenant"]), Called()
    long = "x" * 500_000
    for tenant, refused in ((long, False), (long, True), (long + "y", False)):
        outcome = await asyncio.gather(limit(None, at(metadata={"Tenant": tenant}), called), return_exceptions=True)
        assert isinstance(outcome[0], TooManyRequests) is refused
    assert max(len(key) for _, key in limit._due) < 1000
