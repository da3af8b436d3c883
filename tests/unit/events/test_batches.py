"""batches: how events are put together, and what becomes of them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from eventmicro import (
    Ack,
    Batch,
    Context,
    DeliveryOptions,
    MemoryBroker,
    Nack,
    Reject,
    Retry,
    Service,
    current_context,
)
from eventmicro.codecs import Codecs
from eventmicro.events.batches import BatchSubscriber
from eventmicro.events.settling import Kept
from eventmicro.events.subscriber import Work
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]

POISON = 13
AT_ONCE = Retry(attempts=3, backoff=0)


@dataclass
class Seen:
    """What a batch subscriber has seen."""

    batches: list[list[int]] = field(default_factory=list)
    letters: list[Delivery] = field(default_factory=list)
    broker: MemoryBroker = field(default_factory=MemoryBroker)

    @property
    def events(self) -> list[int]:
        return [event for batch in self.batches for event in batch]

    @property
    def given_up(self) -> list[int]:
        return sorted(int(letter.body) for letter in self.letters)

    async def publish(self, *bodies: object) -> None:
        for body in bodies:
            await self.broker.publish(Message("numbers", str(body).encode()))


Handle = Callable[[list[int], Context], Awaitable[None]]


@asynccontextmanager
async def running(handle: Handle | None = None, *, stop_timeout: float = 10.0, **words: Any) -> AsyncIterator[Seen]:
    """A service that notes its batches and hands each to `handle`."""
    seen = Seen()
    service = Service("numbers", broker="memory://", stop_timeout=stop_timeout)

    @service.subscribe("numbers", **{"batch": Batch(10, 0.01), "retry": AT_ONCE, **words})
    async def see(events: list[int], context: Context) -> None:
        seen.batches.append(events)
        if handle is not None:
            await handle(events, context)

    async with seen.broker:
        await seen.broker.subscribe("dead.numbers.see", seen.letters.append)
        async with service:
            yield seen


async def fail_at_poison(events: list[int], context: Context) -> None:
    if POISON in events:
        raise ValueError("unlucky")


# -- putting together ------------------------------------------------------------------------------------------


async def test_events_are_handed_over_by_size_and_the_rest_when_its_time_has_come(until: Until) -> None:
    async with running() as seen:
        await seen.publish(*range(25))
        await until(lambda: len(seen.events) == 25)
    assert seen.events == list(range(25))
    assert [len(batch) for batch in seen.batches] == [10, 10, 5]


async def test_a_stop_hands_over_what_was_collected_and_waits_for_no_more() -> None:
    async with running(batch=Batch(10, within=1000)) as seen:
        await seen.publish(*range(15))
        await asyncio.sleep(0)
    assert seen.batches == [list(range(10)), list(range(10, 15))]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_as_many_batches_as_concurrency_says_at_a_time_and_none_larger_than_its_size(
    concurrency: int, until: Until
) -> None:
    gate = asyncio.Event()
    now = most = 0

    async def wait(events: list[int], context: Context) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1

    async with running(wait, concurrency=concurrency) as seen:
        await seen.publish(*range(200))
        await until(lambda: now == concurrency)
        gate.set()
        await until(lambda: len(seen.events) == 200)
    assert most == concurrency
    assert sorted(seen.events) == list(range(200))
    assert max(map(len, seen.batches)) == 10


async def test_a_batch_whose_time_comes_while_none_may_start_waits_for_its_turn(until: Until) -> None:
    gate = asyncio.Event()

    async def wait(events: list[int], context: Context) -> None:
        await gate.wait()

    async with running(wait, batch=Batch(10, 0.001)) as seen:
        await seen.publish(0, 1, 2)
        await until(lambda: seen.batches)
        await seen.publish(*range(3, 8))
        await asyncio.sleep(0.01)
        assert seen.batches == [[0, 1, 2]]
        gate.set()
        await until(lambda: len(seen.events) == 8)
    assert seen.events == list(range(8))


async def test_events_that_no_queue_keeps_come_in_batches_too(until: Until) -> None:
    async with running(fail_at_poison, queue=None, retry=None) as seen:
        await seen.publish(*range(20))
        await until(lambda: len(seen.events) == 20)
    assert seen.batches == [list(range(10)), list(range(10, 20))]


# -- what becomes of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "attempts"), [(AT_ONCE, 3), (Retry(attempts=1, backoff=0), 2), (Retry(backoff=0, on=OSError), 2)]
)
async def test_where_a_batch_fails_its_events_come_again_alone_and_only_the_poison_is_given_up(
    retry: Retry, attempts: int, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(fail_at_poison, retry=retry) as seen:
        await seen.publish(*range(10, 20))
        await until(lambda: seen.letters and len(seen.events) == 10 + 9 + attempts - 1)
    assert caplog.text.count("numbers.see: a batch of 10 events failed") == 1
    assert seen.given_up == [POISON]
    assert (seen.letters[0].headers or {})["Dead-Letter-Attempts"] == str(attempts)
    assert sorted(seen.batches[1:]) == sorted([[n] for n in range(10, 20)] + [[POISON]] * (attempts - 2))


async def test_what_cannot_be_read_is_left_out_of_its_batch(until: Until) -> None:
    async with running() as seen:
        await seen.publish(0, 1, "x", *range(2, 10))
        await until(lambda: seen.batches and seen.letters)
    assert seen.batches == [list(range(10))]
    assert [letter.body for letter in seen.letters] == [b"x"]


SETTLED: list[tuple[str, int, int]] = [("ack", 0, 10), ("nack", 0, 20), ("reject", 10, 10)]


@pytest.mark.parametrize(("how", "given_up", "handled"), SETTLED)
async def test_a_handler_may_settle_its_batch_itself(how: str, given_up: int, handled: int, until: Until) -> None:
    async def settle(events: list[int], context: Context) -> None:
        if len(events) == 1:
            await context.ack()
        elif how == "nack":
            await context.nack(0)
        else:
            await getattr(context, how)()

    async with running(settle, ack="manual") as seen:
        await seen.publish(*range(10))
        await until(lambda: len(seen.events) == handled and len(seen.letters) == given_up)
    async with running() as later:
        pass
    assert later.events == []


@pytest.mark.parametrize(
    ("error", "given_up", "handled"), [(Ack(), 0, 10), (Nack(0), 0, 20), (Reject("no"), 1, 20)], ids=repr
)
async def test_a_batch_is_settled_by_what_its_handler_raises_and_that_is_no_error(
    error: Exception, given_up: int, handled: int, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """A Reject may be of any of its events: only the one of which it is raised alone, too, is given up."""

    async def settle(events: list[int], context: Context) -> None:
        if len(events) > 1 or (isinstance(error, Reject) and events == [7]):
            raise error

    async with running(settle) as seen:
        await seen.publish(*range(10))
        await until(lambda: len(seen.events) == handled and len(seen.letters) == given_up)
    assert "a batch of 10 events failed" not in caplog.text
    assert "Traceback" not in caplog.text
    assert [letter.body for letter in seen.letters] == [b"7"] * given_up


async def test_what_was_acknowledged_before_is_given_up_together_as_it_does_not_come_again(until: Until) -> None:
    async def reject(events: list[int], context: Context) -> None:
        raise Reject("no")

    async with running(reject, ack="before", retry=None) as seen:
        await seen.publish(*range(10))
        await until(lambda: len(seen.letters) == 10)
    assert seen.batches == [list(range(10))]


@pytest.mark.parametrize("count", [1, 10])
async def test_an_error_after_a_batch_was_settled_is_said(
    count: int, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async def settle(events: list[int], context: Context) -> None:
        await context.ack()
        raise ValueError("after it was settled")

    async with running(settle) as seen:
        await seen.publish(*range(count))
        await until(lambda: "failed after its handler had settled it" in caplog.text)
    assert seen.batches == [list(range(count))]
    assert "after it was settled" in caplog.text


async def test_a_batch_that_a_stop_cuts_off_comes_again_and_so_does_what_was_collected(until: Until) -> None:
    async def wait(events: list[int], context: Context) -> None:
        await asyncio.Event().wait()

    async with running(wait, batch=Batch(10, 1000), stop_timeout=0.01) as seen:
        await seen.publish(*range(15))
        await until(lambda: seen.batches)
    assert seen.batches == [list(range(10))]
    async with running() as later:
        await until(lambda: len(later.events) == 15)
    assert sorted(later.events) == list(range(15))
    assert seen.letters == later.letters == []


async def test_a_batch_that_is_acknowledged_before_is_gone_when_it_fails(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(fail_at_poison, ack="before", retry=None) as seen:
        await seen.publish(*range(10, 30))
        await until(lambda: len(seen.events) == 20)
    assert [len(batch) for batch in seen.batches] == [10, 10]
    assert caplog.text.count("failed and is gone") == 10


async def test_a_batch_has_a_timeout(until: Until) -> None:
    async def wait(events: list[int], context: Context) -> None:
        if len(events) > 1:
            await asyncio.Event().wait()

    async with running(wait, timeout=0.01) as seen:
        await seen.publish(*range(10))
        await until(lambda: len(seen.events) == 20)
    assert sorted(seen.batches[1:]) == [[number] for number in range(10)]


# -- handed over by hand ---------------------------------------------------------------------------------------


class Given(Delivery):
    """A delivery that notes how it was settled."""

    __slots__ = ("log",)

    def __init__(self, number: int, log: list[str], *, attempt: int = 1) -> None:
        super().__init__("numbers", b"%d" % number, {"Number": f"{number}"}, attempt=attempt, id=f"{number}")
        self.log = log

    async def ack(self) -> None:
        self.log.append(f"ack {self.id}")

    async def nack(self, delay: float = 0.0) -> None:
        self.log.append(f"nack {self.id}")


@asynccontextmanager
async def given(handle: Handle, batch: Batch, **words: Any) -> AsyncIterator[BatchSubscriber]:
    """A subscriber that is handed its events by the test."""
    options = DeliveryOptions(queue="see", batch=batch, **words)
    settling = Kept("numbers.see", MemoryBroker(), options)
    work = Work("numbers", "see", handle, Codecs().body(int), None, None, settling)
    subscriber = BatchSubscriber(work, options.concurrency, batch)
    yield subscriber
    await subscriber.cut_off()


async def test_what_has_lapsed_is_left_out_of_its_batch_and_a_batch_of_nothing_else_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batches: list[list[int]] = []

    async def see(events: list[int], context: Context) -> None:
        batches.append(events)

    log: list[str] = []
    async with given(see, Batch(3, 1000)) as subscriber:
        for numbers, lapsed in (([0, 1, 2], [1]), ([3, 4, 5], [3, 4, 5])):
            deliveries = [Given(number, log) for number in numbers]
            for delivery in deliveries:
                delivery.lapsed = int(delivery.id) in lapsed
                subscriber.receive(delivery)
    assert batches == [[0, 2]]
    assert log == ["ack 0", "ack 2"]
    assert caplog.records == []


async def test_a_batch_that_is_acknowledged_before_is_so_when_its_handler_begins() -> None:
    async def see(events: list[int], context: Context) -> None:
        log.append("begun")

    log: list[str] = []
    async with given(see, Batch(2, 1000), ack="before") as subscriber:
        for number in range(2):
            subscriber.receive(Given(number, log))
    assert log == ["ack 0", "ack 1", "begun"]


async def test_a_stop_while_a_batch_is_acknowledged_before_gives_the_rest_back() -> None:
    class Slow(Given):
        __slots__ = ()

        async def ack(self) -> None:
            await asyncio.Event().wait()

    async def see(events: list[int], context: Context) -> None:
        log.append("begun")

    log: list[str] = []
    async with given(see, Batch(3, 1000), ack="before") as subscriber:
        for delivery in (Given(0, log), Slow(1, log), Given(2, log)):
            subscriber.receive(delivery)
    assert log == ["ack 0", "nack 0", "nack 1", "nack 2"]  # of each the first counts


async def test_a_handler_and_what_is_below_it_finds_the_context_of_the_batch_and_of_an_event_that_comes_alone() -> None:
    contexts: list[Context] = []

    async def see(events: list[int], context: Context) -> None:
        assert current_context() is context
        contexts.append(context)

    async with given(see, Batch(2, 1000)) as subscriber:
        alone = Given(2, [], attempt=3)
        for delivery in (Given(0, []), Given(1, []), alone):
            subscriber.receive(delivery)
    together, single = contexts
    assert [delivery.id for delivery in together.delivery] == ["0", "1"]
    assert (single.delivery, single.attempt, single.metadata) == (alone, 3, {"Number": "2"})


async def test_a_batch_whose_time_comes_while_an_event_that_comes_alone_is_handled_waits_for_its_turn(
    until: Until,
) -> None:
    gate = asyncio.Event()
    batches: list[list[int]] = []

    async def see(events: list[int], context: Context) -> None:
        batches.append(events)
        await gate.wait()

    async with given(see, Batch(10, 0)) as subscriber:
        subscriber.receive(Given(0, [], attempt=2))
        subscriber.receive(Given(1, []))
        while subscriber._timer is not None:  # its time
            await asyncio.sleep(0)
        assert batches == [[0]]
        gate.set()
        await until(lambda: batches == [[0], [1]])


async def test_a_stop_handles_what_was_collected_behind_a_batch_that_runs() -> None:
    gate = asyncio.Event()
    batches: list[list[int]] = []

    async def see(events: list[int], context: Context) -> None:
        batches.append(events)
        await gate.wait()
        await asyncio.sleep(0)

    log: list[str] = []
    async with given(see, Batch(10, 1000)) as subscriber:
        subscriber.receive(Given(0, log, attempt=2))
        subscriber.receive(Given(1, log))
        finishing = asyncio.create_task(subscriber.finish())
        await asyncio.sleep(0)
        gate.set()
        await finishing
        assert batches == [[0], [1]]
        assert log == ["ack 0", "ack 1"]


async def test_a_stop_that_ends_a_batch_and_hands_over_what_waited_behind_it_at_once_leaves_nothing() -> None:
    gate = asyncio.Event()
    batches: list[list[int]] = []

    async def see(events: list[int], context: Context) -> None:
        batches.append(events)
        await gate.wait()

    log: list[str] = []
    async with given(see, Batch(2, 1000)) as subscriber:
        for number in range(4):  # the second batch is full, and waits for room
            subscriber.receive(Given(number, log))
        finishing = asyncio.create_task(subscriber.finish())
        await asyncio.sleep(0)
        gate.set()
        await finishing
        assert batches == [[0, 1], [2, 3]]
        assert log == ["ack 0", "ack 1", "ack 2", "ack 3"]


async def test_events_that_come_while_a_full_batch_waits_for_room_do_not_each_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    tried: list[int] = []
    hand_over = BatchSubscriber._hand_over

    def noted(subscriber: BatchSubscriber) -> None:
        tried.append(len(subscriber._collected))
        hand_over(subscriber)

    async def see(events: list[int], context: Context) -> None:
        await gate.wait()

    async with given(see, Batch(2, 1000)) as subscriber:
        for number in range(50):
            subscriber.receive(Given(number, []))
        monkeypatch.setattr(BatchSubscriber, "_hand_over", noted)
        gate.set()
        await subscriber.inflight.finish()
        await asyncio.sleep(0)
    assert tried == [48]


async def test_what_was_collected_and_not_begun_when_the_time_of_a_stop_is_up_is_given_back() -> None:
    async def see(events: list[int], context: Context) -> None:
        raise AssertionError("it is too late to begin")

    log: list[str] = []
    async with given(see, Batch(10, 1000)) as subscriber:
        for number in range(2):
            subscriber.receive(Given(number, log))
    assert log == ["nack 0", "nack 1"]


async def test_what_a_handler_has_settled_is_settled_by_nobody_else() -> None:
    async def see(events: list[int], context: Context) -> None:
        await context.nack(0)

    log: list[str] = []
    async with given(see, Batch(2, 1000)) as subscriber:
        for number in range(2):
            subscriber.receive(Given(number, log))
    assert log == ["nack 0", "nack 1"]


async def test_a_batch_has_one_timer_which_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(*arguments: Any, **words: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*arguments, **words))
        return timers[-1]

    async def see(events: list[int], context: Context) -> None: ...

    monkeypatch.setattr(loop, "call_later", noted)
    async with given(see, Batch(3, 1000)) as subscriber:
        for number in range(5):
            subscriber.receive(Given(number, []))
        assert [timer.cancelled() for timer in timers] == [True, False]
    assert [timer.cancelled() for timer in timers] == [True, True]
