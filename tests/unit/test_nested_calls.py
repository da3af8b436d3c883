"""What becomes of a handler whose own call fails, or that leaves tasks behind: of its caller, and of its event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Batch, CallRetry, Client, Context, Retry, Service, Topic
from eventmicro.errors import (
    Disconnected,
    Forbidden,
    InternalError,
    NotFound,
    Reject,
    ServiceError,
    TooManyRequests,
    Unavailable,
)

URL = "memory://nested"
PLACED = Topic("orders.placed", int)
Until = Callable[[Callable[[], object]], Awaitable[None]]


def patience_with(endpoint: str) -> float:
    """How long a call may wait: one that is never answered shortly, all others as long as a busy machine takes."""
    return 0.02 if endpoint == "inner.hanging" else 10


def inner() -> Service:
    service = Service("inner", broker=URL)

    @service.rpc
    async def missing() -> int:
        raise NotFound("no such sku")

    @service.rpc
    async def busy() -> int:
        raise TooManyRequests("too many at once", retry_after=7)

    @service.rpc
    async def closed() -> int:
        raise Unavailable("closed until Monday", retryable=False)

    @service.rpc
    async def failing() -> int:
        raise ValueError("secret")

    @service.rpc
    async def hanging() -> int:
        await asyncio.sleep(60)
        return 1

    return service


def front(**words: Any) -> Service:
    """Endpoints that let the error of their own call pass."""
    service = Service("front", broker=URL, **words)

    @service.rpc
    async def ask(endpoint: str) -> int:
        return await service.call(endpoint, None, int, timeout=patience_with(endpoint))

    @service.rpc
    async def ask_in_group(endpoint: str) -> int:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(service.call(endpoint, None, int, timeout=patience_with(endpoint)))
        return call.result()

    @service.rpc
    async def ask_in_stream(endpoint: str) -> AsyncIterator[int]:
        yield await service.call(endpoint, None, int, timeout=patience_with(endpoint))

    @service.rpc
    async def away() -> None:
        raise Disconnected("amqp://stock is away")

    @service.rpc
    async def own_in_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_refuse())

    return service


async def _refuse() -> None:
    raise Forbidden("not you")


# -- its caller ------------------------------------------------------------------------------------------------

PASSED = [
    # what was asked, what the caller gets, whether a second try may succeed
    ("nobody.there", Unavailable, True),
    ("inner.hanging", Unavailable, True),
    ("inner.closed", Unavailable, False),
    ("inner.missing", InternalError, False),
    ("inner.failing", InternalError, False),
    ("inner.busy", InternalError, False),
]


@pytest.mark.parametrize("how", ["ask", "ask_in_group", "ask_in_stream"])
@pytest.mark.parametrize(("asked", "kind", "retryable"), PASSED, ids=[case[0] for case in PASSED])
async def test_no_answer_of_a_nested_call_is_503_and_all_else_500(
    how: str, asked: str, kind: type[ServiceError], retryable: bool
) -> None:
    async with inner(), front(), Client(URL) as client:
        is_stream = how == "ask_in_stream"
        asking = anext(aiter(client.stream(f"front.{how}", asked, int))) if is_stream else None
        with pytest.raises(kind) as caught:
            await (asking or client.call(f"front.{how}", asked, int))
    error = caught.value
    assert type(error) is kind
    assert (error.id, error.retryable) == (f"front.{how}", retryable)
    assert not {"nobody", "hanging", "Monday", "sku", "secret"} & set(error.detail.replace(".", " ").split())


async def test_a_broker_that_is_away_is_503_too_and_an_error_of_its_own_comes_out_of_a_group() -> None:
    async with front(), Client(URL) as client:
        with pytest.raises(Unavailable, match="a broker that the endpoint needs is away") as caught:
            await client.call("front.away")
        assert caught.value.retryable
        with pytest.raises(Forbidden, match="not you"):
            await client.call("front.own_in_group")


async def test_the_log_says_in_a_line_who_did_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with front(), Client(URL) as client:
        with pytest.raises(Unavailable):
            await client.call("front.ask", "nobody.there", int)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.levelname, record.exc_info) for record in lines] == [("ERROR", None)]
    assert "nobody serves nobody.there" in caplog.text


async def test_the_outer_caller_makes_it_again() -> None:
    policy = CallRetry(attempts=3, backoff=0)
    async with front(), Client(URL, retry=policy) as client:
        with pytest.raises(Unavailable) as caught:
            await client.call("front.ask", "nobody.there", int)
    assert caught.value.attempts == 3


# -- its event -------------------------------------------------------------------------------------------------

EVENTS = [
    # what its handler asks, how often it is handed over, what the dead letter says
    ("inner.missing", 1, "failed once, by NotFound: inner.missing: 404 Not Found: no such sku"),
    ("inner.failing", 3, "failed 3 times, the last time by InternalError: inner.failing: 500"),
    ("nobody.there", 3, "failed 3 times, the last time by Unavailable: nobody.there: 503"),
    ("inner.hanging", 3, "failed 3 times, the last time by CallTimeout: inner.hanging: 408"),
]


@pytest.mark.parametrize(("asked", "attempts", "reason"), EVENTS, ids=[case[0] for case in EVENTS])
async def test_an_event_is_tried_again_where_that_may_help(
    asked: str, attempts: int, reason: str, until: Until
) -> None:
    service, seen, letters = Service("orders", broker=URL), list[int](), list[str]()

    @service.subscribe(PLACED, retry=Retry(attempts=3, backoff=0))
    async def bill(order: int, context: Context) -> None:
        seen.append(context.attempt)
        await service.call(asked, None, int, timeout=patience_with(asked))

    @service.subscribe("dead.orders.bill")
    async def note(letter: int, context: Context) -> None:
        letters.append(context.metadata["Dead-Letter-Reason"])

    async with inner(), service, Client(URL) as client:
        await client.publish(PLACED, 1)
        await until(lambda: letters)
    assert seen == list(range(1, attempts + 1))
    assert len(letters) == 1
    assert letters[0].startswith(reason)


# -- what it leaves behind -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["at once", "later", "stream", "fails"])
async def test_a_task_that_outlives_its_handler_does_not_inherit_its_deadline(how: str) -> None:
    service, go = Service("front", broker=URL, timeout=60), asyncio.Event()
    left: asyncio.Queue[tuple[bool, float]] = asyncio.Queue()
    during: list[float | None] = []
    tasks: list[asyncio.Task[None]] = []

    async def go_on(context: Context) -> None:
        during.append(context.remaining())
        await go.wait()
        left.put_nowait((context.ended, await service.call("front.look", None, float)))

    @service.rpc
    async def look(context: Context) -> float:
        return context.remaining() or 0.0

    @service.rpc
    async def leave(context: Context) -> None:
        tasks.append(asyncio.create_task(go_on(context)))
        if how != "at once":
            await asyncio.sleep(0)
        if how == "fails":
            raise NotFound("no")

    @service.rpc
    async def leave_in_stream(context: Context) -> AsyncIterator[int]:
        tasks.append(asyncio.create_task(go_on(context)))
        yield 1

    async with service, Client(URL) as client:
        if how == "stream":
            assert [each async for each in client.stream("front.leave_in_stream", None, int, timeout=2)] == [1]
        elif how == "fails":
            with pytest.raises(NotFound):
                await client.call("front.leave", timeout=2)
        else:
            await client.call("front.leave", timeout=2)
        go.set()
        ended, nested = await left.get()
        assert ended
        assert nested > 2
        await asyncio.gather(*tasks)
    assert all(each is None or each <= 2 for each in during)


async def test_the_deadline_is_that_of_the_handler_as_long_as_it_runs() -> None:
    service = Service("front", broker=URL, timeout=60)

    @service.rpc
    async def look(context: Context) -> float:
        return context.remaining() or 0.0

    @service.rpc
    async def ask(context: Context) -> float:
        return await asyncio.create_task(service.call("front.look", None, float))

    async with service, Client(URL) as client:
        assert await client.call("front.ask", None, float, timeout=2) <= 2


@pytest.mark.parametrize("words", [{}, {"batch": Batch(2, 0)}, {"order_by": lambda order: order}])
@pytest.mark.parametrize("fails", [False, True])
async def test_the_context_of_an_event_says_too_that_its_handler_has_ended(
    words: Any, fails: bool, until: Until
) -> None:
    service, contexts, during = Service("orders", broker=URL), list[Context](), list[bool]()
    kind: Any = list[int] if "batch" in words else int

    async def bill(order: Any, context: Context) -> None:
        contexts.append(context)
        during.append(context.ended)
        if fails:
            raise Reject("no")

    bill.__annotations__["order"] = kind
    service.subscribe(PLACED, **words)(bill)
    async with service, Client(URL) as client:
        await client.publish(PLACED, 1)
        await until(lambda: contexts and contexts[0].ended)
    assert not during[0]
