"""The cache of replies: what is asked once, for whom it is kept, and how long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import count
from typing import Any

import attrs
import msgspec
import pytest
from pydantic import BaseModel, Field, SecretStr

from eventmicro import CallTimeout, Client, InternalError, Service, UsageError
from eventmicro.middlewares import ReplyCache
from tests.unit.middlewares.kit import Called, Clock, Numbers, at, turns


class Order(BaseModel):
    sku: str = "tea"


@dataclass
class Plain:
    sku: str = "tea"


class Line(msgspec.Struct):
    sku: str


@attrs.define
class Parcel:
    sku: str


class Odd:
    pass


async def test_what_was_asked_before_is_answered_without_asking_until_its_time_is_over(clock: Clock) -> None:
    cache, called = ReplyCache(10), Called(count().__next__)
    assert [await cache(Order(), at(), called) for _ in range(3)] == [0, 0, 0]
    clock.now += 9.9
    assert await cache(Order(), at(), called) == 0
    clock.now += 0.2
    assert await cache(Order(), at(), called) == 1
    assert (called.count, cache.hits, cache.misses, len(cache)) == (2, 3, 2, 1)


@pytest.mark.parametrize(
    "message",
    [Order(), Plain(), {"a": [1]}, "text", b"bytes", None, 7, [Order()], Line("tea"), [Line("tea")], Parcel("tea")],
    ids=lambda m: type(m).__name__,
)
async def test_equal_requests_are_one(message: Any) -> None:
    cache, called = ReplyCache(10), Called()
    for _ in range(2):
        await cache(message, at(), called)
    assert called.count == 1


async def test_requests_differ_by_body_endpoint_reply_type_and_the_headers_that_are_named() -> None:
    cache, called = ReplyCache(10, vary=["Authorization", "Tenant"]), Called()
    contexts = [
        (Order(), at()),
        (Order(sku="salt"), at()),
        (Order(), at(endpoint="pay")),
        (Order(), at(reply=int)),
        (Order(), at(metadata={"authorization": "Bearer a"})),
        (Order(), at(metadata={"Authorization": "Bearer b"})),
        (Order(), at(metadata={"Tenant": "b"})),
    ]
    for message, context in contexts * 2:
        await cache(message, context, called)
    assert called.count == len(contexts)
    await cache(Order(), at(metadata={"traceparent": "00-1"}), called)
    assert called.count == len(contexts)


class Login(BaseModel):
    user: str = "ann"
    password: SecretStr = SecretStr("")
    device: str = Field(default="", exclude=True)


@pytest.mark.parametrize("other", [Login(password=SecretStr("b")), Login(password=SecretStr("a"), device="x")])
async def test_requests_that_differ_in_what_json_does_not_show_are_not_one(other: Login) -> None:
    """Nobody gets the reply to somebody else's password, neither what is kept nor what is being fetched."""
    cache, called = ReplyCache(10), Called(count().__next__)
    first = Login(password=SecretStr("a"))
    assert [await cache(each, at(), called) for each in (first, other, other)] == [0, 1, 1]
    cache.clear()
    called.gate.clear()
    calls = [asyncio.create_task(cache(each, at(), called)) for each in (first, other)]
    await turns()
    called.gate.set()
    assert sorted(await asyncio.gather(*calls)) == [2, 3]


async def test_of_a_long_request_no_second_copy_is_kept() -> None:
    cache, called = ReplyCache(10, vary=["Tenant"]), Called(count().__next__)
    long = "x" * 500_000
    for sku, tenant, reply in ((long, long, 0), (long, long, 0), (long, "a", 1), (long + "y", long, 2)):
        assert await cache(Order(sku=sku), at(metadata={"Tenant": tenant}), called) == reply
    assert all(len(repr(key)) < 1000 for key in cache._kept)


async def test_a_key_of_ones_own_and_what_has_none() -> None:
    cache, called = ReplyCache(10, key=lambda message, context: "all"), Called()
    await cache(Odd(), at(), called)
    await cache(Order(), at(), called)
    assert called.count == 1
    with pytest.raises(UsageError, match=r"a Odd has no JSON .* write key="):
        await ReplyCache(10)(Odd(), at(), called)


async def test_of_a_stampede_one_asks_and_all_get_it() -> None:
    cache, called = ReplyCache(10), Called(count().__next__)
    called.gate.clear()
    calls = [asyncio.create_task(cache(Order(), at(), called)) for _ in range(100)]
    await turns()
    called.gate.set()
    assert await asyncio.gather(*calls) == [0] * 100
    assert called.count == 1


@pytest.mark.parametrize("leaver", [0, 5])
async def test_one_that_is_cancelled_cancels_none_of_the_others(leaver: int) -> None:
    """Not even the one that began it."""
    cache, called = ReplyCache(10), Called()
    called.gate.clear()
    calls = [asyncio.create_task(cache(Order(), at(), called)) for _ in range(10)]
    await turns()
    calls[leaver].cancel()
    await turns()
    called.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes.pop(leaver), asyncio.CancelledError)
    assert outcomes == ["answer"] * 9
    assert (called.count, called.cancelled) == (1, 0)


async def test_where_all_are_cancelled_it_is_not_asked_any_more() -> None:
    cache, called = ReplyCache(10), Called()
    called.gate.clear()
    calls = [asyncio.create_task(cache(Order(), at(), called)) for _ in range(10)]
    await turns()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert (called.count, called.cancelled, len(cache), len(cache._flights)) == (1, 1, 0, 0)
    called.gate.set()
    assert await cache(Order(), at(), called) == "answer"


async def test_who_has_more_time_than_the_one_that_asked_asks_again_together() -> None:
    cache, called = ReplyCache(10), Called(CallTimeout("the first had no time"))
    called.gate.clear()
    calls = [asyncio.create_task(cache(Order(), at(deadline=time.monotonic() + 60), called)) for _ in range(10)]
    await turns()
    called.gate.set()
    with pytest.raises(CallTimeout):
        await calls[0]
    called.outcome = "answer"
    assert await asyncio.gather(*calls[1:]) == ["answer"] * 9
    assert called.count == 2


async def test_nobody_waits_for_others_beyond_its_deadline() -> None:
    cache, called = ReplyCache(10), Called()
    called.gate.clear()
    first = asyncio.create_task(cache(Order(), at(), called))
    await turns()
    with pytest.raises(CallTimeout, match=r"orders\.quote: its time was over while it waited for the same"):
        await cache(Order(), at(deadline=time.monotonic() + 0.01), called)
    called.gate.set()
    assert await first == "answer"


async def test_errors_are_shared_and_not_kept() -> None:
    cache, called = ReplyCache(10), Called(InternalError("failed"))
    outcomes = await asyncio.gather(*(cache(Order(), at(), called) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(each, InternalError) for each in outcomes)
    assert called.count == 1
    called.outcome = "answer"
    assert await cache(Order(), at(), called) == "answer"


async def test_those_not_asked_for_the_longest_are_forgotten() -> None:
    cache, called = ReplyCache(10, size=3), Called()
    for sku in "abcad":
        await cache(Order(sku=sku), at(), called)
    assert (len(cache), called.count) == (3, 4)
    await cache(Order(sku="a"), at(), called)
    assert called.count == 4
    await cache(Order(sku="b"), at(), called)
    assert called.count == 5


async def test_replies_can_be_forgotten_by_endpoint_or_all() -> None:
    cache, called = ReplyCache(10), Called()
    for endpoint in ("quote", "pay"):
        await cache(Order(), at(endpoint=endpoint), called)
    cache.clear("orders.quote")
    assert len(cache) == 1
    cache.clear()
    assert len(cache) == 0


async def test_what_is_stale_is_returned_while_one_call_fetches_the_new_one(clock: Clock) -> None:
    cache, called = ReplyCache(10, stale=5), Called(count().__next__)
    await cache(Order(), at(), called)
    clock.now += 11
    called.gate.clear()
    assert [await cache(Order(), at(), called) for _ in range(5)] == [0] * 5
    await turns()
    assert called.count == 2
    called.gate.set()
    await turns()
    assert await cache(Order(), at(), called) == 1
    clock.now += 16
    assert await cache(Order(), at(), called) == 2


@pytest.mark.parametrize("side", ["client", "endpoint"])
async def test_it_stays_where_no_new_one_comes(clock: Clock, caplog: pytest.LogCaptureFixture, side: str) -> None:
    cache, called = ReplyCache(10, stale=5), Called("old")
    await cache(Order(), at(side), called)
    clock.now += 11
    called.outcome = InternalError("failed")
    assert await cache(Order(), at(side), called) == "old"
    await turns()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    clock.now += 5
    with pytest.raises(InternalError):
        await cache(Order(), at(side), called)


async def test_around_an_endpoint_the_first_that_finds_it_stale_waits_for_the_new_one(clock: Clock) -> None:
    """No handler runs when its caller has been answered."""
    cache, called = ReplyCache(10, stale=5), Called(count().__next__)
    await cache(Order(), at("endpoint"), called)
    clock.now += 11
    called.gate.clear()
    first = asyncio.create_task(cache(Order(), at("endpoint"), called))
    await turns()
    assert await cache(Order(), at("endpoint"), called) == 0
    called.gate.set()
    assert await first == 1


async def test_a_stream_of_requests_is_refused_before_it_is_read() -> None:
    numbers, called = Numbers(3), Called()
    with pytest.raises(UsageError, match=r"orders\.quote is a stream"):
        await ReplyCache(10)(numbers, at("endpoint"), called)
    assert (numbers.closed, called.count) == (True, 0)


async def test_a_stream_is_refused_and_closed() -> None:
    numbers = Numbers(3)
    with pytest.raises(UsageError, match=r"orders\.quote is a stream, which a ReplyCache cannot keep"):
        await ReplyCache(10)(Order(), at(), Called(numbers))
    assert numbers.closed


@pytest.mark.parametrize("where", ["client", "endpoint"])
async def test_on_either_side_the_handler_runs_once(where: str) -> None:
    service, cache = Service("orders", broker="memory://caching"), ReplyCache(60)
    runs = count(1)

    @service.rpc(middleware=[cache] if where == "endpoint" else [])
    async def quote(order: Order) -> int:
        await asyncio.sleep(0)
        return next(runs)

    async with service, Client("memory://caching", middleware=[cache] if where == "client" else []) as client:
        together = await asyncio.gather(*(client.call("orders.quote", Order(), int) for _ in range(20)))
        assert [*together, await client.call("orders.quote", Order(), int)] == [1] * 21
        assert await client.call("orders.quote", Order(sku="salt"), int) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"ttl": 0}, "ttl=0"),
        ({"ttl": 1, "stale": -1}, "stale=-1"),
        ({"ttl": 1, "size": 0}, "size=0"),
        ({"ttl": 1, "key": "sku"}, "key: 'sku' is no function"),
        ({"ttl": 1, "vary": "Tenant"}, r"vary='Tenant': write a list, vary=\['Tenant'\]"),
    ],
)
def test_what_is_no_cache_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ReplyCache(**words)
