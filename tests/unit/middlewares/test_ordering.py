"""The order: fixed for the ready-made ones, kept for those of the user, and seen at work."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventmicro import Client, Service, Side, TooManyRequests, Unavailable, UsageError, sides
from eventmicro.middleware import sides_of
from eventmicro.middlewares import (
    CircuitBreaker,
    ConcurrencyLimit,
    Deduplicate,
    Fallback,
    LogMessages,
    RateLimit,
    ReplyCache,
    State,
    Timeout,
    ValidateReplies,
    in_order,
    only,
)
from eventmicro.middlewares.ordering import ORDER
from tests.unit.middlewares.kit import Called, at

ALL: list[Any] = [
    LogMessages(),
    Fallback("instead"),
    ReplyCache(60),
    Deduplicate(),
    RateLimit(1000),
    ConcurrencyLimit(10),
    CircuitBreaker(),
    Timeout(5),
    ValidateReplies(),
]


async def mine(message: Any, context: Any, call_next: Any) -> Any:
    return await call_next(message, context)


async def other(message: Any, context: Any, call_next: Any) -> Any:
    return await call_next(message, context)


def test_all_ready_made_ones_have_a_place() -> None:
    assert [type(each) for each in ALL] == list(ORDER)


def test_whatever_the_order_in_which_they_are_given() -> None:
    assert in_order(*reversed(ALL)) == ALL
    for few in itertools.permutations(ALL[1:6]):
        assert in_order(*few) == ALL[1:6]


def test_those_of_the_user_stay_in_front_of_what_they_were_in_front_of() -> None:
    log, fallback, breaker = ALL[0], ALL[1], ALL[6]
    assert in_order(breaker, mine, fallback, other) == [mine, fallback, breaker, other]
    assert in_order(mine, other) == [mine, other]
    assert in_order(mine, log) == [mine, log]


def test_one_for_some_endpoints_alone_has_its_place_too() -> None:
    fallback = only(Fallback(0), "orders.quote")
    assert in_order(ALL[6], fallback) == [fallback, ALL[6]]


def test_one_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        in_order(mine, ALL[0], ALL[0])
    with pytest.raises(UsageError, match="middleware 7"):
        in_order(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"middleware ReplyCache is a class: give an object of it, ReplyCache\(...\)"):
        in_order(ReplyCache)  # type: ignore[arg-type]


async def test_a_refusal_is_no_failure_of_the_endpoint_and_what_stands_in_is_not_kept() -> None:
    breaker, cache, limit = CircuitBreaker(minimum=1), ReplyCache(60), RateLimit(0.001, burst=1)
    service = Service("orders", broker="memory://order")

    @service.rpc
    async def quote(sku: str) -> str:
        return sku

    around = in_order(limit, breaker, cache, Fallback("instead"))
    async with service, Client("memory://order", middleware=around) as client:
        assert await client.call("orders.quote", "tea", str) == "tea"
        assert await client.call("orders.quote", "tea", str) == "tea"  # from the cache: no turn is taken
        assert await client.call("orders.quote", "salt", str) == "instead"
        assert len(cache) == 1
        assert [circuit.state for circuit in breaker] == [State.CLOSED]
        assert [circuit.calls for circuit in breaker] == [1]


async def test_all_of_them_together_on_both_sides() -> None:
    runs: list[str] = []
    service = Service("orders", broker="memory://order", middleware=in_order(*(type_made(each) for each in ALL)))

    @service.rpc
    async def quote(sku: str) -> str:
        runs.append(sku)
        return sku

    async with service, Client("memory://order", middleware=in_order(*(type_made(each) for each in ALL))) as client:
        assert [await client.call("orders.quote", sku, str) for sku in ("tea", "salt", "tea")] == ["tea", "salt", "tea"]
    assert runs == ["tea", "salt"]


def type_made(ready: Any) -> Any:
    """Another one of the same kind."""
    words: dict[type, tuple[Any, ...]] = {Fallback: ("x",), ReplyCache: (60,), RateLimit: (9,), Timeout: (5,)}
    return ConcurrencyLimit(9) if isinstance(ready, ConcurrencyLimit) else type(ready)(*words.get(type(ready), ()))


SIDES = {
    LogMessages: set(Side),
    Timeout: set(Side),
    RateLimit: {"client", "endpoint", "publisher"},
}


@pytest.mark.parametrize("ready", ALL, ids=lambda each: type(each).__name__)
def test_each_says_on_which_sides_it_runs_and_is_refused_where_it_never_would(ready: Any) -> None:
    expected = SIDES.get(type(ready), {"client", "endpoint"})
    assert {str(side) for side in sides_of(ready)} == {str(side) for side in expected}

    async def take(event: int) -> None: ...

    async def quote() -> int:
        return 7

    service = Service("orders")
    service.rpc(middleware=[ready])(quote)
    declare = service.subscribe("orders.placed", middleware=[ready])
    if "subscriber" in expected:
        declare(take)
    else:
        with pytest.raises(UsageError, match=r"runs on the sides client and endpoint.*, never around one subscriber"):
            declare(take)


@pytest.mark.parametrize("keeps", [ReplyCache(60), Deduplicate()])
def test_what_keeps_replies_is_refused_around_a_stream_when_it_is_declared(keeps: Any) -> None:
    async def watch() -> AsyncIterator[int]:
        yield 7

    async def total(numbers: AsyncIterator[int]) -> int:
        return 7

    service = Service("orders")
    for stream in (watch, total):
        with pytest.raises(UsageError, match=rf"{stream.__name__} is a stream, which a {type(keeps).__name__} cannot"):
            service.rpc(middleware=[keeps])(stream)
    assert service.endpoints == {}


def test_a_middleware_of_the_user_is_refused_too_where_it_never_runs() -> None:
    @sides("client")
    async def sign(message: Any, context: Any, call_next: Any) -> Any:
        return await call_next(message, context)

    async def quote() -> int:
        return 7

    with pytest.raises(UsageError, match="sign runs on the sides client, never around one endpoint"):
        Service("orders").rpc(middleware=[sign])(quote)


async def test_only_these_endpoints() -> None:
    limit, called = only(RateLimit(0.001), "orders.quote", "stock.*"), Called()
    await limit(None, at(), called)
    with pytest.raises(TooManyRequests):
        await limit(None, at(), called)
    assert await limit(None, at(endpoint="pay"), called) == "answer"
    await limit(None, at("endpoint"), called)
    directed = at("endpoint")
    directed.topic = "orders.$node.7.quote"
    with pytest.raises(TooManyRequests):
        await limit(None, directed, called)
    with pytest.raises(UsageError, match=r"only: .* write endpoints"):
        only(mine, "orders")
    with pytest.raises(UsageError, match="only"):
        only(mine)


async def test_a_breaker_that_is_open_is_asked_before_anything_is_sent() -> None:
    breaker = CircuitBreaker(minimum=1, open_for=60)
    async with Client("memory://order", middleware=[breaker]) as client:
        for text in ("nobody serves", "was not called"):
            with pytest.raises(Unavailable, match=text):
                await client.call("nobody.here")
