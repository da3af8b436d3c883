"""endpoint: of requests that came together each has its own outcome, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Self

import pytest
from pydantic import BaseModel

from eventmicro import Client, Service, current_context
from eventmicro.codecs import Codecs
from eventmicro.context import Context, Side
from eventmicro.errors import BadRequest, NotFound
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message
from eventmicro.rpc.endpoint import Endpoint, RunningCalls

Until = Callable[[Callable[[], object]], Awaitable[None]]
Handler = Callable[[Any, Context], Awaitable[Any]]


class Number(BaseModel):
    value: int


class Bench:
    """An endpoint `math.double` at work, and the replies that it sends, by the reply subject."""

    def __init__(self, handler: Handler, broker: Any = None, **options: Any) -> None:
        self.broker = broker or MemoryBroker("memory://runs")
        self.sent: list[Message] = []
        self.handler = handler
        self.calls = RunningCalls()
        self.options: dict[str, Any] = {"concurrency": 1000, "timeout": None, "state": "state", **options}

    async def __aenter__(self) -> Self:
        await self.broker.connect()
        await self.broker.subscribe("mine.>", self.take)
        codecs = Codecs()
        self.endpoint = Endpoint(
            "math",
            "double",
            self.handler,
            codecs.body(Number),
            codecs.body(Number),
            broker=self.broker,
            calls=self.calls,
            **self.options,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.cut_off()
        await self.broker.close()

    def take(self, delivery: Delivery) -> None:
        self.sent.append(Message(delivery.subject, delivery.body, delivery.headers))

    def outcomes(self) -> dict[str, str]:
        """The body of each reply, or the code of its error; a second reply to the same would be seen."""
        names = [reply.subject.removeprefix("mine.").partition(".")[0] for reply in self.sent]
        assert len(names) == len(set(names)), names
        bodies = [(r.headers or {}).get("Nats-Service-Error-Code") or r.body.decode() for r in self.sent]
        return dict(zip(names, bodies, strict=True))

    def run(self, *deliveries: Delivery) -> deque[Delivery]:
        """Hand them over together; what is left in line."""
        self.line = deque(deliveries)
        self.room = self.endpoint.many(self.line)
        return self.line

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def request(value: object, reply: str | None = None, **more: Any) -> Delivery:
    name = str(value) if reply is None else reply
    return Delivery("math.double", b'{"value":%s}' % str(value).encode(), None, name and f"mine.{name}", **more)


def requests(count: int) -> list[Delivery]:
    return [request(number) for number in range(count)]


def doubled(*values: int) -> dict[str, str]:
    return {str(value): f'{{"value":{2 * value}}}' for value in values}


async def double(number: Any, context: Context) -> Any:
    return Number(value=2 * number.value)


async def test_all_are_answered_once_and_in_their_order() -> None:
    async with Bench(double) as bench:
        assert not bench.run(*requests(100))
        assert bench.room is None
        await bench.turn()
        assert list(bench.outcomes().items()) == list(doubled(*range(100)).items())


async def test_each_has_its_own_outcome_and_the_others_theirs() -> None:
    handled: list[int] = []

    async def handle(number: Any, context: Context) -> Any:
        handled.append(number.value)
        match number.value:
            case 1:
                raise NotFound("none")
            case 2:
                raise KeyError
            case 3:
                return object()  # cannot be written
            case 4:
                raise asyncio.CancelledError
            case 5:
                await asyncio.sleep(0)
            case 6:
                await asyncio.sleep(0)
                raise NotFound("none")
        return Number(value=2 * number.value)

    async with Bench(handle) as bench:
        bench.calls.receive_cancel(Delivery("math.$cancel", b"mine.given-up"))
        late = time.monotonic() - 1
        left = bench.run(
            request(0),
            request('"x"', "unreadable"),
            request(1),
            request(2),
            request(3),
            request(4),
            request(5),
            request(6),
            request(70, "given-up"),
            request(71, "late.50ms", arrived=late),
            request(72, ""),
            Delivery("math.double", b'{"value":73}', {"Content-Type": "application/json"}, "mine.73"),
            Delivery("math.double", b'{"value":74}', {"Content-Type": "image/png"}, "mine.74"),
            Delivery("math.double", b"\x89PNG", {"Content-Type": "image/png"}, "mine.75"),
            Delivery("math.double", b"", None, "mine.empty"),
            request(8),
        )
        await bench.turn()
        assert not left
        assert handled == [0, 1, 2, 3, 4, 5, 6, 72, 73, 74, 8]
        failed = {"unreadable": "400", "1": "404", "2": "500", "3": "500", "4": "500", "6": "404"}
        assert bench.outcomes() == doubled(0, 5, 73, 74, 8) | failed | {"75": "415", "empty": "400"}
        assert (len(bench.endpoint), len(bench.calls)) == (0, 0)


async def test_a_reply_that_is_too_large_for_the_broker_is_an_error_and_the_others_are_sent() -> None:
    async with Bench(double, MemoryBroker("memory://runs", max_payload=200)) as bench:
        bench.endpoint._reply = Codecs().body(bytes)  # type: ignore[misc]

        async def handle(number: Any, context: Context) -> bytes:
            return b"x" * (1000 if number.value == 1 else 1)

        bench.endpoint._handler = handle  # type: ignore[misc]
        bench.run(*requests(3))
        await bench.turn()
        assert bench.outcomes() == {"0": "x", "1": "500", "2": "x"}


async def test_those_that_wait_are_bounded_and_the_rest_stays_in_line_in_its_order() -> None:
    gate, begun = asyncio.Event(), list[int]()

    async def handle(number: Any, context: Context) -> Any:
        begun.append(number.value)
        await gate.wait()
        return Number(value=2 * number.value)

    async with Bench(handle, concurrency=3) as bench:
        left = bench.run(*requests(10))
        assert begun == [0, 1, 2]
        assert [delivery.reply for delivery in left] == [f"mine.{number}" for number in range(3, 10)]
        assert bench.room is not None
        gate.set()
        await bench.room
        while bench.line:
            bench.room = bench.endpoint.many(bench.line)
            if bench.room is not None:
                await bench.room
        await bench.turn()
        assert begun == list(range(10))
        assert bench.outcomes() == doubled(*range(10))


async def test_one_at_a_time_is_in_order_and_one_at_a_time(until: Until) -> None:
    log, running = list[int](), 0
    service = Service("one", broker="memory://runs")

    @service.rpc(concurrency=1)
    async def wait(number: int) -> int:
        nonlocal running
        running += 1
        assert running == 1
        if number % 3:
            await asyncio.sleep(0)
        log.append(number)
        running -= 1
        return number

    async with service, Client("memory://runs") as client:
        calls = [client.call("one.wait", number, int) for number in range(100)]
        assert await asyncio.gather(*calls) == list(range(100))
    assert log == list(range(100))


seen_by: ContextVar[str] = ContextVar("seen_by", default="nobody")


async def test_what_one_handler_sets_the_next_one_does_not_see() -> None:
    seen, topics = list[str](), list[Any]()

    async def handle(number: Any, context: Context) -> Any:
        seen.append(seen_by.get())
        seen_by.set(f"handler {number.value}")
        if number.value % 2:
            await asyncio.sleep(0)
        assert seen_by.get() == f"handler {number.value}"
        assert current_context() is context
        topics.append(context)
        return Number(value=2 * number.value)

    async with Bench(handle) as bench:
        bench.run(*requests(10))
        await bench.turn()
        assert bench.outcomes() == doubled(*range(10))
    assert seen == ["nobody"] * 10
    assert len(set(topics)) == 10
    assert seen_by.get() == "nobody"


async def test_those_that_wait_have_a_task_of_their_own_in_which_a_timeout_works() -> None:
    tasks: dict[int, list[Any]] = {}
    outside = asyncio.current_task()

    async def handle(number: Any, context: Context) -> Any:
        tasks[number.value] = [asyncio.current_task()]
        try:
            async with asyncio.timeout(0 if number.value == 2 else 60):
                await asyncio.sleep(0)
                await (asyncio.Event().wait() if number.value == 2 else asyncio.sleep(0))
        except TimeoutError:
            assert number.value == 2
        tasks[number.value].append(asyncio.current_task())
        return Number(value=2 * number.value)

    async with Bench(handle) as bench:
        bench.run(*requests(5))
        assert asyncio.current_task() is outside
        await bench.endpoint.finish()
        await bench.turn()
        assert bench.outcomes() == doubled(*range(5))
    assert all(before is after is not None for before, after in tasks.values())
    assert len({id(before) for before, _ in tasks.values()} | {id(outside)}) == 6


async def test_a_handler_that_has_the_line_taken_back_keeps_its_own_outcome() -> None:
    """As a service does that stops, or a broker that has lost what it had handed over."""

    async def handle(number: Any, context: Context) -> Any:
        if number.value == 2:
            taken.extend(bench.line)
            bench.line.clear()
        return Number(value=2 * number.value)

    taken: list[Delivery] = []
    async with Bench(handle) as bench:
        bench.run(*requests(6))
        await bench.turn()
        assert bench.outcomes() == doubled(0, 1, 2)
        assert [delivery.reply for delivery in taken] == ["mine.3", "mine.4", "mine.5"]


async def test_the_line_may_begin_with_another_after_a_handler() -> None:
    async def handle(number: Any, context: Context) -> Any:
        if number.value == 1:
            bench.line.popleft()
            bench.line.appendleft(request(9))
        return Number(value=2 * number.value)

    async with Bench(handle) as bench:
        left = bench.run(*requests(4))
        assert [delivery.reply for delivery in left] == ["mine.9", "mine.3"]
        bench.endpoint.many(left)
        await bench.turn()
        assert bench.outcomes() == doubled(0, 1, 9, 3)


async def test_a_handler_that_stops_its_service_in_a_run_is_answered(until: Until) -> None:
    service = Service("ends", broker="memory://runs")
    stopping: list[asyncio.Task[None]] = []

    @service.rpc
    async def end(number: int) -> int:
        if number == 3:
            stopping.append(asyncio.ensure_future(service.stop()))
        return number

    async with Client("memory://runs") as client:
        await service.start()
        outcomes = await asyncio.gather(*(client.call("ends.end", n, int) for n in range(8)), return_exceptions=True)
        assert outcomes == list(range(8))  # a stop drains: what had been sent is handled
        await asyncio.gather(*stopping)


async def test_the_end_of_the_program_in_a_run_is_passed_on_and_those_before_it_are_answered() -> None:
    async def handle(number: Any, context: Context) -> Any:
        if number.value == 2:
            raise KeyboardInterrupt
        return Number(value=2 * number.value)

    async with Bench(handle) as bench:
        with pytest.raises(KeyboardInterrupt):
            bench.run(*requests(5))
        await bench.turn()
        assert bench.outcomes() == doubled(0, 1) | {"2": "500"}
        assert [delivery.reply for delivery in bench.line] == ["mine.3", "mine.4"]
        bench.handler = double
        bench.endpoint._handler = double  # type: ignore[misc]
        bench.endpoint.many(bench.line)
        await bench.turn()
        assert bench.outcomes() == doubled(0, 1, 3, 4) | {"2": "500"}


async def test_handlers_of_a_run_may_call_and_publish() -> None:
    service, got = Service("nested", broker="memory://runs"), list[Delivery]()

    @service.rpc
    async def down(number: int) -> int:
        await service.client.broker.publish(Message("went", b"%d" % number))
        return number if number == 0 else await service.call("nested.down", number - 1, int)

    async with service, Client("memory://runs") as client:
        await client.broker.subscribe("went", got.append)
        assert await asyncio.gather(*(client.call("nested.down", 5, int) for _ in range(20))) == [0] * 20
        assert len(got) == 120
        assert len(client._caller or ()) == 0


class AtOnce(MemoryBroker):
    """A stranger's broker, which hands over within `send` what is sent to one endpoint."""

    endpoint: Endpoint | None = None

    async def send(self, message: Message) -> None:
        if message.subject == "math.double" and self.endpoint is not None:
            self.endpoint(Delivery(message.subject, message.body, message.headers, message.reply))
        else:
            await super().send(message)


async def test_a_run_within_a_handler_of_a_run_changes_nothing_of_it() -> None:
    broker = AtOnce("memory://runs")
    gate = asyncio.Event()

    async def handle(number: Any, context: Context) -> Any:
        if number.value < 10:
            inner = request(number.value + 10)
            await broker.send(Message(inner.subject, inner.body, None, inner.reply))
        if number.value in (1, 13):
            await gate.wait()
        return Number(value=2 * number.value)

    async with Bench(handle, broker) as bench:
        broker.endpoint = bench.endpoint
        bench.run(*requests(5))
        await bench.turn()
        assert bench.outcomes() == doubled(0, 10, 11, 2, 12, 3, 4, 14)
        gate.set()
        await bench.endpoint.finish()
        await bench.turn()
        assert bench.outcomes() == doubled(*range(5), *range(10, 15))
        assert len(bench.calls) == 0


async def test_a_running_call_of_a_run_is_cancelled_for_itself_alone() -> None:
    gate = asyncio.Event()

    async def handle(number: Any, context: Context) -> Any:
        await gate.wait()
        return Number(value=2 * number.value)

    async with Bench(handle) as bench:
        bench.run(*requests(4))
        bench.calls.receive_cancel(Delivery("math.$cancel", b"mine.2"))
        await bench.turn()
        gate.set()
        await bench.endpoint.finish()
        await bench.turn()
        assert bench.outcomes() == doubled(0, 1, 3)


@pytest.mark.parametrize("waited", [False, True])
async def test_the_context_in_a_run_is_that_of_its_request(waited: bool) -> None:
    contexts: list[Context] = []

    async def handle(number: Any, context: Context) -> Any:
        contexts.append(context)
        return number

    arrived = time.monotonic() - 1 if waited else None
    async with Bench(handle) as bench:
        bench.run(request(1, "1.60000ms", arrived=arrived), request(2, arrived=arrived))
        first, second = contexts
        assert bench.run(request(3)) == deque()
    now = time.monotonic()
    assert first.deadline is not None
    assert now + (58 if waited else 59) < first.deadline < now + (59.5 if waited else 60.1)
    assert second.deadline is None
    for context in (first, second):
        assert (context.side, context.service, context.endpoint) == (Side.ENDPOINT, "math", "double")
        assert (context.topic, context.metadata, context.attempt, context.state) == ("math.double", {}, 1, "state")
        assert (context.delivery, context.settles, context.settled, context.id) == (None, None, False, "")


async def test_a_request_that_is_none_is_told_what_is_wrong_in_a_run() -> None:
    service = Service("reads", broker="memory://runs")

    @service.rpc
    async def read(number: Number) -> int:
        return number.value

    async with service, Client("memory://runs") as client:
        bodies: list[Any] = [{"value": 1}, {"value": "x"}, {"value": 3}]
        outcomes = await asyncio.gather(*(client.call("reads.read", b, int) for b in bodies), return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [1, 3]
    assert isinstance(outcomes[1], BadRequest)
    assert [error["loc"] for error in outcomes[1].errors] == [["value"]]
