"""One middleware in several event loops: at the same time, each in a thread, and one after the other."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from eventmicro import InternalError, Side, TooManyRequests, Unavailable
from eventmicro.middlewares import (
    Circuit,
    CircuitBreaker,
    ConcurrencyLimit,
    Deduplicate,
    RateLimit,
    ReplyCache,
    State,
    Timeout,
)
from eventmicro.middlewares.circuit import Rules
from eventmicro.middlewares.window import Window
from tests.unit.middlewares.kit import Called, Clock, at, turns

LONGEST = 10.0
"""How long one waits for what hangs, in seconds."""

KEPT = [
    pytest.param(lambda: ReplyCache(60), "client", id="ReplyCache"),
    pytest.param(lambda: Deduplicate(), "endpoint", id="Deduplicate"),
]
SAME = {"Request-Id": "1"}


class Elsewhere:
    """An event loop in a thread of its own; it and the test's refuse what is done to them from others without waking
    them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_debug(True)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        """Begin it there; what it comes to is to be awaited here."""
        asyncio.get_running_loop().set_debug(True)
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def begun(self) -> None:
        """What was begun there before has gone on as far as it goes."""
        await self.begin(turns())

    def stop(self) -> None:
        """Let the loop run no more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LONGEST)

    def close(self) -> None:
        """Cancel what is left, and close the loop."""
        if self._thread.is_alive():
            self.stop()
        for task in (left := asyncio.all_tasks(self.loop)):
            task.cancel()
        self.loop.run_until_complete(asyncio.wait(left) if left else asyncio.sleep(0))
        self.loop.close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    other = Elsewhere()
    yield other
    if not other.loop.is_closed():
        other.close()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """What this comes to in so many threads that begin together."""
    together, outcomes = threading.Barrier(count), list[Any]()

    def run() -> None:
        together.wait(LONGEST)
        outcomes.append(work())

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST)
    assert len(outcomes) == count, "some hang, or have failed"
    return outcomes


async def call_in(middleware: Any, called: Called, side: str) -> Any:
    context = at(side, metadata=dict(SAME), deadline=time.monotonic() + LONGEST)
    return await middleware("request", context, called)


async def test_who_waits_in_another_loop_gets_the_place_and_is_woken(elsewhere: Elsewhere) -> None:
    limit, here = ConcurrencyLimit(1, queue=5), Called("here")
    here.gate.clear()
    first = asyncio.create_task(limit(None, at(), here))
    await turns()
    second = elsewhere.begin(limit(None, at(), Called("there")))
    await elsewhere.begun()
    assert (limit.running, limit.waiting) == (1, 1)
    here.gate.set()
    assert [await first, await asyncio.wait_for(second, LONGEST)] == ["here", "there"]
    assert (limit.running, limit.waiting) == (0, 0)


async def test_who_has_given_up_in_another_loop_gets_no_place(elsewhere: Elsewhere) -> None:
    limit, here = ConcurrencyLimit(1, queue=5), Called("here")
    here.gate.clear()
    first = asyncio.create_task(limit(None, at(), here))
    await turns()
    second = elsewhere.begin(limit(None, at(), Called("there")))
    await elsewhere.begun()
    third = asyncio.create_task(limit(None, at(), here))
    await turns()
    second.cancel()
    here.gate.set()
    assert [await first, await third] == ["here", "here"]
    await elsewhere.begun()
    assert (limit.running, limit.waiting) == (0, 0)


async def test_a_place_is_not_given_to_who_waited_in_a_loop_that_has_ended(elsewhere: Elsewhere) -> None:
    limit, here = ConcurrencyLimit(1, queue=5), Called("here")
    here.gate.clear()
    first = asyncio.create_task(limit(None, at(), here))
    await turns()
    lost = elsewhere.begin(limit(None, at(), Called("there")))
    await elsewhere.begun()
    elsewhere.stop()
    elsewhere.loop.close()
    second = asyncio.create_task(limit(None, at(), here))
    await turns()
    here.gate.set()
    assert [await first, await second] == ["here", "here"]
    del lost
    gc.collect()
    assert (limit.running, limit.waiting) == (0, 0)


@pytest.mark.parametrize("by", [None, lambda context: context.topic], ids=["all", "key"])
def test_no_more_run_than_may_in_all_loops_together_and_none_is_left_in_line(restless: None, by: Any) -> None:
    limit, running, most = ConcurrencyLimit(3, queue=1000, by=by), list[None](), list[int]()
    gate = threading.Barrier(4)

    async def call_next(message: Any, context: Any) -> None:
        running.append(None)
        most.append(len(running))
        await asyncio.sleep(0)
        running.pop()

    async def many() -> int:
        hold = asyncio.create_task(limit(None, at(), kept)) if by else None  # so that its key is in use all the time
        await turns()
        gate.wait(LONGEST)
        await asyncio.gather(*(limit(None, at(), call_next) for _ in range(100)))
        gate.wait(LONGEST)
        if hold is not None:
            hold.cancel()
        return 100

    async def kept(message: Any, context: Any) -> None:
        await asyncio.Event().wait()

    if by:  # three that are held leave no place
        limit = ConcurrencyLimit(7, queue=1000, by=by)
    assert in_threads(4, lambda: asyncio.run(many())) == [100] * 4
    assert max(most) <= 3
    assert (limit.running, limit.waiting) == (0, 0)


@pytest.mark.parametrize(("make", "side"), KEPT)
async def test_what_is_asked_in_two_loops_at_the_same_time_is_asked_once(
    elsewhere: Elsewhere, make: Any, side: str
) -> None:
    middleware, here, there = make(), Called("here"), Called("there")
    here.gate.clear()
    first = asyncio.create_task(call_in(middleware, here, side))
    await turns()
    second = elsewhere.begin(call_in(middleware, there, side))
    await elsewhere.begun()
    here.gate.set()
    assert [await first, await second, here.count, there.count] == ["here", "here", 1, 0]


@pytest.mark.parametrize(("make", "side"), KEPT)
async def test_it_goes_on_for_who_waits_in_another_loop_and_ends_with_the_last(
    elsewhere: Elsewhere, make: Any, side: str
) -> None:
    middleware, here = make(), Called("here")
    here.gate.clear()
    first = asyncio.create_task(call_in(middleware, here, side))
    await turns()
    second = elsewhere.begin(call_in(middleware, Called("there"), side))
    await elsewhere.begun()
    await turns()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (here.running, here.cancelled) == (1, 0)
    second.cancel()
    while here.running:
        await elsewhere.begun()
    assert (here.count, here.cancelled) == (1, 1)


@pytest.mark.parametrize(("make", "side"), KEPT)
async def test_what_its_loop_has_cancelled_fails_for_those_in_others(
    elsewhere: Elsewhere, make: Any, side: str
) -> None:
    middleware, there = make(), Called("there")
    there.gate.clear()

    async def cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    first = elsewhere.begin(call_in(middleware, there, side))
    await elsewhere.begun()
    second = asyncio.create_task(call_in(middleware, Called("here"), side))
    await turns()
    await elsewhere.begun()
    await elsewhere.begin(cancel_all())
    with pytest.raises(InternalError):
        await second
    await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize(("make", "side"), KEPT)
async def test_what_was_fetched_in_a_loop_that_has_ended_is_fetched_anew(
    elsewhere: Elsewhere, make: Any, side: str
) -> None:
    middleware, there = make(), Called("there")
    there.gate.clear()
    lost = elsewhere.begin(call_in(middleware, there, side))
    await elsewhere.begun()
    elsewhere.stop()
    assert await call_in(middleware, Called("here"), side) == "here"
    lost.cancel()


def test_what_is_kept_is_shared_though_all_is_forgotten_again_and_again(restless: None) -> None:
    cache, dedupe = ReplyCache(60, size=2), Deduplicate(60, size=2)

    async def many() -> int:
        for number in range(300):
            assert await cache(number % 5, at(), Called()) == "answer"
            assert await dedupe(None, at("endpoint", metadata={"Request-Id": str(number % 5)}), Called()) == "answer"
            cache.clear()
        return 300

    assert in_threads(4, lambda: asyncio.run(many())) == [300] * 4
    assert len(cache) <= 2
    assert len(dedupe) <= 2


def test_so_many_a_second_are_so_many_in_all_loops_together(restless: None, clock: Clock) -> None:
    limit = RateLimit(1, burst=1000)

    async def many() -> int:
        allowed = 0
        for _ in range(1000):
            try:
                await limit(None, at(), Called())
            except TooManyRequests:
                continue
            allowed += 1
        return allowed

    assert sum(in_threads(4, lambda: asyncio.run(many()))) == 1000


def test_of_all_threads_so_many_probe_as_may(restless: None) -> None:
    for _ in range(100):
        told = list[State]()

        def tell(circuit: Circuit, told: list[State] = told) -> None:
            told.append(circuit.state)

        circuit = Circuit("orders.quote", "", Rules(0.5, 1, 10, 1e-9, 1), tell)
        circuit.failed(circuit.era)
        circuit._rules = Rules(0.5, 1, 10, 1000, 1)

        def enter(circuit: Circuit = circuit) -> bool:
            try:
                circuit.enter()
            except Unavailable:
                return False
            return True

        assert sum(in_threads(4, enter)) == 1
        assert (circuit.state, told, circuit.era) == (State.HALF_OPEN, [State.OPEN, State.HALF_OPEN], 2)


def test_a_window_may_go_on_while_it_is_counted() -> None:
    window = Window(1000)

    class Part(list[int]):
        def __getitem__(self, index: Any) -> Any:
            window._go_on(time.monotonic() + 1000)  # another thread's
            return super().__getitem__(index)

    window._parts.appendleft(Part([2, 1]))
    window._parts.append([1, 0])
    assert window.counts() == (3, 1)


@pytest.mark.parametrize("side", [Side.CLIENT, Side.ENDPOINT])
def test_in_one_loop_after_the_other_all_go_on(side: Side) -> None:
    limit = ConcurrencyLimit(1, queue=10)
    several = [limit, ReplyCache(60), Deduplicate(), RateLimit(1000), CircuitBreaker(), Timeout(60)]

    async def calls(given_up: bool) -> list[Any]:
        outcomes = list[Any]()
        for number, each in enumerate(several):
            called = Called(number)
            called.gate.clear()
            waiting = [asyncio.create_task(call_in(each, called, side)) for _ in range(3)]
            await turns()
            if given_up:
                continue  # the end of the loop cancels them
            called.gate.set()
            outcomes.append(await asyncio.gather(*waiting))
        return outcomes

    assert asyncio.run(calls(given_up=True)) == []
    expected = [[number] * 3 for number in range(len(several))]
    assert asyncio.run(calls(given_up=False)) == expected
    assert asyncio.run(calls(given_up=False)) == expected
    assert (limit.running, limit.waiting) == (0, 0)


class Held(OrderedDict[Any, Any]):
    """What is written down only while its lock is held."""

    def __init__(self, lock: Any) -> None:
        super().__init__()
        self.lock = lock
        self.written = list[bool]()

    def __setitem__(self, key: Any, value: Any) -> None:
        self.written.append(self.lock.locked())
        super().__setitem__(key, value)


async def test_what_several_loops_count_and_keep_is_written_by_one_at_a_time() -> None:
    limit, cache, dedupe = RateLimit(10), ReplyCache(60), Deduplicate()
    due = limit._due = Held(limit._taking)
    kept = cache._kept = Held(cache._keeping)
    done = dedupe._done = Held(dedupe._keeping)
    for each in (limit, cache, dedupe):
        await call_in(each, Called(), "endpoint")
    assert (due.written, kept.written, done.written) == ([True], [True], [True])
