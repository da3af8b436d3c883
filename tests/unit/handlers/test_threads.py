"""threads: plain `def` handlers run in threads, with the context, the deadline and the outcomes of any other."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from eventmicro import (
    BadRequest,
    CallTimeout,
    Client,
    Context,
    Depends,
    InternalError,
    Retry,
    Service,
    SignatureError,
    Topic,
    UsageError,
    current_context,
    from_thread,
)
from eventmicro.handlers.threads import InThreads, Threads

URL = "memory://threads"


class Number(BaseModel):
    value: int = 0


SEEN = Topic("numbers.seen", Number)


def make(**options: Any) -> Service:
    return Service("numbers", broker=URL, **options)


async def settled(condition: Callable[[], object]) -> None:
    """Wait until something is so; pytest's own timeout ends what never is."""
    while not condition():
        await asyncio.sleep(0.001)


async def test_a_plain_handler_answers_from_another_thread() -> None:
    service, main = make(), threading.get_ident()

    @service.rpc
    def double(request: Number) -> Number:
        assert threading.get_ident() != main
        return Number(value=2 * request.value)

    async with service, Client(URL) as client:
        assert await client.call("numbers.double", Number(value=4), Number) == Number(value=8)


async def test_what_blocks_holds_up_nobody_else() -> None:
    service, go_on = make(), threading.Event()

    @service.rpc
    def slow() -> int:
        assert go_on.wait(10)
        return 1

    @service.rpc
    async def fast() -> int:
        return 2

    async with service, Client(URL) as client:
        waiting = asyncio.create_task(client.call("numbers.slow", reply=int))
        assert await client.call("numbers.fast", reply=int) == 2
        assert not waiting.done()
        go_on.set()
        assert await waiting == 1


variable = contextvars.ContextVar("variable", default="unset")


async def test_context_deadline_and_variables_are_those_of_the_message() -> None:
    service = make(lifespan=plain_lifespan)

    async def around(message: Any, context: Context, call_next: Any) -> Any:
        variable.set("set around it")
        return await call_next(message, context)

    @service.rpc(middleware=[around])
    def look(context: Context) -> list[str]:
        assert current_context() is context
        left = context.remaining()
        assert left is not None
        assert 5 < left <= 7
        return [context.metadata["Reader"], context.state, variable.get()]

    async with service, Client(URL) as client:
        said = await client.call("numbers.look", None, list[str], metadata={"Reader": "Ada"}, timeout=7)
    assert said == ["Ada", "opened", "set around it"]


async def test_what_it_raises_is_its_outcome() -> None:
    service = make()

    @service.rpc
    def refuse() -> None:
        raise BadRequest("no")

    @service.rpc
    def fail() -> None:
        raise StopIteration

    async with service, Client(URL) as client:
        with pytest.raises(BadRequest, match="no"):
            await client.call("numbers.refuse")
        with pytest.raises(InternalError, match="the endpoint failed"):
            await client.call("numbers.fail")


async def test_a_plain_subscriber_handles_events_in_order() -> None:
    service, seen = make(), list[int]()

    @service.subscribe(SEEN)
    def look(number: Number) -> None:
        seen.append(number.value)

    async with service:
        for value in range(20):
            await service.publish(SEEN, Number(value=value))
        await settled(lambda: len(seen) == 20)
    assert seen == list(range(20))


async def test_from_thread_awaits_in_the_event_loop_with_the_handler_s_deadline() -> None:
    service, seen = make(), list[int]()

    @service.subscribe(SEEN)
    async def look(number: Number) -> None:
        seen.append(number.value)

    @service.rpc
    async def left(context: Context) -> bool:
        return (context.remaining() or 0) <= 7

    @service.rpc
    def ask() -> bool:
        from_thread(service.publish(SEEN, Number(value=3)))
        return from_thread(service.call("numbers.left", None, bool, timeout=60))

    async with service, Client(URL) as client:
        assert await client.call("numbers.ask", None, bool, timeout=7)
        await settled(lambda: seen == [3])


async def test_from_thread_elsewhere_is_refused_with_what_to_write() -> None:
    service = make()

    @service.rpc
    async def ask() -> None:
        from_thread(asyncio.sleep(0))

    with pytest.raises(UsageError, match="this is none: write `await` instead"):
        from_thread(asyncio.sleep(0))
    async with service, Client(URL) as client:
        with pytest.raises(InternalError):
            await client.call("numbers.ask")


async def test_no_more_run_than_there_are_threads_and_one_that_waits_is_not_begun_when_it_is_given_up() -> None:
    service, go_on, begun = make(threads=2), threading.Event(), list[int]()

    @service.rpc
    def slow(request: Number) -> int:
        begun.append(request.value)
        assert go_on.wait(10)
        return request.value

    async with service, Client(URL) as client:
        first = [asyncio.create_task(client.call("numbers.slow", Number(value=n), int)) for n in (1, 2)]
        await settled(lambda: len(begun) == 2)
        third = asyncio.create_task(client.call("numbers.slow", Number(value=3), int))
        await asyncio.sleep(0)
        third.cancel()
        fourth = asyncio.create_task(client.call("numbers.slow", Number(value=4), int))
        await asyncio.wait([third])
        go_on.set()
        assert await asyncio.gather(*first, fourth) == [1, 2, 4]
    assert sorted(begun) == [1, 2, 4]


async def test_a_caller_has_its_outcome_and_the_place_stays_taken_until_the_thread_ends() -> None:
    service, go_on, begun = make(), threading.Event(), list[int]()

    @service.rpc(concurrency=1, timeout=0.5)
    def slow(request: Number) -> int:
        begun.append(request.value)
        assert go_on.wait(10) or request.value
        return request.value

    async with service, Client(URL) as client:
        with pytest.raises(CallTimeout, match="own timeout of 0"):
            await client.call("numbers.slow", Number(value=1), int)
        with pytest.raises(CallTimeout):
            await client.call("numbers.slow", Number(value=2), int, timeout=0.05)
        assert begun == [1]
        go_on.set()
        assert await client.call("numbers.slow", Number(value=3), int, timeout=5) == 3
    assert begun == [1, 3]


def threading_names(part: str) -> list[str]:
    return [each.name for each in threading.enumerate() if part in each.name]


async def test_a_handler_that_is_given_up_gets_a_cancelled_error_from_what_it_awaits() -> None:
    service, ended = make(), list[str]()

    @service.rpc(timeout=0.05)
    def wait() -> None:
        try:
            from_thread(asyncio.Event().wait())
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with service, Client(URL) as client:
        with pytest.raises(CallTimeout):
            await client.call("numbers.wait")
        await settled(lambda: ended)
    assert ended == ["cancelled"]


@pytest.mark.parametrize("order_by", [None, "value"])
async def test_an_event_whose_time_is_over_comes_again_behind_its_thread(order_by: str | None) -> None:
    service, go_on, attempts, at_once = make(), threading.Event(), list[int](), list[int]()

    @service.subscribe(SEEN, timeout=0.5, retry=Retry(attempts=3, backoff=0.001, jitter=0), order_by=order_by)
    def look(number: Number, context: Context) -> None:
        attempts.append(context.attempt)
        at_once.append(0)
        if context.attempt == 1:
            assert go_on.wait(10)
        at_once.pop()

    async with service:
        await service.publish(SEEN, Number())
        await settled(lambda: attempts == [1])
        await asyncio.sleep(0.6)  # past the timeout and the backoff: it would have begun
        assert attempts == [1]
        go_on.set()
        await settled(lambda: len(attempts) == 2 and not at_once)
    assert attempts == [1, 2]


async def test_a_stop_waits_for_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    service, go_on, done = make(), threading.Event(), list[int]()
    begun = threading.Event()

    @service.rpc
    def slow() -> None:
        begun.set()
        assert go_on.wait(10)
        done.append(1)

    async with Client(URL) as client:
        await service.start()
        call = asyncio.create_task(client.call("numbers.slow"))
        await settled(begun.is_set)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
        go_on.set()
        await stopping
        await call
    assert done == [1]


async def test_a_stop_ends_within_its_time_and_names_what_still_runs(caplog: pytest.LogCaptureFixture) -> None:
    service, go_on, begun = make(stop_timeout=0.05), threading.Event(), threading.Event()

    @service.rpc
    def stuck() -> None:
        begun.set()
        go_on.wait(30)

    try:
        async with Client(URL) as client:
            await service.start()
            call = asyncio.create_task(client.call("numbers.stuck"))
            await settled(begun.is_set)
            with caplog.at_level(logging.WARNING):
                await service.stop()
            with pytest.raises(InternalError, match="the service stopped before the call was finished"):
                await call
        assert "numbers.stuck: 1 ignored being cancelled, as a thread does, and still run" in caplog.text
    finally:
        go_on.set()


# -- dependencies --------------------------------------------------------------------------------------------------


where: dict[str, int] = {}
ended: list[str] = []


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    where.clear()
    ended.clear()


def plain(context: Context) -> Iterator[str]:
    where["plain"] = threading.get_ident()
    try:
        yield "plain"
    finally:
        where["closed"] = threading.get_ident()
        ended.append("plain")


def needed() -> str:
    where["needed"] = threading.get_ident()
    return "needed"


async def awaited(of: Annotated[str, Depends(needed)]) -> AsyncIterator[str]:
    where["awaited"] = threading.get_ident()
    yield f"awaited {of}"
    ended.append("awaited")


async def test_plain_dependencies_run_in_the_handler_s_thread_and_awaited_ones_in_the_event_loop() -> None:
    service = make()

    @service.rpc
    def look(
        request: Number, first: Annotated[str, Depends(plain)], second: Annotated[str, Depends(awaited)]
    ) -> list[str]:
        where["handler"] = threading.get_ident()
        return [first, second]

    async with service, Client(URL) as client:
        assert await client.call("numbers.look", Number(), list[str]) == ["plain", "awaited needed"]
    here = threading.get_ident()
    assert where["needed"] == where["awaited"] == here
    assert where["plain"] == where["closed"] == where["handler"] != here
    assert ended == ["plain", "awaited"]


def transaction() -> Iterator[str]:
    try:
        yield ""
    except BadRequest:
        ended.append("rolled back")
        raise


async def test_a_transaction_sees_what_the_handler_raises() -> None:
    service = make()

    @service.rpc
    def fail(_: Annotated[str, Depends(transaction)]) -> None:
        raise BadRequest("no")

    async with service, Client(URL) as client:
        with pytest.raises(BadRequest):
            await client.call("numbers.fail")
    assert ended == ["rolled back"]


# -- streams -------------------------------------------------------------------------------------------------------


async def test_a_plain_generator_serves_a_stream_and_is_closed_behind_it() -> None:
    service, main = make(), threading.get_ident()

    @service.rpc
    def count(request: Number, base: Annotated[str, Depends(plain)]) -> Iterator[Number]:
        try:
            for value in range(request.value):
                assert threading.get_ident() != main
                assert base == "plain"
                yield Number(value=value)
        finally:
            ended.append("handler")

    async with service, Client(URL) as client:
        async with client.stream("numbers.count", Number(value=3), Number) as numbers:
            assert [number.value async for number in numbers] == [0, 1, 2]
        assert ended == ["handler", "plain"]
        async with client.stream("numbers.count", Number(value=10**9), Number) as numbers:
            async for _ in numbers:
                break
        await settled(lambda: len(ended) == 4)
    assert ended == ["handler", "plain"] * 2


async def test_a_generator_that_is_given_up_within_a_step_is_closed_behind_it() -> None:
    threads, go_on, ended = Threads("test"), threading.Event(), list[str]()

    begun = threading.Event()

    def count() -> Generator[int, None, None]:
        try:
            yield 1
            begun.set()
            go_on.wait(10)
            yield 2
        finally:
            ended.append("closed")

    held = list[asyncio.Future[None]]()
    values = InThreads(threads)
    values.hold = held.append

    async def read() -> None:
        async for _ in values.iterate(count):
            pass

    reading = asyncio.create_task(read())
    await settled(begun.is_set)
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert (len(held), ended) == (1, [])
    go_on.set()
    await held[0]
    await settled(lambda: ended)
    threads.close()


WRONG: list[tuple[Any, str]] = []


def wrong(words: str) -> Callable[[Any], Any]:
    def note(function: Any) -> Any:
        WRONG.append((function, words))
        return function

    return note


@wrong("it yields, so write `-> Iterator\\[YourModel\\]`")
def says_no_iterator() -> Number:  # type: ignore[misc]
    yield Number()


@wrong("a stream is an Iterator, so write `Iterator\\[...\\]`")
def says_async() -> AsyncIterator[Number]:  # type: ignore[misc]
    yield Number()


@wrong("it returns an Iterator and does not yield; write `yield`")
def returns_one() -> Iterator[Number]:
    return iter([Number()])


@wrong("it reads a stream, which is awaited message by message; write `async def`")
def reads(numbers: AsyncIterator[Number]) -> None: ...


@pytest.mark.parametrize(("function", "words"), WRONG)
def test_what_cannot_be_a_plain_stream_is_refused_with_what_to_write(function: Any, words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        make().rpc(function)


async def test_a_plain_function_that_gives_an_awaitable_is_awaited() -> None:
    service = make()

    async def inner(request: Number) -> Number:
        return Number(value=request.value + 1)

    @service.rpc
    def outer(request: Number) -> Number:
        return inner(request)  # type: ignore[return-value]

    async with service, Client(URL) as client:
        assert await client.call("numbers.outer", Number(value=1), Number) == Number(value=2)


# -- lifespans -----------------------------------------------------------------------------------------------------

opened: list[tuple[str, int]] = []


def plain_lifespan() -> Iterator[str]:
    opened.append(("opened", threading.get_ident()))
    yield "opened"
    opened.append(("closed", threading.get_ident()))


@contextmanager
def marked() -> Iterator[str]:
    yield from plain_lifespan()


@pytest.mark.parametrize("lifespan", [plain_lifespan, marked])
async def test_a_plain_lifespan_is_entered_and_left_in_a_thread(lifespan: Any) -> None:
    opened.clear()
    async with make(lifespan=lifespan):
        assert [what for what, _ in opened] == ["opened"]
    assert [what for what, _ in opened] == ["opened", "closed"]
    assert threading.get_ident() not in {thread for _, thread in opened}


async def test_a_plain_lifespan_that_fails_undoes_the_start() -> None:
    def fails() -> Iterator[None]:
        raise RuntimeError("no database")
        yield

    service = make(lifespan=fails)
    with pytest.raises(RuntimeError, match="no database"):
        await service.start()
    await service.stop()


async def test_threads_end_with_their_service() -> None:
    service = Service("ending", broker=URL)

    @service.rpc
    def nothing() -> None: ...

    async with service, Client(URL) as client:
        await client.call("ending.nothing")
        assert threading_names("eventmicro-ending") == ["eventmicro-ending-1"]
    await settled(lambda: not threading_names("eventmicro-ending"))
