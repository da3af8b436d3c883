"""A service that stops: what is finished, left to the queue, or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Batch, Client, Context, MemoryBroker, Service
from eventmicro.errors import InternalError, Unavailable, UsageError
from eventmicro.message import Message
from tests.unit.services import TOPIC, Logged, Number, Until, echo


async def test_a_stop_cuts_off_what_does_not_end_in_time_and_names_it(
    caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    service = Service("numbers", broker="memory://service", stop_timeout=0.02)
    begun = 0

    @service.rpc
    async def hang(request: Number) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    @service.subscribe(TOPIC)
    async def stuck(event: Number) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    async with MemoryBroker("memory://service") as broker:
        await service.start()
        for _ in range(3):
            await broker.publish(Message("numbers.hang", b"{}"))
            await service.publish(TOPIC, Number())
        await until(lambda: begun == 4)  # three calls, and one event, as those wait in line
        await service.stop()
    assert "numbers.hang: 3 cut off after 0.02 s" in caplog.text
    assert "numbers.stuck: 1 cut off after 0.02 s" in caplog.text


async def test_a_stop_says_at_once_what_it_waits_for(caplog: pytest.LogCaptureFixture, until: Until) -> None:
    caplog.set_level("INFO", "eventmicro")
    service = Service("numbers", broker="memory://service", stop_timeout=1000)
    may_end = asyncio.Event()

    @service.rpc
    async def hang(request: Number) -> None:
        await may_end.wait()

    @service.rpc
    async def watch() -> AsyncIterator[int]:
        yield 1
        await may_end.wait()

    async with service, Client("memory://service") as client, client.stream("numbers.watch", reply=int) as numbers:
        assert await anext(numbers) == 1
        calls = [asyncio.create_task(client.call("numbers.hang", Number())) for _ in range(2)]
        await until(lambda: len(client._calls) == 2)
        stopping = asyncio.create_task(service.stop())
        await until(lambda: "stops" in caplog.text)
        assert not stopping.done()
        may_end.set()
        await asyncio.gather(stopping, *calls)
    said = [record.getMessage() for record in caplog.records if "stops" in record.getMessage()]
    assert said == [
        "service 'numbers' stops: it waits up to 1000 s for numbers.hang (2), numbers.watch (1)",
    ]


async def test_a_service_with_nothing_to_do_says_so_at_its_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "eventmicro")

    async def lifespan() -> AsyncIterator[None]:
        yield

    async with Service("idle", broker="memory://service"), Service("busy", broker="memory://", lifespan=lifespan):
        pass
    assert [record.getMessage() for record in caplog.records if "nothing to do" in record.getMessage()] == [
        "service 'idle' has nothing to do: declare what it answers to by @rpc, what it handles by @subscribe"
    ]


async def test_a_stop_handles_all_events_that_had_arrived_where_no_broker_keeps_them() -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://service")

    @service.subscribe(TOPIC, durable=False)
    async def see(event: Number) -> None:
        await asyncio.sleep(0)
        seen.append(event.value)

    async with service:
        for value in range(50):
            await service.publish(TOPIC, Number(value=value))
    assert seen == list(range(50))


async def test_a_stop_leaves_what_was_not_begun_to_the_durable_queue_and_the_next_start_goes_on(until: Until) -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://service")

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        await asyncio.sleep(0)
        seen.append(event.value)

    async with service:
        for value in range(50):
            await service.publish(TOPIC, Number(value=value))
    async with service:
        await until(lambda: len(seen) >= 50)
    assert seen == list(range(50))


async def test_a_handler_may_publish_and_call_while_its_service_stops(until: Until) -> None:
    seen: list[int] = []
    gate = asyncio.Event()
    other, service = Service("other", broker="memory://service"), Service("numbers", broker="memory://service")
    other.rpc(echo)
    begun = False

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        nonlocal begun
        begun = True
        await gate.wait()
        seen.append((await service.call("other.echo", Number(value=7), Number)).value)

    async with other:
        await service.start()
        await service.publish(TOPIC, Number())
        await until(lambda: begun)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        gate.set()
        await stopping
    assert seen == [7]


STOPS: list[Callable[[Service], Awaitable[None]]] = [
    lambda service: service.stop(),
    lambda service: asyncio.create_task(service.stop()),  # type: ignore[arg-type,return-value]
    lambda service: asyncio.wait_for(service.stop(), 60),
]


@pytest.mark.parametrize("stop", STOPS, ids=["at once", "task", "wait_for"])
@pytest.mark.parametrize("waits", [False, True], ids=["first step", "later"])
@pytest.mark.parametrize("words", [{}, {"order_by": "value"}, {"batch": Batch(1)}], ids=["alone", "key", "batch"])
async def test_a_handler_may_stop_its_service_which_waits_for_all_others_and_leaves_it_alone(
    words: dict[str, Any],
    waits: bool,
    stop: Callable[[Service], Awaitable[None]],
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("numbers", broker="memory://", stop_timeout=1000)
    ended: list[str] = []
    others = asyncio.Event()

    async def stops(event: Any, context: Context) -> None:
        if waits:
            await asyncio.sleep(0)
        await context.ack()
        await stop(service)
        ended.append("stopper")

    @service.subscribe("others")
    async def other(event: Number) -> None:
        await others.wait()
        ended.append("other")

    @service.rpc
    async def close() -> None:
        others.set()
        await stop(service)
        ended.append("endpoint")

    async def see_one(event: Number, context: Context) -> None:
        await stops(event, context)

    async def see_many(events: list[Number], context: Context) -> None:
        await stops(events, context)

    service.subscribe(TOPIC, **words)(see_many if "batch" in words else see_one)
    async with MemoryBroker() as broker, Client("memory://") as client:
        await service.start()
        await broker.publish(Message("others", b"{}"))
        await broker.publish(Message(TOPIC.name, b"{}"))
        calling = asyncio.create_task(client.call("numbers.close", timeout=60))
        await until(lambda: len(ended) == 3)
        calling.cancel()  # its reply found the connection closed
        await asyncio.wait([calling])
    assert ended[0] == "other"
    assert "cut off" not in caplog.text
    assert "ignored being cancelled" not in caplog.text
    with pytest.raises(UsageError, match="not started"):
        _ = service.client


@pytest.mark.parametrize("where", ["before_start", "after_start", "before_stop", "after_stop", "lifespan"])
async def test_a_hook_that_starts_or_stops_its_own_service_is_told_so_and_does_not_wait_for_itself(where: str) -> None:
    told: list[str] = []

    async def try_both() -> None:
        for change in (service.start, service.stop):
            with pytest.raises(UsageError) as refused:
                await change()
            told.append(str(refused.value))

    async def lifespan() -> AsyncIterator[None]:
        if where == "lifespan":
            await try_both()
        yield

    service = Service("numbers", broker="memory://", lifespan=lifespan)
    if where != "lifespan":
        getattr(service, where)(try_both)
    async with service:
        pass
    assert told == ["service 'numbers' cannot be started or stopped by its own hooks and lifespan"] * 2


async def test_a_stop_ends_though_a_handler_does_not_let_itself_be_cancelled(
    caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    service = Service("numbers", broker="memory://service", stop_timeout=0.01)
    let_go = asyncio.Event()
    task: asyncio.Task[Any] | None = None

    @service.subscribe(TOPIC)
    async def stubborn(event: Number) -> None:
        nonlocal task
        task = asyncio.current_task()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    await service.start()
    await service.publish(TOPIC, Number())
    await until(lambda: task)
    stopping = asyncio.create_task(service.stop())
    done, _ = await asyncio.wait([stopping], timeout=5)
    let_go.set()
    await stopping
    assert task is not None
    await asyncio.wait([task])
    assert done == {stopping}
    assert "numbers.stubborn" in caplog.text


@pytest.mark.parametrize("where", ["before_stop", "a handler"])
async def test_a_stop_that_is_cancelled_closes_all_the_same(where: str, until: Until) -> None:
    log: list[str] = []
    broker = Logged(log)
    service = Service("numbers", broker=broker, stop_timeout=0.5)
    waits: list[str] = []

    async def wait(at: str) -> None:
        if at == where:
            waits.append(at)
            await asyncio.Event().wait()

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        await wait("a handler")

    service.before_stop(lambda: wait("before_stop"))
    service.after_stop(lambda: log.append("after_stop"))
    await service.start()
    await service.publish(TOPIC, Number())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(service.stop())
    await until(lambda: waits)
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    assert stopping.cancelled()
    assert not broker.connected
    assert log[-2:] == ["close", "after_stop"]


async def test_a_stop_without_time_takes_no_more_from_a_broker_that_stays_connected(until: Until) -> None:
    seen: list[int] = []
    shared = MemoryBroker()
    service = Service("numbers", broker=shared, stop_timeout=0)

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        seen.append(event.value)
        await asyncio.Event().wait()

    async with shared, Client("memory://") as client:
        async with service:
            await client.publish(TOPIC, Number(value=1))
            await until(lambda: seen)
        await client.publish(TOPIC, Number(value=2))
        await asyncio.sleep(0.01)
    assert seen == [1]


async def test_who_waits_in_line_when_a_stop_cuts_off_is_told_so_and_no_handler_begins(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """The state that a handler works with is left then."""
    seen: list[str] = []
    service = Service("numbers", broker="memory://", stop_timeout=0.01)

    @service.rpc(concurrency=1)
    async def hang() -> None:
        seen.append("call")
        await asyncio.Event().wait()

    @service.subscribe(TOPIC, queue=None)
    async def see(event: Number) -> None:
        seen.append("event")
        await asyncio.Event().wait()

    async with Client("memory://", timeout=20) as client:
        async with service:
            for _ in range(20):
                await client.publish(TOPIC, Number())
            calls = [asyncio.create_task(client.call("numbers.hang")) for _ in range(3)]
            await until(lambda: sorted(seen) == ["call", "event"])
        errors: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(seen) == ["call", "event"]
    assert [type(error) for error in errors] == [InternalError, Unavailable, Unavailable]
    assert "numbers.see: 15 more events cut off" in caplog.messages


async def test_a_stop_lets_handlers_finish_though_a_subscription_fails_to_drain(until: Until) -> None:
    class Broken(MemoryBroker):
        async def subscribe(self, subject: str, receive: Any, **words: Any) -> Any:
            subscription = await super().subscribe(subject, receive, **words)
            if subject == "other":
                subscription.drain = fail  # type: ignore[method-assign]
            return subscription

    async def fail() -> None:
        raise ValueError("failed to drain")

    seen: list[str] = []
    gate = asyncio.Event()
    service = Service("numbers", broker=Broken())

    @service.subscribe("other")
    async def other(event: int) -> None: ...

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        seen.append("begun")
        await gate.wait()
        seen.append("done")

    await service.start()
    await service.publish(TOPIC, Number())
    await until(lambda: seen)
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0.01)
    gate.set()
    with pytest.raises(ValueError, match="failed to drain"):
        await stopping
    assert seen == ["begun", "done"]
