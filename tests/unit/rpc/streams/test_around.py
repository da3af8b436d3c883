"""What stands around a stream: middleware, dependencies, classes, chosen nodes, content types, brokers, the stop."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any

import pytest
from google.protobuf import wrappers_pb2

from eventmicro import Client, Context, Depends, Handler, MemoryBroker, Service, rpc
from eventmicro.broker import PUBLISH_TIMEOUT, Receive, Subscription
from eventmicro.cli.records import signature
from eventmicro.errors import (
    BadRequest,
    InternalError,
    NotFound,
    ServiceError,
    StreamCancelled,
    TooManyRequests,
    Unavailable,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.middlewares import CircuitBreaker, ConcurrencyLimit, LogMessages, Timeout, ValidateReplies
from eventmicro.registry import EndpointRecord
from eventmicro.selector import Choice, Node
from tests.unit.rpc.streams.kit import Number, Streaming, open_streams, raw_caller

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://streams"
Words = wrappers_pb2.StringValue


async def values(stream: AsyncIterator[Number]) -> list[int]:
    return [number.value async for number in stream]


# -- middleware ------------------------------------------------------------------------------------------------


class Passing:
    """A middleware that notes what passes, and adds to each message of a stream that comes back."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, bool]] = []
        self.closed: list[str] = []

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        self.seen.append((context.side, message if isinstance(message, Number | None) else "stream", context.is_stream))
        result = await call_next(message, context)
        return self._added(result, context.side) if isinstance(result, AsyncIterator) else result

    async def _added(self, numbers: AsyncIterator[Number], side: str) -> AsyncIterator[Number]:
        try:
            async for number in numbers:
                yield Number(value=number.value + (100 if side == "client" else 10))
        finally:
            self.closed.append(side)


async def test_middleware_runs_around_the_opening_and_may_wrap_what_comes_back(until: Until) -> None:
    passing = Passing()
    async with (streaming := Streaming(middleware=[passing])).service, Client(URL, middleware=[passing]) as client:
        assert await values(client.stream("numbers.count", Number(value=3), Number)) == [110, 111, 112]
        assert passing.seen == [("client", Number(value=3), True), ("endpoint", Number(value=3), True)]
        assert sorted(passing.closed) == ["client", "endpoint"]
        passing.seen.clear()
        async with client.stream("numbers.double", reply=Number) as numbers:
            await numbers.send(Number(value=1))
            assert await anext(numbers) == Number(value=112)
        assert passing.seen == [("client", None, True), ("endpoint", "stream", True)]
        await until(lambda: len(passing.closed) == 4)
        async with client.stream("numbers.total", reply=Number) as numbers:
            await numbers.send(Number(value=1))
            assert await numbers.reply() == Number(value=101)
        async for _ in client.stream("numbers.count", Number(), Number):
            break
        await until(lambda: len(streaming.ended) == 4 and streaming.open_streams == 0)
        assert await client.call("numbers.echo", Number(value=1), Number) == Number(value=1)


async def test_middleware_may_refuse_a_stream_or_answer_itself() -> None:
    async def refuse(message: Any, context: Context, call_next: Handler) -> Any:
        if context.side == "endpoint":
            raise NotFound("not for you")
        return await call_next(message, context)

    async def answer(message: Any, context: Context, call_next: Handler) -> Any:
        async def ready_made() -> AsyncIterator[Number]:
            yield Number(value=7)

        return ready_made()

    async with (streaming := Streaming(middleware=[refuse])).service:
        async with Client(URL) as client:
            with pytest.raises(NotFound, match="not for you"):
                await values(client.stream("numbers.count", Number(), Number))
            with pytest.raises(NotFound, match="not for you"):
                async with client.stream("numbers.total", reply=Number) as numbers:
                    await numbers.reply()
        async with Client(URL, middleware=[answer]) as client:
            assert await values(client.stream("numbers.count", Number(), Number)) == [7]
            async with client.stream("numbers.double", reply=Number) as numbers:
                with pytest.raises(UsageError, match="a middleware has answered"):
                    await numbers.send(Number())
        assert streaming.begun == []


async def test_an_endpoints_own_middleware_may_look_at_each_message_it_reads() -> None:
    service, seen = Service("read", broker=URL), list[int]()

    async def look(message: Any, context: Context, call_next: Handler) -> Any:
        async def looked_at() -> AsyncIterator[Number]:
            async for number in message:
                seen.append(number.value)
                yield number

        return await call_next(looked_at(), context)

    @service.rpc(middleware=[look])
    async def total(requests: AsyncIterator[Number]) -> Number:
        return Number(value=sum([number.value async for number in requests]))

    async with service, Client(URL) as client, client.stream("read.total", reply=Number) as numbers:
        await numbers.send(Number(value=1))
        await numbers.send(Number(value=2))
        assert await numbers.reply() == Number(value=3)
        assert seen == [1, 2]


async def test_the_ready_made_middleware_goes_around_streams(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    places, breaker, logs = ConcurrencyLimit(1, queue=0), CircuitBreaker(), LogMessages()
    around = [logs, places, breaker, Timeout(5.0), ValidateReplies()]
    async with (streaming := Streaming(middleware=[logs])).service, Client(URL, middleware=around) as client:
        with caplog.at_level(logging.INFO):
            assert await values(client.stream("numbers.count", Number(value=3), Number)) == [0, 1, 2]
            async with client.stream("numbers.double", reply=Number) as numbers:
                await numbers.send(Number(value=1))
                assert await anext(numbers) == Number(value=2)
                with pytest.raises(TooManyRequests):  # the place is held until the stream ends
                    await values(client.stream("numbers.count", Number(value=3), Number))
            await until(lambda: len(streaming.ended) == 2)
        assert await values(client.stream("numbers.count", Number(value=1), Number)) == [0]
        told = [record.message for record in caplog.records if "numbers." in record.message]
        assert len([line for line in told if "numbers.count" in line]) >= 2
        assert open_streams(client) == 0


async def test_a_timeout_around_a_client_is_about_the_opening_of_a_stream() -> None:
    async with (streaming := Streaming()).service, Client(URL, middleware=[Timeout(0.2)]) as client:
        numbers = client.stream("numbers.wait", Number(value=1), Number)
        await anext(numbers)
        await asyncio.sleep(0.3)
        streaming.gate.set()
        assert await anext(numbers) == Number(value=1)


# -- dependencies and classes ----------------------------------------------------------------------------------


log: list[str] = []


async def session() -> AsyncIterator[str]:
    log.append("open")
    try:
        yield "session"
    finally:
        log.append("closed")


def plain(context: Context) -> str:
    return context.endpoint


async def waiting() -> int:
    await asyncio.sleep(0)
    return 5


async def test_dependencies_live_as_long_as_the_stream(until: Until) -> None:
    service = Service("needy", broker=URL)

    @service.rpc
    async def cleaned(request: Number, used: Annotated[str, Depends(session)]) -> AsyncIterator[str]:
        try:
            for _ in range(request.value):
                yield f"{used} {log}"
        finally:
            log.append("handler ended")

    @service.rpc
    async def made(name: Annotated[str, Depends(plain)], n: Annotated[int, Depends(waiting)]) -> AsyncIterator[str]:
        yield f"{name} {n}"

    @service.rpc
    async def read(requests: AsyncIterator[Number], used: Annotated[str, Depends(session)]) -> AsyncIterator[str]:
        async for number in requests:
            yield f"{used} {number.value}"

    async with service, Client(URL) as client:
        assert [x async for x in client.stream("needy.cleaned", Number(value=1), str)] == ["session ['open']"]
        assert log == ["open", "handler ended", "closed"]
        async for _ in client.stream("needy.cleaned", Number(value=10**9), str):
            break
        await until(lambda: log[3:] == ["open", "handler ended", "closed"])
        assert [x async for x in client.stream("needy.made", reply=str)] == ["made 5"]
        async with client.stream("needy.read", reply=str) as talk:
            await talk.send(Number(value=3))
            assert await anext(talk) == "session 3"
        await until(lambda: log[6:] == ["open", "closed"])


async def test_methods_of_a_class_serve_streams() -> None:
    class Counting:
        step = 2

        @rpc
        async def up(self, request: Number) -> AsyncIterator[Number]:
            for value in range(0, request.value, self.step):
                yield Number(value=value)

        @rpc(name="sum")
        async def add(self, requests: AsyncIterator[Number]) -> int:
            return sum([number.value async for number in requests])

    service = Service("counting", broker=URL)
    service.add(Counting())
    async with service, Client(URL) as client:
        assert await values(client.stream("counting.up", Number(value=6), Number)) == [0, 2, 4]
        async with client.stream("counting.sum", reply=int) as numbers:
            await numbers.send(Number(value=6))
            assert await numbers.reply() == 6


# -- nodes -----------------------------------------------------------------------------------------------------


async def test_a_stream_is_opened_on_a_chosen_node_and_stays_there() -> None:
    def node(name: str) -> Service:
        service = Service("nodes", id=name, broker=URL)

        @service.rpc
        async def who(requests: AsyncIterator[Number]) -> AsyncIterator[str]:
            async for _ in requests:
                yield name

        return service

    async with node("a"), node("b"), Client(URL) as client:

        async def served_by(**how: Any) -> set[str]:
            async with client.stream("nodes.who", reply=str, **how) as talk:
                for _ in range(5):
                    await talk.send(Number())
                await talk.end()
                return {name async for name in talk}

        in_turn = [await served_by(selector="round-robin") for _ in range(4)]
        assert all(len(names) == 1 for names in in_turn)
        assert in_turn[0] != in_turn[1]
        assert in_turn[:2] == in_turn[2:]
        assert len({str(await served_by(key="one")) for _ in range(5)}) == 1
        assert await served_by(filters=[lambda node: node.id == "b"]) == {"b"}
        with pytest.raises(Unavailable):
            await served_by(filters=[lambda node: False])


async def test_a_stream_is_in_flight_at_its_node_until_it_ends(until: Until) -> None:
    nodes: list[Node] = []

    def choose(candidates: Sequence[Node], choice: Choice) -> Node:
        nodes[:] = candidates
        return candidates[0]

    async with (streaming := Streaming()).service, Client(URL, selector=choose) as client:
        async with client.stream("numbers.wait", Number(), Number) as one:
            await anext(one)
            async with client.stream("numbers.double", reply=Number):
                assert nodes[0].in_flight == 2
            assert nodes[0].in_flight == 1
            streaming.gate.set()
            assert await values(one) == [0]
        assert nodes[0].in_flight == 0
        assert await values(client.stream("numbers.count", Number(value=1), Number)) == [0]
        assert nodes[0].in_flight == 0
        with pytest.raises(BadRequest):
            await values(client.stream("numbers.total", Number(), Number))
        assert nodes[0].in_flight == 0
        await until(lambda: len(streaming.ended) == 3)


async def test_the_record_of_a_service_says_what_is_a_stream() -> None:
    async with Streaming().service, Client(URL) as client:
        (record,) = await client.services("numbers")
        kinds = {endpoint.name: endpoint.metadata.get("stream") for endpoint in record.endpoints}
        assert kinds == {
            "count": "server",
            "wait": "server",
            "total": "client",
            "double": "bidirectional",
            "hold": "bidirectional",
            "echo": None,
        }
        assert {(endpoint.request or {}).get("title") for endpoint in record.endpoints} == {"Number"}
        assert {(endpoint.reply or {}).get("title") for endpoint in record.endpoints} == {"Number"}


# -- content types ---------------------------------------------------------------------------------------------


async def test_content_type_says_how_the_messages_of_a_stream_are_written(until: Until) -> None:
    pytest.importorskip("msgspec")
    async with Streaming().service, Client(URL) as client, MemoryBroker(URL) as wire:
        frames: list[bytes] = []
        await wire.subscribe("_INBOX.>", lambda delivery: frames.append(delivery.body))
        stream = client.stream("numbers.count", Number(value=2), Number, content_type="msgpack")
        assert await values(stream) == [0, 1]
        async with client.stream("numbers.double", reply=Number, content_type="msgpack") as numbers:
            await numbers.send(Number(value=4))
            assert await anext(numbers) == Number(value=8)
        async with client.stream("numbers.double", reply=Number, content_type="json-rpc") as numbers:
            await numbers.send(Number(value=5))
            assert await anext(numbers) == Number(value=10)
        await until(lambda: any(b'{"value":10}' in frame for frame in frames))  # without an envelope
        assert not any(b'{"value":8}' in frame for frame in frames)
    async with Client(URL, content_type="json-rpc", compression="gzip") as client, Streaming().service:
        large = Number(value=3)
        assert await values(client.stream("numbers.count", large, Number)) == [0, 1, 2]
        async with client.stream("numbers.total", reply=Number) as numbers:
            await numbers.send(Number(value=5))
            assert await numbers.reply() == Number(value=5)


async def test_messages_travel_in_their_own_content_types(until: Until) -> None:
    service, types = Service("typed", broker=URL), list[str | None]()

    @service.rpc
    async def talk(requests: AsyncIterator[Words], context: Context) -> AsyncIterator[Words]:
        types.append(context.metadata.get("Content-Type"))
        async for words in requests:
            yield Words(value=words.value.upper())

    @service.rpc
    async def numbers(requests: AsyncIterator[Words]) -> AsyncIterator[Number]:
        async for words in requests:
            yield Number(value=len(words.value))

    async with service, Client(URL) as client:
        async with client.stream("typed.talk", reply=Words) as talking:
            await talking.send(Words(value="a"))
            await talking.send(Words())
            assert [(await anext(talking)).value, (await anext(talking)).value] == ["A", ""]
        async with client.stream("typed.talk", reply=str) as talking:  # JSON, as protobuf writes it
            await talking.send("b")
            await talking.send(Words(value="c"))
            await talking.send("d")
            assert [await anext(talking) for _ in range(3)] == ["B", "C", "D"]
        async with client.stream("typed.numbers", reply=Number) as counting:
            await counting.send(Words(value="abc"))
            assert await anext(counting) == Number(value=3)
        assert types == ["application/protobuf", None]
    async with service, raw_caller() as caller:
        await caller.open("typed.talk", headers={"Content-Type": "text/x"})
        await until(lambda: caller.frames)
        await caller.send(b"x")
        await until(lambda: caller.last.error)
        assert b'"code": 415' in (caller.last.error or b"")


# -- plain clients ---------------------------------------------------------------------------------------------


class PlainReader:
    """A client that knows nothing of frames."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.inbox = broker.inbox()
        self.deliveries: list[Delivery] = []

    async def ask(self, endpoint: str, body: bytes, headers: dict[str, str] | None = None) -> Subscription:
        subscription = await self.broker.subscribe(self.inbox, self.deliveries.append)
        await self.broker.send(Message(endpoint, body, headers, self.inbox))
        return subscription

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]


async def test_a_plain_client_reads_plain_messages_and_an_empty_one_at_the_end(until: Until) -> None:
    async with Streaming().service, MemoryBroker(URL) as broker:
        reader = PlainReader(broker)
        await reader.ask("numbers.count", b'{"value":3}')
        await until(lambda: len(reader.deliveries) == 4)
        assert reader.bodies == [b'{"value":0}', b'{"value":1}', b'{"value":2}', b""]
        assert [delivery.headers for delivery in reader.deliveries] == [None] * 4


async def test_a_plain_client_is_told_of_errors_by_their_headers(until: Until) -> None:
    service = Service("failing", broker=URL)

    @service.rpc
    async def some() -> AsyncIterator[Number]:
        yield Number()
        raise NotFound("no more")

    @service.rpc
    async def empty() -> AsyncIterator[bytes]:
        yield b"a"
        yield b""

    async with service, MemoryBroker(URL) as broker:
        for endpoint, code in (("some", "404"), ("empty", "500")):
            reader = PlainReader(broker)
            await reader.ask(f"failing.{endpoint}", b"")
            await until(lambda reader=reader: len(reader.deliveries) == 2)  # type: ignore[misc]
            assert (reader.deliveries[1].headers or {})["Nats-Service-Error-Code"] == code
        reader = PlainReader(broker)
        await reader.ask("failing.some", b"", {"Content-Type": "text/x"})
        await until(lambda: len(reader.deliveries) == 2)


async def test_a_plain_client_that_has_gone_is_noticed_where_the_broker_says_so(until: Until) -> None:
    async with (streaming := Streaming()).service, MemoryBroker(URL) as broker:
        reader = PlainReader(broker)
        subscription = await reader.ask("numbers.count", b"{}")
        await until(lambda: len(reader.deliveries) >= 1000)
        assert streaming.given < 10_000  # it has a pace
        await subscription.drain()
        await until(lambda: streaming.ended)
        assert streaming.service._node is not None
        assert dict(streaming.service._node._parts.statistics()["count"].errors) == {}


async def test_a_plain_client_may_cancel_and_say_how_long_it_waits(until: Until) -> None:
    async with (streaming := Streaming()).service, MemoryBroker(URL) as broker:
        reader = PlainReader(broker)
        await reader.ask("numbers.wait", b"{}")
        await until(lambda: reader.deliveries)
        await broker.send(Message("numbers.$cancel", reader.inbox.encode()))
        await until(lambda: streaming.ended)
        reader = PlainReader(broker)
        reader.inbox += ".50ms"
        await reader.ask("numbers.wait", b"{}")
        await until(lambda: len(streaming.ended) == 2)
        assert reader.bodies == [b'{"value":0}']


async def test_a_request_without_a_reply_subject_runs_and_is_not_answered(until: Until) -> None:
    async with (streaming := Streaming()).service, MemoryBroker(URL) as broker:
        await broker.send(Message("numbers.count", b'{"value":3}'))
        await until(lambda: streaming.ended)
        assert (streaming.given, streaming.outcomes) == (3, [None])


# -- brokers ---------------------------------------------------------------------------------------------------


class Minimal:
    """A stranger's broker, with the methods of the port and none of what is optional; each takes its time."""

    def __init__(self, url: str = URL) -> None:
        self._inner = MemoryBroker(url)
        self.url = url
        self.capabilities = self._inner.capabilities
        self.connect, self.close, self.flush = self._inner.connect, self._inner.close, self._inner.flush
        self.inbox, self.publish_many = self._inner.inbox, self._inner.publish_many

    @property
    def connected(self) -> bool:
        return self._inner.connected

    @property
    def online(self) -> bool:
        return self._inner.online

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._inner.publish(message, timeout=timeout)

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        await self._inner.send(message)

    async def subscribe(self, subject: str, receive: Receive, **how: Any) -> Subscription:
        return await self._inner.subscribe(subject, lambda delivery: receive(delivery), **how)


async def test_a_broker_without_what_is_optional_carries_streams(until: Until) -> None:
    async with (streaming := Streaming(url=Minimal())).service, Client(Minimal()) as client:  # type: ignore[arg-type]
        assert await values(client.stream("numbers.count", Number(value=3000), Number)) == list(range(3000))
        async with client.stream("numbers.double", reply=Number) as numbers:

            async def send() -> None:
                for value in range(3000):
                    await numbers.send(Number(value=value))
                await numbers.end()

            sending = asyncio.create_task(send())
            assert await values(numbers) == [2 * value for value in range(3000)]
            await sending
        async for _ in client.stream("numbers.wait", Number(), Number):
            break
        await until(lambda: len(streaming.ended) == 3 and not streaming.open_streams)
        assert open_streams(client) == 0


# -- the stop --------------------------------------------------------------------------------------------------


async def test_a_stop_lets_streams_end_within_its_time() -> None:
    async with Client(URL) as client:
        streaming = Streaming(stop_timeout=20.0)
        await streaming.service.start()
        async with client.stream("numbers.hold", reply=Number) as numbers:
            stopping = asyncio.ensure_future(streaming.service.stop())
            await asyncio.sleep(0.01)
            streaming.gate.set()
            for value in range(2000):
                await numbers.send(Number(value=value))
                assert await anext(numbers) == Number(value=value)
            await numbers.end()
            assert await values(numbers) == []
        await stopping
        assert streaming.outcomes == [None]


async def test_a_stop_ends_what_does_not_end_by_an_error_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with Client(URL) as client:
        streaming = Streaming(stop_timeout=0.02)
        await streaming.service.start()
        opened = [
            await client.stream(f"numbers.{name}", Number() if name == "wait" else None, Number).__aenter__()
            for name in ("wait", "total", "double", "hold")
        ]
        await anext(opened[0])
        await streaming.service.stop()
        for stream in opened:
            with pytest.raises(Unavailable, match="the service has stopped, and the stream was cut off") as stopped:
                await anext(stream)
            assert stopped.value.retryable
        assert sorted(streaming.ended) == ["double", "hold", "total", "wait"]
        assert len([record for record in caplog.records if "cut off after" in record.message]) == 4
        assert open_streams(client) == 0


async def test_a_handler_that_ignores_its_end_gets_nothing_out_any_more(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    service, outcome = Service("stubborn", broker=URL), list[str]()

    @service.rpc
    async def go_on() -> AsyncIterator[Number]:
        while True:
            try:
                await asyncio.sleep(0.001)
                yield Number()
            except asyncio.CancelledError:
                outcome.append("cancelled")
            except GeneratorExit:
                outcome.append("closed")
                raise

    with caplog.at_level(logging.ERROR):
        async with service, Client(URL) as client:
            async for _ in client.stream("stubborn.go_on", reply=Number):
                break
            await until(lambda: "closed" in outcome)
            assert outcome == ["cancelled", "closed"]
    assert caplog.records == []


async def test_what_a_handler_raises_after_its_caller_has_gone_is_logged(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service("late", broker=URL)

    @service.rpc
    async def fail() -> AsyncIterator[Number]:
        try:
            yield Number()
            await asyncio.sleep(60)
        finally:
            raise ValueError("while cleaning up")

    async with service, Client(URL) as client:
        async with client.stream("late.fail", reply=Number) as numbers:
            await anext(numbers)
        await until(lambda: "while cleaning up" in caplog.text)
        assert "late.fail failed" in caplog.text


async def test_what_a_handler_meets_at_the_broker_itself_is_its_failure_and_stays_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("meets", broker=MemoryBroker(URL, max_payload=1000))

    @service.rpc
    async def publish() -> AsyncIterator[Number]:
        yield Number()
        await service.publish("meets.large", "x" * 2000)

    async with service, Client(URL) as client:
        with pytest.raises(InternalError, match="the log of its service says why"):
            await values(client.stream("meets.publish", reply=Number))
    assert "over the 1000 allowed" in caplog.text


async def test_a_reader_that_is_kept_beyond_its_handler_ends(until: Until) -> None:
    service, kept = Service("kept", broker=URL), list[AsyncIterator[Number]]()

    @service.rpc
    async def keep(requests: AsyncIterator[Number]) -> Number:
        kept.append(requests)
        return Number()

    async with service, Client(URL) as client:
        async with client.stream("kept.keep", reply=Number) as numbers:
            assert await numbers.reply() == Number()
        assert await values(kept[0]) == []


@pytest.mark.parametrize("kind", [InternalError, BadRequest, StreamCancelled])
async def test_errors_keep_their_class_across_a_stream(kind: type[ServiceError]) -> None:
    service = Service("raising", broker=URL)

    @service.rpc
    async def fail() -> AsyncIterator[Number]:
        raise kind("so it is")
        yield Number()

    async with service, Client(URL) as client:
        with pytest.raises(ServiceError, match="so it is") as raised:
            await values(client.stream("raising.fail", reply=Number))
        assert raised.value.code == kind.code


async def test_others_are_told_which_endpoints_serve_streams(until: Until) -> None:
    async with Streaming().service, MemoryBroker(URL) as broker:
        reader = PlainReader(broker)
        await reader.ask("$SRV.INFO.numbers", b"")
        await until(lambda: reader.bodies)
        (form,) = [json.loads(body) for body in reader.bodies]
        told = {each["name"]: each["metadata"].get("stream") for each in form["endpoints"]}
        assert told["count"] == "server"
        assert told["total"] == "client"
        assert told["double"] == "bidirectional"
        assert told["echo"] is None


def test_a_described_stream_says_what_comes_many_times() -> None:
    schema = {"title": "Number", "properties": {"value": {"type": "integer"}}}
    number = "Number(value?: integer)"
    described = {
        kind: signature(EndpointRecord(name="e", request=schema, reply=schema, metadata={"stream": kind}))[1:]
        for kind in ("", "server", "client", "bidirectional")
    }
    assert described == {
        "": (number, number),
        "server": (number, f"stream of {number}"),
        "client": (f"stream of {number}", number),
        "bidirectional": (f"stream of {number}", f"stream of {number}"),
    }
