"""A service: starting and stopping, in order, and what is undone where one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventmicro import Client, Context, MemoryBroker, Service
from eventmicro.errors import Disconnected, Unavailable, UsageError
from tests.unit.services import TOPIC, Logged, Number, Until, echo


def logged_service(log: list[str], broker: Logged) -> Service:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        broker.note("lifespan in")
        try:
            yield "state"
        finally:
            log.append("lifespan out")

    service = Service("numbers", broker=broker, lifespan=lifespan)
    service.rpc(name="echo")(echo)

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None: ...

    @service.before_start
    async def before_start() -> None:
        broker.note("before_start")

    @service.after_start
    def after_start() -> None:
        broker.note("after_start")

    @service.before_stop
    def before_stop() -> None:
        broker.note("before_stop")

    @service.after_stop
    async def after_stop() -> None:
        broker.note("after_stop")

    return service


START = [
    "connect",
    "lifespan in",
    "before_start",
    "subscribe numbers.$cancel",
    "subscribe numbers.seen",
    "subscribe numbers.echo",
    "flush",
    "after_start",
]


STOP = ["before_stop", "lifespan out", "close", "after_stop"]


async def test_start_and_stop_run_everything_in_order_and_a_second_time_nothing() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))
    await service.start()
    await service.start()
    assert log == START
    await service.stop()
    await service.stop()
    assert log == START + STOP


async def test_a_stopped_service_can_be_started_again() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))
    for _ in range(3):
        async with service, Client("memory://service") as client:
            assert await client.call("numbers.echo", Number(value=1), Number) == Number(value=1)
    assert log == (START + STOP) * 3


@pytest.mark.parametrize("step", START)
async def test_where_a_start_fails_all_before_it_is_undone(step: str) -> None:
    log: list[str] = []
    broker = Logged(log, fail_at=step)
    service = logged_service(log, broker)
    with pytest.raises(Disconnected, match=step.replace("$", r"\$")):
        await service.start()
    undone = (["lifespan out"] if "before_start" in log else []) + (["close"] if "lifespan in" in log else [])
    assert log == START[: START.index(step) + 1] + undone
    assert not broker.connected
    with pytest.raises(UsageError, match="not started"):
        _ = service.client
    broker.fail_at = ""
    async with service, Client("memory://service") as client:
        assert await client.call("numbers.echo", Number(), Number) == Number()


async def test_a_start_that_is_cancelled_is_undone() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))

    @service.before_start
    async def hang() -> None:
        await asyncio.Event().wait()

    starting = asyncio.create_task(service.start())
    while "before_start" not in log:
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert log == ["connect", "lifespan in", "before_start", "lifespan out", "close"]


async def test_a_stop_does_everything_though_some_of_it_fails() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log, fail_at="_stop"))
    await service.start()
    with pytest.raises(ExceptionGroup, match="service 'numbers' stopped with errors") as caught:
        await service.stop()
    assert [str(error) for error in caught.value.exceptions] == ["failed at before_stop", "failed at after_stop"]
    assert log == START + STOP
    await service.stop()


async def test_a_stop_with_one_failure_raises_that() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log, fail_at="before_stop"))
    await service.start()
    with pytest.raises(Disconnected):
        await service.stop()
    assert log == START + STOP


async def test_a_stop_while_it_starts_waits_for_the_start_and_then_stops() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))
    starting, again = asyncio.create_task(service.start()), asyncio.create_task(service.start())
    await asyncio.sleep(0)
    stopping, twice = asyncio.create_task(service.stop()), asyncio.create_task(service.stop())
    await asyncio.gather(starting, again, stopping, twice)
    assert log == START + STOP


def test_a_service_can_be_run_in_one_event_loop_after_the_other() -> None:
    service = Service("numbers", broker="memory://service")
    service.rpc(echo)

    async def twice_at_once() -> None:
        await asyncio.gather(service.start(), service.start())
        await asyncio.gather(service.stop(), service.stop())

    asyncio.run(twice_at_once())
    asyncio.run(twice_at_once())


async def test_what_the_lifespan_yields_is_the_state_of_every_handler(until: Until) -> None:
    log: list[str] = []
    broker = Logged(log)
    service = logged_service(log, broker)
    seen: list[Any] = []

    @service.rpc
    async def state(context: Context) -> str:
        return str(context.state)

    @service.subscribe("numbers.more")
    async def more(context: Context) -> None:
        seen.append(context.state)

    async with service:
        assert await service.call("numbers.state", None, str) == "state"
        await service.publish("numbers.more", Number())
        await until(lambda: seen)
    assert seen == ["state"]


async def test_several_services_in_one_process_call_each_other() -> None:
    async with MemoryBroker("memory://service") as broker:
        services = [Service(f"s{number}", broker=broker) for number in range(5)]
        for service in services:
            service.rpc(name="echo")(echo)
            await service.start()
        for service in services:
            for other in services:
                assert await service.call(f"{other.name}.echo", Number(value=3), Number) == Number(value=3)
        await services[0].stop()
        assert broker.connected  # who opened it closes it
        with pytest.raises(Unavailable):
            await services[1].call("s0.echo", Number(), Number)
        for service in services:
            await service.stop()


async def test_calls_are_shared_by_the_instances_of_a_service() -> None:
    served: list[int] = []

    def instance(number: int) -> Service:
        service = Service("shared", broker="memory://service")

        @service.rpc
        async def take() -> None:
            served.append(number)

        return service

    async with instance(1), instance(2), Client("memory://service") as client:
        for _ in range(10):
            await client.call("shared.take")
    assert served.count(1) == served.count(2) == 5


class Slow(MemoryBroker):
    """Subscribes to what begins with `new.` where the others have begun, too; not to `new.bad`."""

    def __init__(self, together: int) -> None:
        super().__init__("memory://slow")
        self.together = asyncio.Barrier(together)
        self.taken: list[Any] = []

    async def subscribe(self, subject: str, receive: Any, **options: Any) -> Any:
        if not subject.startswith("new."):
            return await super().subscribe(subject, receive, **options)
        await self.together.wait()
        if subject.endswith("bad"):
            raise UsageError("refused")
        subscription = await super().subscribe(subject, receive, **options)
        self.taken.append(subscription)
        return subscription


def slow_service(broker: Slow, *subjects: str) -> Service:
    service = Service("slow", broker=broker)

    async def see(event: Number) -> None: ...

    for subject in subjects:
        service.subscribe(f"new.{subject}", name=subject)(see)
    return service


async def test_subscribers_are_subscribed_side_by_side_and_stand_in_their_order() -> None:
    """One after the other the first would wait for the rest without end, as each waits for a queue that is new."""
    service = slow_service(Slow(3), "a", "b", "c")
    async with asyncio.timeout(20), service:
        assert [each.name for each in service.statistics().subscribers] == ["a", "b", "c"]


class Stuck(Slow):
    """Refuses `new.bad` when it is told to, and takes until it is cancelled twice to leave `new.stuck`."""

    def __init__(self) -> None:
        super().__init__(1)
        self.refuse, self.ending = asyncio.Event(), asyncio.Event()

    async def subscribe(self, subject: str, receive: Any, **options: Any) -> Any:
        if subject == "new.bad":
            await self.refuse.wait()
        elif subject == "new.stuck":
            try:
                await asyncio.Event().wait()
            finally:
                self.ending.set()
                await asyncio.Event().wait()
        return await super().subscribe(subject, receive, **options)


async def test_a_start_that_is_refused_and_cancelled_cuts_off_what_the_first_subscribers_have_begun(
    until: Until,
) -> None:
    broker, begun = Stuck(), list[int]()
    service = Service("slow", broker=broker, stop_timeout=0.1)

    async def hang(event: Number) -> None:
        begun.append(event.value)
        await asyncio.Event().wait()

    for name in ("bad", "stuck", "a"):
        service.subscribe(f"new.{name}", name=name)(hang)
    before = asyncio.all_tasks()
    starting = asyncio.create_task(service.start())
    await until(lambda: broker.taken)
    async with Client(broker.url) as client:
        await client.publish("new.a", Number(value=1))
        await until(lambda: begun)
    broker.refuse.set()
    await broker.ending.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert broker.taken[0].ended
    assert asyncio.all_tasks() == before


async def test_where_one_subscriber_is_refused_all_others_end() -> None:
    broker = Slow(4)
    service = slow_service(broker, "a", "bad", "b", "c")
    before = asyncio.all_tasks()
    with pytest.raises(UsageError, match=r"^refused$"):
        async with asyncio.timeout(20):
            await service.start()
    assert all(subscription.ended for subscription in broker.taken)
    assert not broker.connected
    assert asyncio.all_tasks() == before
