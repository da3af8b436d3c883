"""lanes: events of one key one after the other, also across a retry, while those of other keys go on."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Context, MemoryBroker, Nack, Retry, Service, Topic
from eventmicro.errors import NotStored
from eventmicro.events import lanes
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Step(BaseModel):
    key: str
    number: int = 0


TOPIC = Topic("steps", Step, key="key")
AT_ONCE = Retry(attempts=5, backoff=0)


class Seen:
    """What a subscriber has seen, by key, and how many keys at a time."""

    def __init__(self) -> None:
        self.begun: dict[str, list[int]] = defaultdict(list)
        self.done: dict[str, list[int]] = defaultdict(list)
        self.letters: list[Delivery] = []
        self.now = self.most = 0
        self.broker = MemoryBroker()

    @property
    def count(self) -> int:
        return sum(map(len, self.done.values()))

    async def publish(self, steps: Iterable[Step]) -> None:
        for step in steps:
            await self.broker.publish(Message("steps", step.model_dump_json().encode()))


Handle = Callable[[Step, Context], Awaitable[None]]


def service(seen: Seen, handle: Handle, *, stop_timeout: float = 10.0, **words: Any) -> Service:
    made = Service("numbers", broker="memory://", stop_timeout=stop_timeout)

    @made.subscribe(TOPIC, **{"order_by": "key", "concurrency": 8, "retry": AT_ONCE, **words})
    async def see(step: Step, context: Context) -> None:
        seen.begun[step.key].append(step.number)
        seen.now += 1
        seen.most = max(seen.most, seen.now)
        try:
            await handle(step, context)
        finally:
            seen.now -= 1
        seen.done[step.key].append(step.number)

    return made


@asynccontextmanager
async def running(handle: Handle, **words: Any) -> AsyncIterator[Seen]:
    seen = Seen()
    async with seen.broker:
        await seen.broker.subscribe("dead.numbers.see", seen.letters.append)
        async with service(seen, handle, **words):
            yield seen


def steps(count: int, keys: int) -> list[Step]:
    """Events of so many keys in turn, numbered within each key."""
    return [Step(key=f"k{n % keys}", number=n // keys) for n in range(count)]


def in_order(seen: Seen, count: int, keys: int) -> bool:
    return seen.done == {f"k{key}": list(range(count // keys)) for key in range(keys)}


async def test_events_of_a_key_are_in_order_and_keys_go_on_at_the_same_time(until: Until) -> None:
    dice = random.Random(1)

    async def wait(step: Step, context: Context) -> None:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)

    async with running(wait) as seen:
        await seen.publish(steps(1_000, 20))
        await until(lambda: seen.count == 1_000)
    assert in_order(seen, 1_000, 20)
    assert seen.most == 8


@pytest.mark.parametrize("body", [b'{"key": "k0"}', b"no step"])
async def test_with_one_at_a_time_keys_take_turns_though_handlers_and_dead_letters_wait(
    body: bytes, until: Until
) -> None:
    async def wait(step: Step, context: Context) -> None:
        await asyncio.sleep(0)

    class Slow(MemoryBroker):
        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            await asyncio.sleep(0)
            await super().publish(message, timeout=timeout)

    seen = Seen()
    made = service(seen, wait, concurrency=1)
    made.broker = Slow()
    async with seen.broker, made:
        await seen.broker.publish(Message("steps", body))
        await seen.publish(steps(20, 4))
        await until(lambda: seen.count >= 20)
    assert seen.most == 1


async def test_handlers_that_never_wait_are_in_order_too(until: Until) -> None:
    async def at_once(step: Step, context: Context) -> None: ...

    async with running(at_once) as seen:
        await seen.publish(steps(1_000, 20))
        await until(lambda: seen.count == 1_000)
    assert in_order(seen, 1_000, 20)
    assert seen.most == 1


HOW = ["raise", "raise Nack", "context.nack", "cancel"]


@pytest.mark.parametrize("how", HOW)
async def test_an_event_that_fails_is_handled_again_before_the_next_of_its_key(how: str, until: Until) -> None:
    async def fail_sometimes(step: Step, context: Context) -> None:
        if (step.number + context.attempt) % 3 == 0:
            await asyncio.sleep(0)
            await _fail(how, context)

    async with running(fail_sometimes) as seen:
        await seen.publish(steps(300, 10))
        await until(lambda: all(numbers[-1:] == [29] for numbers in seen.done.values()) and len(seen.done) == 10)
    assert all(numbers == sorted(numbers) for numbers in seen.begun.values())
    assert all(sorted(set(numbers)) == list(range(30)) for numbers in seen.done.values())
    assert seen.letters == []


async def _fail(how: str, context: Context) -> None:
    if how == "context.nack":
        await context.nack(0)
        return
    raise {"raise": ValueError("x"), "raise Nack": Nack(0), "cancel": asyncio.CancelledError()}[how]


async def test_a_key_that_waits_for_a_retry_holds_up_no_other_and_takes_none_of_their_slots(until: Until) -> None:
    async def fail(step: Step, context: Context) -> None:
        if step.key == "bad":
            raise ValueError("x")

    async with running(fail, concurrency=1, retry=Retry(backoff=1000, longest=1000)) as seen:
        await seen.publish([Step(key="bad", number=n) for n in range(5)])
        await seen.publish(steps(100, 10))
        await until(lambda: seen.count == 100)
        assert seen.begun["bad"] == [0]


async def test_an_event_that_is_given_up_makes_way_for_the_next_of_its_key(until: Until) -> None:
    async def fail(step: Step, context: Context) -> None:
        if step.number == 1:
            raise ValueError("x")

    async with running(fail, retry=Retry(attempts=2, backoff=0)) as seen:
        await seen.publish([Step(key="a", number=n) for n in range(4)])
        await until(lambda: seen.count == 3)
    assert seen.begun["a"] == [0, 1, 1, 2, 3]
    assert len(seen.letters) == 1


@pytest.mark.parametrize("body", [b"no step", b"{}", b'{"key": "a"}'])
async def test_an_event_without_a_key_is_given_up_and_the_others_go_on(body: bytes, until: Until) -> None:
    def key(step: Step) -> Any:
        return [] if step.number == 0 else step.key  # a list cannot be one

    async def at_once(step: Step, context: Context) -> None: ...

    async with running(at_once, order_by=key) as seen:
        await seen.broker.publish(Message("steps", body))
        await seen.publish([Step(key="a", number=1)])
        await until(lambda: seen.count == 1 and seen.letters)
    assert [letter.body for letter in seen.letters] == [body]
    keyless = (seen.letters[0].headers or {})["Dead-Letter-Reason"].startswith("it has no key to order by: TypeError: ")
    assert keyless == (b"key" in body)


async def test_a_stop_gives_back_what_waits_and_the_next_instance_goes_on_in_order(until: Until) -> None:
    gate = asyncio.Event()
    dice = random.Random(2)

    async def wait(step: Step, context: Context) -> None:
        await gate.wait()
        if dice.random() < 0.2 and context.attempt < 4:
            raise ValueError("x")

    seen = Seen()
    async with seen.broker:
        first = service(seen, wait, retry=Retry(attempts=10, backoff=0.01, longest=0.01))
        await first.start()
        await seen.publish(steps(100, 10))
        await until(lambda: seen.now == 8)
        async with service(seen, wait, retry=Retry(attempts=10, backoff=0.01, longest=0.01)):
            stopping = asyncio.create_task(first.stop())
            await asyncio.sleep(0)
            gate.set()
            await stopping
            await until(lambda: seen.count == 100)
    assert in_order(seen, 100, 10)


async def test_a_stop_while_a_key_waits_for_its_retry_does_not_wait_for_it(until: Until) -> None:
    async def fail(step: Step, context: Context) -> None:
        raise ValueError("x")

    async with running(fail, retry=Retry(backoff=1000, longest=1000)) as seen:
        await seen.publish(steps(10, 2))
        await until(lambda: len(seen.begun) == 2)

    async def at_once(step: Step, context: Context) -> None: ...

    async with running(at_once) as later:
        await until(lambda: later.count == 10)
    assert in_order(later, 10, 2)


async def test_a_stop_that_cuts_off_a_handler_gives_its_event_back_and_leaves_no_task(until: Until) -> None:
    async def hang(step: Step, context: Context) -> None:
        await asyncio.Event().wait()

    async with MemoryBroker() as shared:  # which stays connected, so that nothing is given back by its end
        seen = Seen()
        first = service(seen, hang, stop_timeout=0.01)
        first.broker = shared
        async with seen.broker, first:
            await seen.publish(steps(2, 2))
            await until(lambda: seen.now == 2)
            before = asyncio.all_tasks()
        assert asyncio.all_tasks() <= before
        await _check_that_all_come(2, until)


async def test_a_stop_whose_time_is_up_before_it_has_drained_begins_with_no_more_keys(until: Until) -> None:
    async def hang(step: Step, context: Context) -> None:
        await asyncio.Event().wait()

    async with MemoryBroker() as shared:
        seen = Seen()
        first = service(seen, hang, stop_timeout=0.01, concurrency=1)
        first.broker = shared

        @first.subscribe("live", durable=False)
        async def never_done(event: int) -> None:
            await asyncio.Event().wait()

        async with seen.broker, first:
            for _ in range(2):
                await shared.publish(Message("live", b"1"))
            await seen.publish(steps(6, 3))
            await until(lambda: seen.now == 1)
        await asyncio.sleep(0)
        assert seen.begun == {"k0": [0]}
        await _check_that_all_come(6, until)


async def _check_that_all_come(count: int, until: Until) -> None:
    async def at_once(step: Step, context: Context) -> None: ...

    async with running(at_once) as later:
        await until(lambda: later.count == count)


class Given(Delivery):
    """A delivery that notes how it was settled."""

    __slots__ = ("log",)

    def __init__(self, step: Step | bytes, log: list[str], *, attempt: int = 1) -> None:
        body = step if isinstance(step, bytes) else step.model_dump_json().encode()
        super().__init__("steps", body, attempt=attempt, id=body.decode())
        self.log = log

    async def ack(self) -> None:
        self.log.append(f"ack {self.attempt}")

    async def nack(self, delay: float = 0.0) -> None:
        self.log.append(f"nack {delay:g}")


@asynccontextmanager
async def given(handle: Handle, **words: Any) -> AsyncIterator[tuple[Seen, Callable[[Delivery], object]]]:
    """A subscriber, and what hands it an event as the broker does."""
    taken: list[Any] = []

    class Broker(MemoryBroker):
        async def subscribe(self, subject: str, receive: Any, **words: Any) -> Any:
            taken.append(receive)
            return await super().subscribe(subject, receive, **words)

        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            raise NotStored("no dead letters are taken")

    seen = Seen()
    made = service(seen, handle, **words)
    made.broker = Broker()
    async with made:
        yield seen, taken[0]


async def test_an_event_that_lapses_and_comes_again_while_it_is_handled_is_not_awaited_when_it_fails(
    until: Until,
) -> None:
    gate = asyncio.Event()

    async def fail_first(step: Step, context: Context) -> None:
        if context.attempt == 1:
            await gate.wait()
            raise ValueError("x")

    log: list[str] = []
    async with given(fail_first, retry=Retry(backoff=0)) as (seen, receive):
        first = [Given(Step(key="a", number=number), log) for number in range(2)]
        for delivery in first:
            receive(delivery)
        await until(lambda: seen.now)
        for delivery in first:
            delivery.lapsed = True
        for number in range(2):
            receive(Given(Step(key="a", number=number), log, attempt=2))
        gate.set()
        await until(lambda: seen.count == 2)
    assert seen.begun["a"] == [0, 0, 1]
    assert log == ["ack 2", "ack 2"]


async def test_what_is_behind_an_event_that_has_lapsed_follows_it(until: Until) -> None:
    """As after a standstill: the lease of one has run out, and that of the next, which came later, has not."""
    gate = asyncio.Event()

    async def wait_for_gate(step: Step, context: Context) -> None:
        await gate.wait()

    log: list[str] = []
    async with given(wait_for_gate) as (seen, receive):
        held = [Given(Step(key="a", number=number), log) for number in range(3)]
        for delivery in held:
            receive(delivery)
        await until(lambda: seen.now)
        held[1].lapsed = True
        gate.set()
        await until(lambda: log == ["ack 1", "nack 0"])
        assert seen.begun["a"] == [0]
        for number in (1, 2):
            receive(Given(Step(key="a", number=number), log, attempt=2))
        await until(lambda: seen.done["a"] == [0, 1, 2])


async def test_what_is_behind_an_event_that_goes_to_another_instance_goes_there_too(
    until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(step: Step, context: Context) -> None:
        raise ValueError("x")

    monkeypatch.setattr(lanes, "LOOK_INTERVAL", 0.01)
    log: list[str] = []
    async with given(fail, retry=Retry(backoff=0)) as (seen, receive):
        first, second = (Given(Step(key="a", number=number), log) for number in range(2))
        receive(first)
        receive(second)
        await until(lambda: log == ["nack 0"])
        first.lapsed = True
        await until(lambda: log == ["nack 0", "nack 0"])
    assert seen.begun["a"] == [0]
    assert "did not come again" not in caplog.text


@pytest.mark.parametrize("what", [Step(key="a"), b"no step"], ids=["worn out", "unreadable"])
async def test_an_event_whose_dead_letter_is_not_taken_keeps_its_place_and_is_nacked_without_a_delay(
    what: Step | bytes, until: Until
) -> None:
    async def at_once(step: Step, context: Context) -> None: ...

    log: list[str] = []
    async with given(at_once, retry=Retry(attempts=1, longest=1000)) as (seen, receive):
        receive(Given(what, log, attempt=11))
        receive(Given(Step(key="a", number=1), log))
        receive(Given(Step(key="b", number=2), log))
        await until(lambda: seen.done["b"])
        assert seen.begun["a"] == ([1] if isinstance(what, bytes) else [])
        assert "nack" not in str(log)
    assert "nack 0" in log
    assert "nack 1000" not in log


async def test_where_another_instance_has_got_an_event_it_gets_those_behind_it_too(
    until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Elsewhere(MemoryBroker):
        """Delivers 0 to somebody else when it was nacked."""

        async def subscribe(self, subject: str, receive: Any, **words: Any) -> Any:
            def once(delivery: Delivery) -> Any:
                return receive(delivery) if b":0" not in delivery.body or delivery.attempt == 1 else None

            return await super().subscribe(subject, once, **words)

    async def fail_first(step: Step, context: Context) -> None:
        if step.number == 0:
            raise ValueError("x")
        attempts.append(context.attempt)

    attempts: list[int] = []
    monkeypatch.setattr(lanes, "RETURN_TIMEOUT", 0.01)
    seen = Seen()
    made = service(seen, fail_first)
    made.broker = Elsewhere()
    async with seen.broker, made:
        await seen.publish([Step(key="a", number=n) for n in range(3)])
        await until(lambda: seen.done["a"] == [1, 2])
    assert attempts == [2, 2]
    assert "numbers.see: an event of key 'a' did not come again, those behind it are given back" in caplog.text


async def test_a_stop_gives_back_an_event_that_has_just_come_again(until: Until) -> None:
    async def fail(step: Step, context: Context) -> None:
        raise ValueError("x")

    log: list[str] = []
    async with given(fail) as (seen, receive):
        receive(Given(Step(key="a"), log))
        await until(lambda: log == ["nack 0"])
        receive(Given(Step(key="a"), log, attempt=2))
        await receive.__self__.give_back()  # type: ignore[attr-defined]
    assert seen.begun["a"] == [0]
    assert log == ["nack 0", "nack 0"]


async def test_what_waits_for_its_retry_is_given_back_before_running_handlers_have_finished(until: Until) -> None:
    async def fail_or_hang(step: Step, context: Context) -> None:
        if step.key == "bad":
            raise ValueError("x")
        await asyncio.Event().wait()

    log: list[str] = []
    async with given(fail_or_hang, retry=Retry(backoff=1000, longest=1000), stop_timeout=0) as (seen, receive):
        receive(Given(Step(key="a"), log))
        receive(Given(Step(key="bad"), log))
        await until(lambda: seen.begun["bad"])
        await receive.__self__.give_back()  # type: ignore[attr-defined]
        assert (seen.now, log) == (1, ["nack 0"])


async def test_an_event_that_is_handed_over_while_a_handler_takes_its_first_step_waits_for_its_turn(
    until: Until,
) -> None:
    async def hand_over_another(step: Step, context: Context) -> None:
        if step.key == "a":
            receive(Given(Step(key="b"), log))
        await asyncio.sleep(0)

    log: list[str] = []
    async with given(hand_over_another, concurrency=1) as (seen, receive):
        receive(Given(Step(key="a"), log))
        await until(lambda: seen.count == 2)
    assert seen.most == 1


async def test_copies_that_have_lapsed_do_not_pile_up_behind_an_event_that_takes_long(until: Until) -> None:
    gate = asyncio.Event()

    async def wait(step: Step, context: Context) -> None:
        await gate.wait()

    log: list[str] = []
    async with given(wait) as (seen, receive):
        copies: list[Given] = []
        for attempt in range(1, 6):  # as after a connection that was lost, time and again
            for delivery in copies:
                delivery.lapsed = True
            copies = [Given(Step(key="a", number=number), log, attempt=attempt) for number in range(4)]
            for delivery in copies:
                receive(delivery)
            (lane,) = receive.__self__._lanes.values()  # type: ignore[attr-defined]
            assert len(lane.waiting) <= 4
        gate.set()
        await until(lambda: seen.count == 5)
    assert seen.done["a"] == [0, 0, 1, 2, 3]
    assert log == ["ack 1", *["ack 5"] * 4]


async def test_an_id_that_events_of_two_keys_share_holds_up_none_of_them(until: Until) -> None:
    gate = asyncio.Event()

    async def wait(step: Step, context: Context) -> None:
        await gate.wait()

    log: list[str] = []
    async with given(wait) as (seen, receive):
        for number in range(2):
            for key in ("a", "b"):
                delivery = Given(Step(key=key, number=number), log)
                delivery.id = "the same"  # though the port forbids it: a publisher's word, taken for the broker's
                receive(delivery)
        await until(lambda: seen.now == 2)
        gate.set()
        await until(lambda: seen.count == 4)
    assert seen.done == {"a": [0, 1], "b": [0, 1]}
