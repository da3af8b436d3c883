"""Ends at odd moments: each side hears of each, whatever it is doing, and only a clean one ever looks clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Client, Context, Handler, MemoryBroker, Service
from eventmicro.errors import (
    BadRequest,
    DecodeError,
    MessageTooLarge,
    NotFound,
    StreamBroken,
    StreamCancelled,
    Unavailable,
    UsageError,
)
from eventmicro.handlers import inflight
from eventmicro.message import Message
from eventmicro.rpc.streams.frames import Frame, write_frame
from tests.unit.rpc.streams.kit import Number, RawCaller, Streaming, open_streams, raw_caller, raw_server

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://streams"
ONE, BAD = b'{"value":1}', b'{"value":"x"}'


class Worker:
    """A service whose handler does something else between the messages that it reads."""

    def __init__(self) -> None:
        self.service = Service("worker", broker=URL)
        self.seen: list[Any] = []
        self.gate = asyncio.Event()

        @self.service.rpc
        async def work(requests: AsyncIterator[Number]) -> None:
            try:
                async for number in requests:
                    self.seen.append(number.value)
                    await self.gate.wait()
            except BaseException as error:
                self.seen.append(type(error))
                await asyncio.sleep(0)  # what it does about that is not cut off
                self.seen.append("noted")
                raise


class Slow(MemoryBroker):
    """Sends nothing, once it is slow, until the gate is opened."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__(URL)
        self._gate = gate
        self.slow = False

    def try_send(self, *message: Any, **how: Any) -> bool:
        return not self.slow and super().try_send(*message, **how)

    async def send(self, message: Message) -> None:
        if self.slow:
            await self._gate.wait()
            for _ in range(20):  # turns of the loop, as over a network
                await asyncio.sleep(0)
        await super().send(message)


async def together(caller: RawCaller, *frames: Frame) -> None:
    """Send frames so that they come in one turn of the loop."""
    for number, frame in enumerate(frames, 1):
        frame.stream, frame.number = caller.frames[0].peer_stream, frame.number or number
        await caller.send_bytes(write_frame(frame))


@pytest.mark.parametrize(
    "last", [Frame(number=7), Frame(error=b'{"code": 404}'), Frame(broken="why"), Frame(cancel=True)], ids=str
)
async def test_a_handler_hears_of_an_end_that_comes_together_with_a_message(last: Frame, until: Until) -> None:
    async with (worker := Worker()).service, raw_caller() as caller:
        await caller.open("worker.work")
        await until(lambda: caller.frames)
        await together(caller, Frame(items=[ONE]), last)
        await until(lambda: "noted" in worker.seen)
        assert worker.seen in ([1, asyncio.CancelledError, "noted"], [asyncio.CancelledError, "noted"])


async def test_a_handler_that_reads_on_gets_all_that_came_before_the_end_and_is_not_cancelled(until: Until) -> None:
    async with (worker := Worker()).service, raw_caller() as caller:
        worker.gate.set()
        await caller.open("worker.work")
        await until(lambda: caller.frames)
        await together(caller, Frame(items=[ONE] * 3), Frame(number=7))
        await until(lambda: "noted" in worker.seen)
        assert worker.seen == [1, 1, 1, StreamBroken, "noted"]


async def test_what_cannot_be_read_is_never_followed_by_a_clean_end(until: Until) -> None:
    service, outcomes = Service("reader", broker=URL), list[Any]()

    @service.rpc
    async def take(requests: AsyncIterator[Number]) -> None:
        for _ in range(3):
            try:
                outcomes.append((await anext(requests)).value)
            except (BadRequest, StopAsyncIteration) as error:
                outcomes.append(str(error))

    async with service, raw_caller() as caller:
        await caller.open("reader.take")
        await until(lambda: caller.frames)
        await caller.send(ONE, BAD, end=True)
        await until(lambda: len(outcomes) == 3)
        assert outcomes[0] == 1
        assert "not a valid Number" in outcomes[1]
        assert outcomes[2] == outcomes[1]
    async with Client(URL) as client, raw_server() as server:
        stream = client.stream("raw.talk", reply=Number)
        first = asyncio.ensure_future(anext(stream))
        await until(lambda: server.openings)
        await server.accept(ONE, BAD, ONE, end=True)
        assert await first == Number(value=1)
        for _ in range(3):
            with pytest.raises(DecodeError, match=r"^a message of raw\.talk is not a valid Number"):
                await anext(stream)


async def test_a_message_that_a_task_of_the_handler_cannot_read_ends_the_handler(until: Until) -> None:
    service, outcomes = Service("apart", broker=URL), list[Any]()

    @service.rpc
    async def talk(requests: AsyncIterator[Number]) -> AsyncIterator[Number]:
        reading = asyncio.ensure_future(anext(requests))
        try:
            yield Number()
            await asyncio.Event().wait()
        except BaseException as error:
            outcomes.append(type(error))
            raise
        finally:
            outcomes.append(type(reading.exception()))

    async with service, raw_caller() as caller:
        await caller.open("apart.talk")
        await until(lambda: caller.items)
        await caller.send(BAD)
        await until(lambda: len(outcomes) == 2)
        assert outcomes == [asyncio.CancelledError, BadRequest]


async def test_a_first_frame_that_was_lost_ends_the_handler_at_once(until: Until) -> None:
    """The caller does not know yet to whom it could say so, and says it to all instances."""
    async with Client(URL) as client, raw_server() as server:
        stream = asyncio.ensure_future(anext(client.stream("raw.talk", reply=Number)))
        await until(lambda: server.openings)
        await server.send(ONE, number=2)
        with pytest.raises(StreamBroken):
            await stream
        await until(lambda: server.cancelled)
        assert server.cancelled == [server.replies[0].encode()]


async def test_a_middleware_that_refuses_what_was_opened_leaves_nothing_open(until: Until) -> None:
    async def refuse(message: Any, context: Context, call_next: Handler) -> Any:
        await call_next(message, context)
        raise ValueError("not this one")

    async with (streaming := Streaming()).service, Client(URL, middleware=[refuse]) as client:
        stream = client.stream("numbers.wait", Number(), Number)
        with pytest.raises(ValueError, match="not this one") as kept:
            await anext(stream)
        assert open_streams(client) == 0
        await until(lambda: streaming.ended)
        assert kept.value.__traceback__ is not None  # which still holds all that was there


async def test_a_stream_that_is_closed_while_it_is_being_opened_is_given_up(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        stream = client.stream("numbers.wait", Number(), Number)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(StreamCancelled):
            await reading
        assert open_streams(client) == 0
        await until(lambda: streaming.begun == streaming.ended)


async def test_a_stop_tells_the_caller_of_a_handler_that_takes_long_to_clean_up(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflight, "GRACE", 0.01)
    service, cleaned = Service("slow", broker=URL, stop_timeout=0.01), asyncio.Event()

    @service.rpc
    async def wait(requests: AsyncIterator[Number]) -> AsyncIterator[Number]:
        yield Number()
        try:
            await asyncio.Event().wait()
        finally:
            await cleaned.wait()

    async with Client(URL) as client:
        await service.start()
        async with (
            client.stream("slow.wait", reply=Number) as first,
            client.stream("slow.wait", reply=Number) as second,
        ):
            await anext(first)
            await anext(second)
            await service.stop()
            for stream in (first, second):
                with pytest.raises(Unavailable, match="the service has stopped") as stopped:
                    await anext(stream)
                assert stopped.value.retryable
        cleaned.set()


async def test_end_while_another_task_waits_to_send(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        async with client.stream("numbers.hold", reply=Number) as numbers:
            sent = 0

            async def send() -> None:
                nonlocal sent
                while True:
                    await numbers.send(Number(value=sent))
                    sent += 1

            sending = asyncio.ensure_future(send())
            await until(lambda: sent >= 1024)
            await numbers.end()
            with pytest.raises(UsageError, match=r"after end\(\)"):
                await sending
            streaming.gate.set()
            assert [number.value async for number in numbers] == list(range(sent))
        assert streaming.outcomes == [None]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({"broken": "why"}, StreamBroken), ({"cancel": True}, StreamCancelled), ({"error": b'{"code": 404}'}, NotFound)],
)
async def test_a_failure_that_calls_itself_an_end_is_a_failure(
    fields: dict[str, Any], kind: type[Exception], until: Until
) -> None:
    async with Client(URL) as client, raw_server() as server:
        stream = client.stream("raw.talk", reply=Number)
        first = asyncio.ensure_future(anext(stream))
        await until(lambda: server.openings)
        await server.accept(ONE, end=True, **fields)
        assert await first == Number(value=1)
        with pytest.raises(kind):
            await anext(stream)


async def test_a_handler_that_makes_nothing_of_a_gap_does_not_turn_it_into_a_clean_end(until: Until) -> None:
    gate, seen = asyncio.Event(), list[Any]()
    service = Service("tolerant", broker=(broker := Slow(gate)))

    @service.rpc
    async def take(requests: AsyncIterator[Number]) -> AsyncIterator[Number]:
        try:
            async for number in requests:
                seen.append(number.value)
                yield number
        except StreamBroken as error:
            seen.append(error)

    async with service, raw_caller() as caller:
        await caller.open("tolerant.take")
        await until(lambda: caller.frames)
        await caller.send(ONE)
        await until(lambda: caller.items)
        broker.slow = True
        await caller.send(ONE)
        await until(lambda: len(seen) == 2)
        await caller.send(ONE, number=7)
        await until(lambda: len(seen) == 3)
        gate.set()
        await until(lambda: caller.last.broken)
        assert not caller.last.end


# -- the broker ------------------------------------------------------------------------------------------------


async def test_a_message_that_is_too_large_does_not_end_the_signs_of_life_of_others(until: Until) -> None:
    """It is met when a sign of life would go out, behind what has been put in the same turn of the loop."""

    class Small(MemoryBroker):
        def try_send(self, subject: str, body: bytes, *more: Any, **how: Any) -> bool:
            if len(body) > 4000:
                raise MessageTooLarge("over 4000 bytes")
            return super().try_send(subject, body, *more, **how)

    broker = Small(URL)
    async with (streaming := Streaming(url=broker)).service, Client(URL) as client:  # type: ignore[arg-type]
        other = client.stream("numbers.wait", Number(value=1), Number, keep_alive=0.1)
        await anext(other)
        async with client.stream("numbers.wait", Number(value=2), Number) as numbers:
            await anext(numbers)
            node = streaming.service._node
            assert node is not None
            assert node._making.streams is not None
            streams = node._making.streams.streams
            channel = list(streams._channels.values())[-1]
            channel.outgoing.put(b"x" * 5000)
            channel.outgoing.sent_at = 0.0
            assert streams._looking is not None
            streams._looking.cancel()
            streams._look()
            assert streams._looking is not None
            assert channel.over
        streaming.gate.set()
        assert await anext(other) == Number(value=1)


async def test_a_message_that_fits_alone_goes_alone(until: Until) -> None:
    service = Service("large", broker=MemoryBroker(URL, max_payload=4000))

    @service.rpc
    async def give(request: Number) -> AsyncIterator[bytes]:
        """With the first goes where the stream is, with the last that it is the last."""
        yield b"a" * request.value

    async with service, Client(URL) as client:
        for size in (3900, 3950, 3970):
            stream = client.stream("large.give", Number(value=size), bytes)
            assert [len(body) async for body in stream] == [size]


async def test_a_close_waits_for_the_last_words_of_streams_that_are_over(until: Until) -> None:
    gate = asyncio.Event()
    async with (streaming := Streaming()).service, (broker := Slow(gate)), Client(broker) as client:
        async with client.stream("numbers.wait", Number(), Number) as numbers:
            await anext(numbers)
            broker.slow = True
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0)
        assert not closing.done()
        gate.set()
        await closing
        with pytest.raises(StreamCancelled):
            await anext(numbers)
        await until(lambda: streaming.ended)


async def test_a_close_waits_for_the_last_word_behind_what_is_still_being_sent(until: Until) -> None:
    """The end of a stream waits behind a message that the broker has not taken, and is sent by a task of its own."""
    gate = asyncio.Event()
    async with (streaming := Streaming()).service, (broker := Slow(gate)), Client(broker) as client:
        numbers = client.stream("numbers.double", reply=Number)
        await numbers.__aenter__()
        broker.slow = True
        await numbers.send(Number(value=1))
        assert numbers._opened is not None
        outgoing = numbers._opened.channel.outgoing
        await until(lambda: outgoing.sending)
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0)
        gate.set()
        await closing
        assert outgoing.sending is None
        await until(lambda: streaming.ended)
        assert isinstance(streaming.outcomes[0], asyncio.CancelledError)
