"""Time in the hands of a test: nothing sleeps, all that is due comes in its order, and nothing else notices."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from eventmicro import CallTimeout, Context, Retry, Service, Topic, UsageError
from eventmicro.middlewares import ReplyCache
from eventmicro.testing import StillBusy, World
from eventmicro.testing import clock as clocks
from tests.unit.testing.shop import PLACED, Order, Shop

TEA = Order(sku="tea")
real = time.monotonic


async def test_retries_come_when_they_are_due_and_not_before() -> None:
    async with World(*Shop().all) as world:
        world.fail("billing.bill", ValueError("no"), times=2)
        await world.client.publish(PLACED, TEA)
        counts = []
        for seconds in (0, 59.999, 0.001, 119.999, 0.001):
            await world.advance(seconds)
            counts.append(len(world.handled("billing.bill")))
        assert counts == [1, 1, 2, 2, 3]
        assert [each.outcome for each in world.handled("billing.bill")] == ["failed", "failed", "done"]


async def test_idle_skips_to_a_retry_in_an_hour_and_no_real_time_passes() -> None:
    service, attempts = Service("patient"), []

    @service.subscribe(PLACED, retry=Retry(attempts=3, backoff=1200.0, factor=1.0, longest=3600.0, jitter=0.0))
    async def take(order: Order, context: Context) -> None:
        attempts.append((context.attempt, asyncio.get_running_loop().time()))
        if context.attempt < 3:
            raise ValueError("not yet")

    async with World(service) as world:
        await world.client.publish(PLACED, TEA)
        await world.idle()
    begun = attempts[0][1]
    assert [(attempt, round(at - begun, 3)) for attempt, at in attempts] == [(1, 0), (2, 1200), (3, 2400)]


async def test_sleep_timeout_and_deadlines_of_handlers_go_by_the_same_time() -> None:
    service, seen = Service("slow"), list[object]()

    @service.rpc
    async def sleep(seconds: float, context: Context) -> float:
        began, left = time.monotonic(), context.remaining()
        await asyncio.sleep(seconds)
        assert left is not None
        seen.append((round(time.monotonic() - began, 3), round(left - (context.remaining() or 0.0), 3)))
        return seconds

    @service.rpc
    async def bounded() -> str:
        try:
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    async with World(service) as world:
        assert await world.client.call("slow.sleep", 50.0, float, timeout=60.0) == 50.0
        assert seen == [(50.0, 50.0)]
        with pytest.raises(CallTimeout) as late:
            await world.client.call("slow.sleep", 50.0, float, timeout=40.0)
        assert late.value.elapsed == pytest.approx(40.0)
        assert await world.client.call("slow.bounded", None, str, timeout=60.0) == "late"
        await asyncio.sleep(3600)  # the test itself waits for nothing, too


async def test_a_ttl_a_window_and_a_cache_are_over_in_time() -> None:
    topic, calls = Topic("news.flash", str, ttl=10.0, id=str), []
    news = Service("news")

    @news.subscribe(topic, concurrency=1, dedupe=100.0)
    async def read(text: str) -> None:
        calls.append(text)
        await asyncio.sleep(20 if text == "long" else 0)

    @news.rpc(middleware=[ReplyCache(ttl=30.0)])
    async def latest() -> int:
        calls.append("latest")
        return len(calls)

    async with World(news) as world:
        await world.client.publish(topic, "long")
        await world.advance(0)
        await world.client.publish(topic, "stale")  # it waits for 20 seconds, and is of use for 10
        await world.idle()
        await world.client.publish(topic, "long")  # the same again
        await world.idle()
        assert calls == ["long"]
        await world.advance(100)
        await world.client.publish(topic, "long")
        await world.idle()
        assert calls == ["long", "long"]
        for wait in (0, 29.9, 0.2):
            await world.advance(wait)
            await world.client.call("news.latest", None, int)
        assert calls.count("latest") == 2


async def test_timers_end_in_their_order_and_those_beyond_do_not() -> None:
    ended: list[int] = []

    async def wait(seconds: int) -> None:
        await asyncio.sleep(seconds)
        ended.append(seconds)

    async with World(*Shop().all) as world:
        waiting = [asyncio.create_task(wait(seconds)) for seconds in (30, 10, 20, 31)]
        await world.advance(30)
        assert ended == [10, 20, 30]
        await world.advance(0.999)
        assert ended == [10, 20, 30]
        await asyncio.gather(*waiting)


async def test_what_was_begun_outside_is_not_brought_nearer_and_goes_on_in_real_time_afterwards() -> None:
    loop, before = asyncio.get_running_loop(), real()
    outside, inside = asyncio.create_task(asyncio.sleep(60)), loop.create_future()
    await asyncio.sleep(0)
    async with asyncio.timeout(50):  # a bound of this test, as of pytest-timeout
        async with World(*Shop().all) as world:
            await world.advance(1000)
            assert time.monotonic() > real() + 900
            assert not outside.done()
            timer = loop.call_later(40, inside.set_result, None)
        assert time.monotonic is real
        assert loop.time() - before < 50
        assert 39 < timer.when() - loop.time() <= 41
    timer.cancel()
    outside.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outside
    assert not hasattr(vars(loop), "run_in_executor")


async def test_elsewhere_time_is_what_it_was() -> None:
    def look() -> float:
        return time.monotonic() - real()

    async with World(*Shop().all) as world:
        await world.advance(1000)
        elsewhere: list[float] = []
        thread = threading.Thread(target=lambda: elsewhere.append(look()))
        thread.start()
        thread.join()
        other = await asyncio.to_thread(asyncio.run, _look_later())
        assert abs(elsewhere[0]) < 100
        assert abs(other) < 100
        assert look() > 900
        assert await asyncio.to_thread(look) > 900  # in a thread that this loop has begun it is as here


async def _look_later() -> float:
    return time.monotonic() - real()


async def test_plain_handlers_see_the_time_of_their_world_and_it_waits_for_them() -> None:
    service = Service("plain")

    @service.rpc
    def work(context: Context) -> list[float]:
        began = time.monotonic()
        threading.Event().wait(0.05)
        return [began, context.remaining() or 0.0]

    async with World(service) as world:
        await world.advance(5000)
        now = time.monotonic()
        began, left = await world.client.call("plain.work", None, list[float], timeout=60.0)
        assert began - now < 30
        assert 30 < left <= 60


async def test_it_does_not_skip_on_its_own_while_threads_run_or_sockets_are_open() -> None:
    loop, skipped = asyncio.get_running_loop(), asyncio.Event()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    async with World(*Shop().all, quiet=0.02) as world:
        later = loop.call_later(3600, skipped.set)
        await asyncio.to_thread(threading.Event().wait, 0.02)
        assert not skipped.is_set()
        receiving = asyncio.create_task(loop.sock_recv(near, 10))
        sender = threading.Timer(0.02, far.send, (b"hello",))
        sender.start()
        assert await receiving == b"hello"
        assert not skipped.is_set()
        reading = asyncio.create_task(loop.sock_recv(near, 10))
        await world.advance(3599)
        assert not skipped.is_set()
        await world.advance(1)  # who asks for it gets it
        assert skipped.is_set()
        later.cancel()
        far.send(b"end")
        assert await reading == b"end"
        await world.idle()
    near.close()
    far.close()
    sender.join()


async def test_two_worlds_of_one_event_loop_share_its_time() -> None:
    async with World(*Shop().all) as one:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        async with World(*Shop().all) as other:
            await other.advance(100)
            assert loop.time() - began == pytest.approx(100)
            await one.advance(50)
        assert loop.time() - began == pytest.approx(150)
        assert clocks.can_be_held()
    assert time.monotonic is real


async def test_time_that_is_real_is_said_to_be() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def test() -> None:
        async with World(*Shop().all) as world:
            await world.client.publish(PLACED, TEA)
            await world.idle()
            assert len(world.handled("billing.bill")) == 1
            with pytest.raises(UsageError, match=r"time is real in uvloop and cannot be advanced: wait by idle\(\)"):
                await world.advance(1)
            counting = asyncio.create_task(world.client.call("stock.count"))
            while not world.handled("stock.count"):
                await asyncio.sleep(0)
            with pytest.raises(StillBusy, match=r"after 0\.1 s:\n  stock\.count"):
                await world.idle(within=0.1)
            counting.cancel()
            await world.idle()

    await asyncio.to_thread(_run_in, uvloop.new_event_loop, test)


def _run_in(factory, test) -> None:  # type: ignore[no-untyped-def]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(test())


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", True])
async def test_what_is_no_time_is_refused(seconds: float) -> None:
    async with World(Service("alone")) as world:
        with pytest.raises(UsageError, match="seconds"):
            await world.advance(seconds)
        with pytest.raises(UsageError, match="within"):
            await world.idle(within=seconds)


async def test_who_waits_for_what_never_comes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[str]:
        return [record.message for record in caplog.records if record.name == "eventmicro.testing.clock"]

    def cancel_when_told() -> None:
        while not told() and not ended.wait(0.01):
            pass
        loop.call_soon_threadsafe(waiting.cancel)

    loop, ended = asyncio.get_running_loop(), threading.Event()
    async with World(Service("alone")) as world:
        waiting = asyncio.create_task(asyncio.Event().wait())
        looking = threading.Thread(target=cancel_when_told)
        looking.start()
        try:
            with pytest.raises(asyncio.CancelledError):
                await waiting
        finally:
            ended.set()
            looking.join()
        assert told() == ["nothing has happened for 86400 s of a world's time: what its test waits for never comes"]
        await world.idle()
