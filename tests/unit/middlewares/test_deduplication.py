"""De-duplication: what comes twice under one id runs once."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from eventmicro import (
    BadRequest,
    CallRetry,
    Client,
    Conflict,
    Context,
    InternalError,
    MemoryBroker,
    Service,
    UsageError,
)
from eventmicro.middlewares import Deduplicate
from tests.unit.middlewares.kit import Called, Clock, Numbers, at, turns


def request(id: str = "7", **more: str) -> Context:
    return at("endpoint", metadata={"Request-Id": id, **more})


async def test_the_same_id_gets_the_same_reply_for_a_while(clock: Clock) -> None:
    once, called = Deduplicate(window=60), Called(count().__next__)
    assert [await once("x", request(), called) for _ in range(3)] == [0, 0, 0]
    assert await once("x", request("8"), called) == 1
    clock.now += 60
    assert await once("x", request(), called) == 2
    assert (called.count, len(once)) == (3, 1)


async def test_without_an_id_each_is_handled() -> None:
    once, called = Deduplicate(), Called(count().__next__)
    assert [await once("x", at("endpoint"), called) for _ in range(3)] == [0, 1, 2]


async def test_one_that_comes_while_the_first_runs_waits_for_it_whoever_gives_up() -> None:
    once, called = Deduplicate(), Called(count().__next__)
    called.gate.clear()
    calls = [asyncio.create_task(once("x", request(), called)) for _ in range(5)]
    await turns()
    calls[0].cancel()
    await turns()
    called.gate.set()
    assert await asyncio.gather(*calls[1:]) == [0] * 4
    assert (called.count, called.cancelled) == (1, 0)
    await asyncio.gather(calls[0], return_exceptions=True)


async def test_a_handler_for_which_nobody_waits_is_cancelled_and_may_run_again() -> None:
    once, called = Deduplicate(), Called()
    called.gate.clear()
    call = asyncio.create_task(once("x", request(), called))
    await turns()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (called.cancelled, len(once)) == (1, 0)
    called.gate.set()
    assert await once("y", request(), called) == "answer"


async def test_one_that_comes_while_the_first_is_being_cancelled_waits_for_its_end_and_runs() -> None:
    """As where a client gives an attempt up, and makes the next one at once."""
    once, running, runs, ended = Deduplicate(), 0, list[int](), asyncio.Event()

    async def handle(message: Any, context: Context) -> str:
        nonlocal running
        running += 1
        runs.append(running)
        try:
            if len(runs) == 1:
                await asyncio.Event().wait()
            return "answer"
        finally:
            if len(runs) == 1:
                await ended.wait()  # it gives back what it holds
            running -= 1

    first = asyncio.create_task(once("x", request(), handle))
    await turns()
    first.cancel()
    await turns()
    again = asyncio.create_task(once("x", request(), handle))
    await turns()
    assert not again.done()
    ended.set()
    assert await again == "answer"
    assert runs == [1, 1]
    await asyncio.gather(first, return_exceptions=True)


async def test_a_handler_that_was_cancelled_may_have_run_and_nobody_is_told_to_make_the_call_again() -> None:
    async def handle(message: Any, context: Context) -> None:
        raise asyncio.CancelledError

    with pytest.raises(InternalError) as raised:
        await Deduplicate()("x", request(), handle)
    assert not raised.value.retryable


async def test_a_handler_that_changes_its_request_makes_no_other_one_of_it() -> None:
    once = Deduplicate()

    async def handle(message: list[int], context: Context) -> int:
        message.append(7)
        return len(message)

    assert [await once([1], request(), handle) for _ in range(2)] == [2, 2]


async def test_an_error_that_json_cannot_hold_is_raised_as_it_is_and_not_kept() -> None:
    once, called = Deduplicate(), Called(BadRequest("no", errors=[{"limit": float("inf")}]))
    for _ in range(2):
        with pytest.raises(BadRequest):
            await once("x", request(), called)
    assert (called.count, len(once)) == (2, 0)


async def test_a_long_id_is_not_kept_as_it_is() -> None:
    once, called = Deduplicate(), Called(count().__next__)
    long = "x" * 500_000
    assert [await once("x", request(each), called) for each in (long, long, long + "y")] == [0, 0, 1]
    assert all(len(part) < 1000 for key in once._done for part in key)


async def test_an_error_that_would_be_the_same_again_is_kept_and_a_failure_is_not() -> None:
    for error, runs in (
        (BadRequest("no", errors=[{"loc": ["sku"]}]), 1),
        (InternalError("failed"), 3),
        (KeyError(), 3),
    ):
        once, called = Deduplicate(), Called(error)
        caught: list[Any] = []
        for _ in range(3):
            with pytest.raises(type(error)) as raised:
                await once("x", request(), called)
            caught.append(raised.value)
        assert called.count == runs
        if runs == 1:
            assert {(each.code, each.detail, str(each.errors)) for each in caught} == {
                (400, "no", "[{'loc': ['sku']}]")
            }
            assert caught[1] is not caught[2]


async def test_the_error_of_a_nested_call_is_a_failure() -> None:
    error = BadRequest("of another service")
    error.received = True
    once, called = Deduplicate(), Called(error)
    for _ in range(2):
        with pytest.raises(BadRequest):
            await once("x", request(), called)
    assert called.count == 2


async def test_an_id_is_for_one_request_alone() -> None:
    once, called = Deduplicate(), Called()
    called.gate.clear()
    first = asyncio.create_task(once("x", request(), called))
    await turns()
    with pytest.raises(Conflict, match="this id was used for another request"):
        await once("y", request(), called)
    called.gate.set()
    await first
    with pytest.raises(Conflict):
        await once("y", request(), called)
    assert called.count == 1


async def test_nobody_gets_what_was_replied_to_another_caller() -> None:
    once, called = Deduplicate(), Called(count().__next__)
    assert [await once("x", request(Authorization=who), called) for who in ("a", "b", "a")] == [0, 1, 0]


async def test_the_oldest_are_forgotten() -> None:
    once, called = Deduplicate(size=3), Called()
    for number in range(50):
        await once("x", request(str(number)), called)
    assert len(once) == 3


async def test_a_call_gets_an_id_where_it_has_none() -> None:
    once, called = Deduplicate(header="Idempotency-Key"), Called()
    with_one, without = at(metadata={"idempotency-key": "7"}), at()
    await once("x", with_one, called)
    await once("x", without, called)
    assert with_one.metadata == {"idempotency-key": "7"}
    assert len(without.metadata["Idempotency-Key"]) == 32


class Loses(MemoryBroker):
    """Loses the first reply."""

    lost = 0

    def try_send(self, subject: str, *arguments: Any, **words: Any) -> bool:
        if subject.startswith("_INBOX") and not self.lost:
            self.lost += 1
            return True
        return super().try_send(subject, *arguments, **words)


async def test_all_attempts_of_a_call_have_one_id_so_that_a_handler_runs_once() -> None:
    service = Service("orders", broker=Loses("memory://once"))
    seen: list[str] = []

    @service.rpc(middleware=[Deduplicate()])
    async def pay(context: Context) -> int:
        seen.append(context.metadata["Request-Id"])
        return 7

    retry = CallRetry(attempt_timeout=0.05, backoff=0)
    async with service, Client("memory://once", middleware=[Deduplicate()]) as client:
        assert await client.call("orders.pay", None, int, retry=retry, idempotent=True) == 7
        assert client._caller.retries.budget("orders.pay").spent == 1
        assert len(seen) == 1
        await client.call("orders.pay", None, int)
    assert len(set(seen)) == 2


async def test_a_stream_of_requests_is_refused_before_it_is_read() -> None:
    numbers, called = Numbers(3), Called()
    with pytest.raises(UsageError, match=r"orders\.quote is a stream"):
        await Deduplicate()(numbers, request(), called)
    assert (numbers.closed, called.count) == (True, 0)


async def test_a_stream_is_refused() -> None:
    numbers = Numbers(3)
    with pytest.raises(UsageError, match=r"orders\.quote is a stream"):
        await Deduplicate()("x", request(), Called(numbers))
    assert numbers.closed


@pytest.mark.parametrize(
    ("words", "message"),
    [({"window": 0}, "window=0"), ({"size": 0}, "size=0"), ({"header": "a b"}, "metadata name 'a b'")],
)
def test_what_is_none_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Deduplicate(**words)


async def test_a_handler_that_ends_well_though_it_was_given_up_has_run_once() -> None:
    once, runs, go_on = Deduplicate(), count(), asyncio.Event()

    async def handle(message: Any, context: Context) -> int:
        number = next(runs)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go_on.wait()  # what it has begun it brings to its end
        return number

    first = asyncio.create_task(once("x", request(), handle))
    await turns()
    first.cancel()
    await turns()
    again = asyncio.create_task(once("x", request(), handle))
    await turns()
    go_on.set()
    assert await again == 0
    assert await once("x", request(), handle) == 0
    assert (next(runs), len(once)) == (1, 1)
    await asyncio.gather(first, return_exceptions=True)
