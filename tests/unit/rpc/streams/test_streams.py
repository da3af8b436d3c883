"""The three kinds of streams as their users have them: messages, ends, errors, deadlines, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from eventmicro import Client, MemoryBroker, Service
from eventmicro.broker import Capabilities
from eventmicro.context import Context, current_context
from eventmicro.errors import (
    BadRequest,
    CallTimeout,
    DecodeError,
    EncodeError,
    InternalError,
    MessageTooLarge,
    NotFound,
    ServiceError,
    StreamCancelled,
    StreamEnded,
    Unavailable,
    Unsupported,
    UsageError,
)
from tests.unit.rpc.streams.kit import Number, Streaming, open_streams, read

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://streams"


async def values(stream: AsyncIterator[Number]) -> list[int]:
    return [number.value async for number in stream]


async def test_a_server_stream_is_read_to_its_end() -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        assert await values(client.stream("numbers.count", Number(value=5), Number)) == [0, 1, 2, 3, 4]
        assert streaming.outcomes == [None]
        assert (streaming.open_streams, open_streams(client)) == (0, 0)


async def test_a_client_stream_has_one_reply() -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async with client.stream("numbers.total", reply=Number) as numbers:
            for value in range(100):
                await numbers.send(Number(value=value))
            assert await numbers.reply() == Number(value=4950)
        assert streaming.outcomes == [None]


async def test_a_bidirectional_stream_answers_each_message_and_ends_when_the_caller_does() -> None:
    async with Streaming().service, Client(URL) as client, client.stream("numbers.double", reply=Number) as numbers:
        for value in range(3):
            await numbers.send({"value": value})
            assert await anext(numbers) == Number(value=2 * value)
        await numbers.end()
        assert await values(numbers) == []
        await numbers.end()
        with pytest.raises(UsageError, match=r"after end\(\)"):
            await numbers.send(Number())


async def test_without_async_with_nobody_sends_and_the_handler_reads_none() -> None:
    async with Streaming().service, Client(URL) as client:
        assert await values(client.stream("numbers.double", reply=Number)) == []
        assert await client.stream("numbers.total", reply=Number).__anext__() == Number(value=0)


async def test_a_service_opens_streams_of_others_within_the_handlers_deadline() -> None:
    outer = Service("outer", broker=URL)
    deadlines: list[float | None] = []

    @outer.rpc
    async def add(request: Number, context: Context) -> Number:
        async with outer.stream("numbers.wait", request, Number) as numbers:
            deadlines.append(context.deadline)
            return Number(value=sum([number.value async for number in numbers]))

    async with (streaming := Streaming()).service, outer, Client(URL) as client:
        call = asyncio.ensure_future(client.call("outer.add", Number(value=2), Number, timeout=0.6))
        with pytest.raises(CallTimeout):
            await call
        assert deadlines != [None]
        while not streaming.ended:
            await asyncio.sleep(0.001)
        assert isinstance(streaming.outcomes[0], asyncio.CancelledError)


async def test_a_million_messages_come_in_their_order() -> None:
    count, service = 1_000_000, Service("many", broker=URL)

    @service.rpc
    async def bodies() -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"%d" % number

    async with service, Client(URL) as client:
        expected = 0
        async for body in client.stream("many.bodies", reply=bytes):
            assert body == b"%d" % expected
            expected += 1
        assert expected == count


async def test_a_thousand_streams_at_once_do_not_mix() -> None:
    async with (streaming := Streaming()).service, Client(URL, timeout=60) as client:

        async def talk(number: int) -> list[int]:
            async with client.stream("numbers.double", reply=Number) as numbers:
                for step in range(5):
                    await numbers.send(Number(value=number * 10 + step))
                await numbers.end()
                return await values(numbers)

        results = await asyncio.gather(*(talk(number) for number in range(1000)))
        assert results == [[2 * (number * 10 + step) for step in range(5)] for number in range(1000)]
        assert (streaming.open_streams, open_streams(client)) == (0, 0)


# -- leaving early ---------------------------------------------------------------------------------------------


async def test_leaving_the_loop_early_ends_the_producer(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async for number in client.stream("numbers.count", Number(), Number):
            if number.value == 10:
                break
        await until(lambda: streaming.ended)
        assert streaming.given < 5000  # it waited for credit
        assert (streaming.open_streams, open_streams(client)) == (0, 0)


@pytest.mark.parametrize("endpoint", ["count", "wait", "double", "hold", "total"])
async def test_leaving_the_block_ends_the_handler_whatever_it_does(endpoint: str, until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        request = Number() if endpoint in ("count", "wait") else None
        async with client.stream(f"numbers.{endpoint}", request, Number):
            await until(lambda: streaming.begun)
        await until(lambda: streaming.ended)
        assert isinstance(streaming.outcomes[0], asyncio.CancelledError | GeneratorExit)
        assert streaming.open_streams == 0


async def test_a_stream_can_be_closed_as_a_generator_is(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async with aclosing(client.stream("numbers.wait", Number(), Number)) as numbers:
            await anext(numbers)
        await until(lambda: streaming.ended)
        await numbers.aclose()
        with pytest.raises(StreamCancelled):
            await anext(numbers)
        with pytest.raises(UsageError, match="opened once"):
            async with numbers:
                pass


async def test_who_reads_while_another_task_gives_up_is_told_so(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async with client.stream("numbers.wait", Number(), Number) as numbers:
            await anext(numbers)
            reading = asyncio.ensure_future(anext(numbers))
            await asyncio.sleep(0)
        with pytest.raises(StreamCancelled):
            await reading
        await until(lambda: streaming.ended)


async def test_a_cancelled_task_cancels_the_handler(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:

        async def read() -> None:
            async with client.stream("numbers.wait", Number(), Number) as numbers:
                async for _ in numbers:
                    pass

        task = asyncio.create_task(read())
        await until(lambda: streaming.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: streaming.ended)
        assert isinstance(streaming.outcomes[0], asyncio.CancelledError)


@pytest.mark.timeout_seconds(120)
async def test_ten_thousand_abandoned_streams_leave_nothing_behind(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL, timeout=60) as client:

        async def abandon(count: int) -> None:
            for _ in range(count):
                async for _ in client.stream("numbers.wait", Number(), Number):
                    break

        await abandon(10)
        await until(lambda: not streaming.open_streams)
        tasks, before = len(asyncio.all_tasks()), len(gc.get_objects())
        for _ in range(20):
            await asyncio.gather(*(abandon(10) for _ in range(50)))
            await until(lambda: not streaming.open_streams)
        await until(lambda: len(streaming.ended) == 10_010)
        assert (streaming.open_streams, open_streams(client)) == (0, 0)
        assert len(asyncio.all_tasks()) <= tasks + 1  # a spare one that is made in advance
        streaming.outcomes.clear()
        gc.collect()
        assert len(gc.get_objects()) < before + 2000


# -- outcomes --------------------------------------------------------------------------------------------------


async def test_an_error_of_the_handler_comes_behind_what_it_has_yielded() -> None:
    service = Service("failing", broker=URL)

    @service.rpc
    async def some(request: Number) -> AsyncIterator[Number]:
        for value in range(3):
            yield Number(value=value)
        if request.value:
            raise NotFound("no more", errors=[{"loc": ["value"], "msg": "none"}])
        raise ValueError("secret")

    @service.rpc
    async def none(requests: AsyncIterator[Number]) -> Number:
        raise NotFound("not today")

    async with service, Client(URL) as client:
        for request, kind, detail in ((1, NotFound, "no more"), (0, InternalError, "the log of its service")):
            seen: list[int] = []
            with pytest.raises(kind, match=detail) as caught:
                await read(client.stream("failing.some", Number(value=request), Number), seen)
            assert seen == [0, 1, 2]
            assert (caught.value.id, caught.value.received) == ("failing.some", True)
            assert "secret" not in str(caught.value)
        with pytest.raises(NotFound, match="not today"):
            async with client.stream("failing.none", reply=Number) as numbers:
                await numbers.reply()
        assert service._node is not None
        statistics = service._node._parts.statistics()
        assert (statistics["some"].count, dict(statistics["some"].errors)) == (2, {404: 1, 500: 1})
        assert (statistics["none"].count, dict(statistics["none"].errors)) == (1, {404: 1})


async def test_an_error_of_a_nested_stream_is_not_passed_on_by_itself() -> None:
    outer = Service("outer", broker=URL)

    @outer.rpc
    async def pass_on(request: Number) -> AsyncIterator[Number]:
        async for number in outer.stream("numbers.nothing", request, Number):
            yield number

    async with Streaming().service, outer, Client(URL) as client:
        with pytest.raises(InternalError, match="the log of its service"):
            await values(client.stream("outer.pass_on", Number(), Number))


async def test_nobody_there_and_no_such_endpoint_are_told_at_the_opening() -> None:
    async with Streaming().service, Client(URL) as client:
        with pytest.raises(Unavailable, match=r"nobody serves nowhere\.count"):
            await values(client.stream("nowhere.count", Number(), Number))
        with pytest.raises(NotFound, match="did you mean 'count'"):
            async with client.stream("numbers.cuont", Number(), Number):
                pass
        assert open_streams(client) == 0


async def test_a_stream_of_what_is_called_and_the_other_way_round() -> None:
    async with Streaming().service, Client(URL) as client:
        with pytest.raises(UsageError, match=r"call\(\) it"):
            await values(client.stream("numbers.echo", Number(), Number))
        with pytest.raises(BadRequest, match=r"client.stream\('numbers.total'\)"):
            await client.call("numbers.total", Number(), Number)
        with pytest.raises(BadRequest, match="takes a stream of messages, and no request"):
            await values(client.stream("numbers.double", Number(), Number))
        async with client.stream("numbers.wait", Number(), Number) as numbers:
            with pytest.raises(UsageError, match="takes one request"):
                await numbers.send(Number())
            await numbers.end()
            assert await anext(numbers) == Number()
        with pytest.raises(BadRequest, match="Input should be a valid integer"):
            await values(client.stream("numbers.count", {"value": "x"}, Number))


async def test_a_server_that_ends_first_takes_no_more() -> None:
    service = Service("short", broker=URL)

    @service.rpc
    async def first(requests: AsyncIterator[Number]) -> Number:
        return await anext(aiter(requests))

    async with service, Client(URL) as client, client.stream("short.first", reply=Number) as numbers:

        async def send() -> None:
            for value in range(7, 100_000):
                await numbers.send(Number(value=value))

        with pytest.raises(StreamEnded, match="ended"):
            await send()
        assert await numbers.reply() == Number(value=7)


async def test_reply_is_for_one_reply() -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        with pytest.raises(StreamEnded, match="without a reply"):
            async with client.stream("numbers.double", reply=Number) as numbers:
                await numbers.reply()
        with pytest.raises(StreamEnded, match="more than one"):
            async with client.stream("numbers.count", Number(value=3), Number) as numbers:
                await numbers.reply()
        assert streaming.open_streams == 0


async def test_a_handler_may_return_nothing() -> None:
    service, taken = Service("sink", broker=URL), list[int]()

    @service.rpc
    async def take(requests: AsyncIterator[Number]) -> None:
        taken.extend([number.value async for number in requests])

    async with service, Client(URL) as client, client.stream("sink.take") as numbers:
        await numbers.send(Number(value=1))
        await numbers.reply()
        assert taken == [1]


# -- deadlines -------------------------------------------------------------------------------------------------


async def test_timeout_is_for_the_whole_stream_and_ends_the_handler(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        seen: list[int] = []
        with pytest.raises(CallTimeout, match=r"numbers\.wait had not ended within"):
            await read(client.stream("numbers.wait", Number(value=4), Number, timeout=0.5), seen)
        assert seen == [4]
        await until(lambda: streaming.ended)
        with pytest.raises(CallTimeout, match="no time is left"):
            await values(client.stream("numbers.count", Number(), Number, timeout=0.0))


async def test_the_endpoints_own_timeout_is_an_error() -> None:
    service = Service("slow", broker=URL)

    @service.rpc(timeout=0.05)
    async def wait() -> AsyncIterator[Number]:
        yield Number()
        await asyncio.sleep(60)

    async with service, Client(URL) as client:
        with pytest.raises(CallTimeout, match=r"own timeout of 0\.05 s"):
            await values(client.stream("slow.wait", reply=Number))


async def test_an_opening_that_is_not_answered_in_time_is_never_begun(until: Until) -> None:
    service, begun = Service("busy", broker=URL), list[int]()
    gate = asyncio.Event()

    @service.rpc(concurrency=1)
    async def one(request: Number) -> AsyncIterator[Number]:
        begun.append(request.value)
        await gate.wait()
        yield request

    async with service, Client(URL, timeout=0.5) as client:
        async with client.stream("busy.one", Number(value=1), Number):
            with pytest.raises(CallTimeout, match=r"no reply from busy\.one"):
                await values(client.stream("busy.one", Number(value=2), Number))
            cancelled = asyncio.ensure_future(values(client.stream("busy.one", Number(value=3), Number)))
            await asyncio.sleep(0.01)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            await until(lambda: open_streams(client) == 1)
            gate.set()
        async with client.stream("busy.one", Number(value=4), Number) as numbers:
            assert await values(numbers) == [4]
        assert begun == [1, 4]


# -- messages that cannot travel -------------------------------------------------------------------------------


async def test_a_message_that_cannot_be_encoded_ends_the_stream_on_both_sides(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async with client.stream("numbers.total", reply=Number) as numbers:
            await numbers.send(Number(value=1))
            broken = Number.model_construct(value="x")  # type: ignore[arg-type]
            with pytest.raises(EncodeError):
                await numbers.send(broken)
            with pytest.raises(EncodeError):
                await numbers.reply()
        await until(lambda: streaming.ended)
        assert "could not be sent" in str(streaming.outcomes[0])


async def test_a_yielded_value_of_the_wrong_type_is_an_error_for_the_caller() -> None:
    service, ended = Service("wrong", broker=URL), list[bool]()

    @service.rpc
    async def some() -> AsyncIterator[Number]:
        try:
            yield Number(value=1)
            yield "x"  # type: ignore[misc]
        finally:
            ended.append(True)

    async with service, Client(URL) as client:
        with pytest.raises(InternalError):
            await values(client.stream("wrong.some", reply=Number))
        assert ended == [True]


async def test_a_message_that_cannot_be_decoded_ends_the_stream_on_both_sides(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async with client.stream("numbers.double", reply=Number) as numbers:
            await numbers.send({"value": "x"})
            with pytest.raises(BadRequest, match="a message of the stream is not a valid Number") as refused:
                await anext(numbers)
            assert [error["loc"] for error in refused.value.errors] == [["value"]]
            with pytest.raises(ServiceError):
                await numbers.send(Number())
        assert isinstance(streaming.outcomes[0], BadRequest)
        with pytest.raises(DecodeError, match=r"a message of numbers\.count is not a valid list\[int\]"):
            async for _ in client.stream("numbers.count", Number(), list[int]):
                pass
        await until(lambda: len(streaming.ended) == 2)
        with pytest.raises(DecodeError, match="no type was given"):
            async for _ in client.stream("numbers.count", Number()):
                pass
        await until(lambda: len(streaming.ended) == 3)
        assert streaming.open_streams == 0


async def test_a_message_over_the_brokers_limit_ends_the_stream_on_both_sides(until: Until) -> None:
    service, outcomes = Service("large", broker=MemoryBroker(URL, max_payload=4000)), list[BaseException]()

    @service.rpc
    async def give(request: Number) -> AsyncIterator[bytes]:
        yield b"a" * 100
        yield b"b" * request.value

    @service.rpc
    async def take(requests: AsyncIterator[bytes]) -> int:
        try:
            return sum([len(each) async for each in requests])
        except BaseException as error:
            outcomes.append(error)
            raise

    async with service, Client(MemoryBroker(URL, max_payload=4000)) as client:
        assert [len(b) async for b in client.stream("large.give", Number(value=3900), bytes)] == [100, 3900]
        seen: list[bytes] = []
        with pytest.raises(InternalError, match="too large for the broker"):
            await read(client.stream("large.give", Number(value=70_000), bytes), seen)
        assert seen == [b"a" * 100]
        async with client.stream("large.take", reply=int) as bodies:
            for _ in range(100):  # more together than the broker takes at once
                await bodies.send(b"c" * 1000)
            assert await bodies.reply() == 100_000
        async with client.stream("large.take", reply=int) as bodies:
            with pytest.raises(MessageTooLarge):
                await bodies.send(b"d" * 70_000)
        await until(lambda: outcomes)
        assert "too large for the broker" in str(outcomes[0])


# -- declarations and options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "options", "why"),
    [
        ("numbers", {}, "service.endpoint"),
        (None, {}, "service.endpoint"),
        ("numbers.count", {"timeout": "x"}, "timeout='x'"),
        ("numbers.count", {"keep_alive": 0}, r"keep_alive=0: write seconds, from 0\.1 to 3600"),
        ("numbers.count", {"keep_alive": None}, r"keep_alive=None: write seconds, from 0\.1 to 3600"),
        ("numbers.count", {"keep_alive": True}, r"keep_alive=True: write seconds, from 0\.1 to 3600"),
        ("numbers.count", {"keep_alive": 1e6}, r"keep_alive=1000000\.0"),
        ("numbers.count", {"metadata": {"a b": "c"}}, "metadata name"),
    ],
)
async def test_wrong_options_are_refused_where_they_are_written(
    endpoint: Any, options: dict[str, Any], why: str
) -> None:
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=why):
            client.stream(endpoint, Number(), Number, **options)


async def test_a_stream_is_opened_before_it_is_used() -> None:
    async with Client(URL) as client:
        stream = client.stream("numbers.double", reply=Number)
        with pytest.raises(UsageError, match="async with"):
            await stream.send(Number())
        with pytest.raises(UsageError, match="async with"):
            await stream.end()
        await stream.aclose()


class NoCalls(MemoryBroker):
    capabilities = Capabilities()  # type: ignore[misc]


async def test_brokers_that_carry_no_calls_are_refused_at_the_start() -> None:
    with pytest.raises(Unsupported, match=r"numbers\.count needs request_reply"):
        await Streaming(url=NoCalls(URL)).service.start()  # type: ignore[arg-type]
    async with Client(NoCalls(URL)) as client:
        with pytest.raises(Unsupported, match="carries no calls"):
            await values(client.stream("numbers.count", Number(), Number))


async def test_metadata_and_context_of_a_stream() -> None:
    service, seen = Service("seen", broker=URL), list[Any]()

    @service.rpc
    async def look(request: Number, context: Context) -> AsyncIterator[Number]:
        seen.append((context.metadata, context.is_stream, context.endpoint, current_context() is context))
        seen.append(context.remaining())
        yield request

    async with service, Client(URL) as client:
        await values(client.stream("seen.look", Number(), Number, metadata={"tenant": "acme"}))
        assert seen == [({"tenant": "acme"}, True, "look", True), None]
        await values(client.stream("seen.look", Number(), Number, timeout=20))
        assert 0 < seen[-1] <= 20
