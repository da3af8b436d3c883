"""caller and client: timeouts, cancellation, deadlines, and that a call leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from eventmicro import Client, MemoryBroker, Service, Topic
from eventmicro.broker import Capabilities
from eventmicro.context import Context, Side, enter_context
from eventmicro.errors import (
    CallTimeout,
    DecodeError,
    Disconnected,
    EncodeError,
    Unavailable,
    Unsupported,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.rpc.caller import Caller


class Number(BaseModel):
    value: int = 0


class Text(BaseModel):
    text: str


class Calls:
    """A service whose handlers say when they begin and end, and wait until they are told to go on."""

    def __init__(self, **options: Any) -> None:
        self.service = Service("calls", broker="memory://")
        self.gate = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        self.ended = 0

        @self.service.rpc(**options)
        async def wait(request: Number) -> Number:
            self.begun += 1
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            self.ended += 1
            return request

        @self.service.rpc
        async def echo(request: Number) -> Number:
            return request


def waiting(client: Client) -> int:
    """How many calls of a client are on their way."""
    assert client._caller is not None
    return len(client._caller)


async def test_a_call_returns_the_reply_in_its_type() -> None:
    async with Calls().service, Client("memory://") as client:
        assert await client.call("calls.echo", Number(value=7), Number) == Number(value=7)
        assert await client.call("calls.echo", {"value": 7}, dict[str, int]) == {"value": 7}
        assert await client.call("calls.echo", Number(value=7), bytes) == b'{"value":7}'
        assert waiting(client) == 0


async def test_replies_find_their_calls_whatever_their_order() -> None:
    service = Service("calls", broker="memory://")
    gates = [asyncio.Event() for _ in range(50)]

    @service.rpc
    async def wait(request: Number) -> Number:
        await gates[request.value].wait()
        return request

    async with service, Client("memory://") as client:
        calls = [asyncio.create_task(client.call("calls.wait", Number(value=n), Number)) for n in range(50)]
        for gate in reversed(gates):
            await asyncio.sleep(0)
            gate.set()
        assert [number.value for number in await asyncio.gather(*calls)] == list(range(50))


async def test_a_call_that_is_not_answered_ends_as_a_timeout_that_says_where_and_how_long(until: Any) -> None:
    calls = Calls()
    async with calls.service, Client("memory://") as client:
        with pytest.raises(
            CallTimeout, match=r"calls.wait: 408 .*: no reply from calls.wait within \d+\.\d+ s"
        ) as caught:
            await client.call("calls.wait", Number(), Number, timeout=0.02)
        assert caught.value.id == "calls.wait"
        assert caught.value.elapsed > 0
        await until(lambda: calls.cancelled == 1)
        assert (calls.begun, calls.ended, waiting(client)) == (1, 0, 0)


async def test_the_client_says_how_long_a_call_waits_that_does_not_say_so_itself() -> None:
    async with Calls().service, Client("memory://", timeout=0.01) as client:
        with pytest.raises(CallTimeout):
            await client.call("calls.wait", Number(), Number)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_call_without_time_is_not_sent(timeout: float) -> None:
    calls = Calls()
    async with calls.service, Client("memory://") as client:
        with pytest.raises(CallTimeout):
            await client.call("calls.wait", Number(), Number, timeout=timeout)
    assert calls.begun == 0


@pytest.mark.parametrize("timeout", [math.inf, math.nan])
async def test_a_timeout_that_is_no_number_of_seconds_is_a_usage_error(timeout: float) -> None:
    async with Calls().service, Client("memory://") as client:
        with pytest.raises(UsageError, match="timeout"):
            await client.call("calls.echo", Number(), Number, timeout=timeout)


async def test_a_cancelled_call_cancels_its_handler_and_leaves_nothing(until: Any) -> None:
    calls = Calls()
    async with calls.service, Client("memory://") as client:
        call = asyncio.create_task(client.call("calls.wait", Number(), Number))
        await until(lambda: calls.begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: calls.cancelled == 1)
        assert waiting(client) == 0
        assert await client.call("calls.echo", Number(), Number) == Number()


async def test_a_call_given_up_while_it_waits_in_line_never_runs(until: Any) -> None:
    calls = Calls(concurrency=1)
    async with calls.service, Client("memory://") as client:
        first = asyncio.create_task(client.call("calls.wait", Number(), Number))
        await until(lambda: calls.begun)
        line = [asyncio.create_task(client.call("calls.wait", Number(), Number)) for _ in range(10)]
        await asyncio.sleep(0)
        for call in line:
            call.cancel()
        await asyncio.gather(*line, return_exceptions=True)
        await asyncio.sleep(0)
        calls.gate.set()
        await first
        await client.call("calls.wait", Number(), Number)
        assert (calls.begun, calls.ended) == (2, 2)


async def test_thousands_of_cancelled_calls_leave_nothing(until: Any) -> None:
    calls = Calls(concurrency=10_000)
    async with calls.service, Client("memory://") as client:
        await client.call("calls.echo", Number(), Number)
        tasks = asyncio.all_tasks()
        for _ in range(5):
            started = [asyncio.create_task(client.call("calls.wait", Number(), Number)) for _ in range(600)]
            await until(lambda: calls.begun % 600 == 0 and calls.begun > calls.cancelled)
            for task in started:
                task.cancel()
            await asyncio.gather(*started, return_exceptions=True)
            await until(lambda: calls.cancelled == calls.begun)
        assert waiting(client) == 0
        await until(lambda: asyncio.all_tasks() <= tasks)


async def test_a_nested_call_has_no_more_time_than_what_is_left_of_the_outer_one() -> None:
    inner, outer = Service("inner", broker="memory://"), Service("outer", broker="memory://", timeout=60)
    seen: list[float | None] = []

    @inner.rpc
    async def look(context: Context) -> None:
        seen.append(context.remaining())

    @outer.rpc
    async def relay(context: Context) -> None:
        await outer.call("inner.look")
        await outer.call("inner.look", timeout=0.5)

    async with inner, outer, Client("memory://") as client:
        await client.call("outer.relay", timeout=2)
        await client.call("inner.look", timeout=50)
    assert [left is not None and left <= most for left, most in zip(seen, (2, 0.5, 50), strict=True)] == [True] * 3
    assert seen[2] is not None
    assert seen[2] > 2


async def test_a_nested_call_after_the_deadline_is_refused_before_anything_is_sent() -> None:
    calls = Calls()
    async with calls.service, Client("memory://") as client:
        enter_context(Context(Side.ENDPOINT, deadline=time.monotonic() - 1))
        with pytest.raises(CallTimeout):
            await client.call("calls.wait", Number(), Number, timeout=60)
    assert calls.begun == 0


async def test_a_chain_of_calls_is_cancelled_to_its_end(until: Any) -> None:
    calls = Calls()
    middle = Service("middle", broker="memory://")

    @middle.rpc
    async def relay(request: Number) -> Number:
        return await middle.call("calls.wait", request, Number)

    async with calls.service, middle, Client("memory://") as client:
        call = asyncio.create_task(client.call("middle.relay", Number(), Number))
        await until(lambda: calls.begun)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: calls.cancelled == 1)


async def test_nobody_there_is_told_at_once_with_what_to_look_at() -> None:
    async with Client("memory://") as client:
        with pytest.raises(
            Unavailable, match=r"nobody serves calls.wait: is the service 'calls' running.* 'wait' right"
        ):
            await client.call("calls.wait", Number(), Number, timeout=60)
        assert waiting(client) == 0


class Counting(MemoryBroker):
    """Counts its subscriptions, and is slow in making them."""

    made = 0

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        self.made += 1
        await asyncio.sleep(0)
        return await super().subscribe(*arguments, **options)


async def test_many_first_calls_at_once_open_one_inbox() -> None:
    broker = Counting("memory://")
    async with Calls().service, Client(broker) as client:
        await asyncio.gather(*(client.call("calls.echo", Number(), Number) for _ in range(100)))
        assert broker.made == 1


async def test_a_first_call_that_is_cancelled_while_the_inbox_opens_does_not_spoil_the_next() -> None:
    async with Calls().service, Client(Counting("memory://")) as client:
        first = asyncio.create_task(client.call("calls.echo", Number(), Number))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await client.call("calls.echo", Number(value=1), Number) == Number(value=1)


async def test_close_ends_the_calls_that_wait(until: Any) -> None:
    calls = Calls()
    async with calls.service:
        client = Client("memory://")
        await client.connect()
        call = asyncio.create_task(client.call("calls.wait", Number(), Number, timeout=60))
        await until(lambda: calls.begun)
        await client.close()
        with pytest.raises(CallTimeout):
            await call
        await client.close()
        with pytest.raises(Disconnected):
            await client.call("calls.echo", Number(), Number)
        calls.gate.set()


async def test_a_client_leaves_a_broker_open_that_was_connected_before() -> None:
    async with MemoryBroker() as broker:
        async with Client(broker) as client:
            with pytest.raises(Unavailable):
                await client.call("a.b")
        assert broker.connected
    fresh = MemoryBroker()
    async with Client(fresh):
        assert fresh.connected
    assert not fresh.connected


ENDPOINTS = ["", "orders", ".", "orders.", ".quote", "orders.*", "orders.>", "or ders.quote", "orders.quote\n"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    async with Client("memory://") as client:
        with pytest.raises(UsageError):
            await client.call(endpoint)


async def test_a_request_that_cannot_be_sent_leaves_nothing() -> None:
    async with Calls().service, Client("memory://") as client:
        await client.call("calls.echo", Number(), Number)
        with pytest.raises(EncodeError, match="object cannot be written as JSON"):
            await client.call("calls.echo", object(), Number)
        with pytest.raises(UsageError, match="bytearray cannot be a message"):
            await client.call("calls.echo", bytearray(b"x"), Number)
        with pytest.raises(UsageError, match="metadata"):
            await client.call("calls.echo", Number(), Number, metadata={"a b": "x"})
        assert waiting(client) == 0


async def test_a_reply_of_another_type_is_a_decode_error_that_names_the_endpoint() -> None:
    async with Calls().service, Client("memory://") as client:
        with pytest.raises(DecodeError, match=r"the reply of calls\.echo is not a valid Text") as caught:
            await client.call("calls.echo", Number(), Text)
        assert [entry["loc"] for entry in caught.value.errors] == [["text"]]


async def test_a_broker_without_request_reply_refuses_calls() -> None:
    class OneWay(MemoryBroker):
        capabilities = Capabilities(queue_groups=True)

    async with Client(OneWay()) as client:
        with pytest.raises(Unsupported, match="carries no calls"):
            await client.call("a.b")


async def never_ends() -> None:
    await asyncio.Event().wait()


def never(delivery: Delivery) -> Awaitable[None]:
    """A subscription that has no room for more."""
    return never_ends()


async def test_a_call_ends_in_time_also_where_the_broker_does_not_take_its_request() -> None:
    broker = MemoryBroker("memory://full", queue_limit=1, send_timeout=1)
    async with Client(broker) as client:
        await broker.subscribe("stuck.wait", never)
        started = [asyncio.create_task(client.call("stuck.wait", timeout=0.02)) for _ in range(4)]
        outcomes = await asyncio.gather(*started, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [CallTimeout] * 4


async def test_a_reply_that_comes_too_late_or_twice_is_dropped() -> None:
    async with MemoryBroker() as broker:
        caller = Caller(broker)
        await caller.open()
        requests: list[Delivery] = []
        await broker.subscribe("a.b", requests.append)
        message = Message("a.b")
        call = asyncio.create_task(caller.request("a", message, time.monotonic() + 60))
        while not requests:
            await asyncio.sleep(0)
        for body in (b"first", b"second"):
            await broker.publish(Message(requests[0].reply, body))
        assert (await call).body == b"first"
        await broker.publish(Message(requests[0].reply, b"late"))
        await broker.publish(Message(requests[0].reply.rpartition(".")[0] + ".999", b"nobody's"))
        await asyncio.sleep(0)
        assert len(caller) == 0
        await caller.close()


async def test_publish_refuses_wildcards_and_events_of_another_type() -> None:
    async with Client("memory://") as client:
        with pytest.raises(UsageError, match="publish to one exact subject"):
            await client.publish(Topic("orders.*", Number), Number())
        with pytest.raises(EncodeError, match="expected Number, got Text"):
            await client.publish(Topic("orders.placed", Number), Text(text="x"))  # type: ignore[misc]


async def test_a_publisher_publishes_to_its_topic(until: Any) -> None:
    async with MemoryBroker() as broker, Client(broker) as client:
        got: list[Delivery] = []
        await broker.subscribe(">", got.append)
        await client.publisher(Topic("numbers", Number)).publish(Number(value=1), metadata={"X-A": "b"})
        await client.flush()
        await until(lambda: got)
        assert got == [Delivery("numbers", b'{"value":1}', {"X-A": "b"})]


async def test_a_request_that_waited_in_line_for_longer_than_its_budget_is_not_started() -> None:
    """What a foreign client sends, which tells nobody when it gives up."""
    service = Service("line", broker="memory://line")
    begun: list[int] = []
    go_on = asyncio.Event()

    @service.rpc(concurrency=1)
    async def work(number: int) -> None:
        begun.append(number)
        await go_on.wait()

    async with service:
        broker = service.client.broker
        await broker.publish(Message("line.work", b"0", reply="elsewhere.0.60000ms"))
        for number in (1, 2, 3):
            await broker.publish(Message("line.work", str(number).encode(), reply=f"elsewhere.{number}.20ms"))
        await broker.publish(Message("line.work", b"4", reply="elsewhere.4.60000ms"))
        await asyncio.sleep(0.05)  # the budgets of three of them, which are what is tested
        go_on.set()
        async with asyncio.timeout(20):
            while len(begun) < 2:
                await asyncio.sleep(0)
    assert begun == [0, 4]


async def test_a_client_goes_on_after_its_broker_was_closed_and_connected_again() -> None:
    service = Service("again", broker="memory://again")

    @service.rpc
    async def number() -> int:
        return 1

    broker = MemoryBroker("memory://again")
    async with service, broker:
        client = Client(broker)
        assert await client.call("again.number", None, int) == 1
        await broker.close()
        await broker.connect()
        assert await client.call("again.number", None, int) == 1
        await client.close()


def test_the_same_broker_for_events_and_calls_is_one_connection() -> None:
    client = Client("memory://one", rpc_broker="memory://one")
    assert client.rpc_broker is client.broker
    assert Client("memory://one", rpc_broker="memory://two").rpc_broker.url == "memory://two"


whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Seen(BaseModel):
    """A reply that looks at who reads it."""

    reader: str = ""

    @model_validator(mode="after")
    def look(self) -> Seen:
        task = asyncio.current_task()
        self.reader = f"{whose.get()} in {task.get_name() if task else 'no task'}"
        return self


async def test_a_reply_is_read_by_who_has_called() -> None:
    """Also where others have opened the inbox, and where replies come together."""
    service = Service("mirror", broker="memory://readers")

    @service.rpc
    async def look() -> dict[str, str]:
        return {}

    async def call(client: Client, name: str) -> str:
        whose.set(name)
        return (await client.call("mirror.look", None, Seen)).reader

    async with service, Client("memory://readers") as client:
        calls = [asyncio.create_task(call(client, name), name=f"task {name}") for name in "ABC"]
        assert await asyncio.gather(*calls) == ["A in task A", "B in task B", "C in task C"]


async def test_a_call_that_nobody_drives_any_more_leaves_nothing() -> None:
    async with MemoryBroker("memory://closed") as broker, Client(broker) as client:
        await broker.subscribe("a.b", lambda delivery: None)
        with pytest.raises(CallTimeout):
            await client.call("a.b", timeout=0.01)  # which opens the inbox
        call = client.call("a.b", timeout=60)
        call.send(None)  # type: ignore[attr-defined]
        assert len(client._calls) == 1
        call.close()
        assert len(client._calls) == 0
