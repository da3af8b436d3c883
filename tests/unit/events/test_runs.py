"""subscriber: of events that came together each has its own outcome, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import Any

import pytest

from eventmicro import Context, DeliveryOptions, Nack, Reject, Retry, current_context
from eventmicro.codecs import Codecs
from eventmicro.context import Side
from eventmicro.events.settling import Kept
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message


class Letters(MemoryBroker):
    """A broker that keeps what is published: the dead letters."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[bytes] = []

    async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
        self.letters.append(message.body)


class Sent(Delivery):
    """A delivery that notes how it was settled; at once only where it can be."""

    __slots__ = ("at_once", "log")

    def __init__(self, number: object, *, at_once: bool = True, headers: dict[str, str] | None = None) -> None:
        super().__init__("numbers", str(number).encode(), headers, id=f"id-{number}")
        self.at_once = at_once
        self.log: list[str] = []

    def try_ack(self) -> bool:
        if self.at_once:
            self.log.append("ack at once")
        return self.at_once

    async def ack(self) -> None:
        self.log.append("ack")

    async def nack(self, delay: float = 0.0) -> None:
        self.log.append(f"nack {delay:g}")


class Bench:
    """A subscriber `numbers.see` of a durable queue at work."""

    def __init__(self, handler: Any, concurrency: int = 1000, **options: Any) -> None:
        self.broker = Letters()
        retry = Retry(attempts=3, backoff=2, jitter=0)
        settling = Kept("numbers.see", self.broker, DeliveryOptions(**{"queue": "see", "retry": retry, **options}))
        body = Codecs().body(int)
        self.subscriber = Subscriber(Work("numbers", "see", handler, body, None, "state", settling), concurrency)
        self.line: deque[Delivery] = deque()

    def run(self, *deliveries: Sent) -> list[list[str]]:
        """Hand them over together; how each was settled by then."""
        self.line = deque(deliveries)
        self.room = self.subscriber.many(self.line)
        return [delivery.log for delivery in deliveries]


def events(count: int) -> list[Sent]:
    return [Sent(number) for number in range(count)]


async def test_each_has_its_own_outcome_and_the_others_theirs() -> None:
    handled: list[int] = []
    gate = asyncio.Event()

    async def handle(number: int, context: Context) -> None:
        handled.append(number)
        match number:
            case 1:
                raise ValueError
            case 2:
                raise Nack(7)
            case 3:
                raise Reject("no use")
            case 4:
                await gate.wait()
            case 5:
                await context.ack()
            case 6:
                await context.nack(9)
            case 7:
                raise asyncio.CancelledError

    bench = Bench(handle)
    named, odd = {"Content-Type": "application/json"}, {"Content-Type": "image/png"}
    lapsed = Sent(72)
    lapsed.lapsed = True
    logs = bench.run(
        *events(8),
        Sent("no number"),
        Sent(70, headers=named),
        Sent("no number", headers=odd),
        lapsed,
        Sent(73, at_once=False),
        Sent(8),
    )
    assert handled == [0, 1, 2, 3, 4, 5, 6, 7, 70, 73, 8]
    assert logs[0] == logs[9] == logs[13] == ["ack at once"]
    assert logs[1:4] == [["nack 2"], ["nack 7"], ["ack"]]
    assert logs[4:7] == [[], ["ack"], ["nack 9"]]
    assert [log[0].partition(" ")[0] for log in (logs[7], logs[8], logs[10])] == ["nack", "ack", "ack"]
    assert (logs[11], logs[12]) == ([], ["ack"])
    assert bench.broker.letters == [b"3", b"no number", b"no number"]
    gate.set()
    await bench.subscriber.finish()
    assert logs[4] == ["ack at once"]
    assert not bench.line
    await bench.subscriber.cut_off()


async def test_one_at_a_time_is_in_order_and_the_rest_stays_in_line() -> None:
    log: list[str] = []

    async def handle(number: int, context: Context) -> None:
        log.append(f"begin {number}")
        if number % 3:
            await asyncio.sleep(0)
        log.append(f"end {number}")

    bench = Bench(handle, concurrency=1)
    sent = events(100)
    logs = bench.run(*sent)
    assert log == ["begin 0", "end 0", "begin 1"]
    assert len(bench.line) == 98
    while bench.room is not None or bench.line:
        if bench.room is not None:
            await bench.room
        bench.room = bench.subscriber.many(bench.line) if bench.line else None
    await bench.subscriber.finish()
    assert log == [f"{what} {number}" for number in range(100) for what in ("begin", "end")]
    assert logs == [["ack at once"]] * 100
    await bench.subscriber.cut_off()


async def test_what_a_handler_has_taken_back_is_not_begun() -> None:
    async def handle(number: int, context: Context) -> None:
        if number == 2:
            bench.line.clear()

    bench = Bench(handle)
    assert bench.run(*events(5)) == [["ack at once"]] * 3 + [[]] * 2
    await bench.subscriber.cut_off()


async def test_the_end_of_the_program_in_a_run_is_passed_on_and_leaves_the_rest_in_line() -> None:
    async def handle(number: int, context: Context) -> None:
        if number == 2:
            raise KeyboardInterrupt

    bench = Bench(handle)
    sent = events(5)
    with pytest.raises(KeyboardInterrupt):
        bench.run(*sent)
    assert [delivery.log for delivery in sent] == [["ack at once"]] * 2 + [[]] * 3
    assert list(bench.line) == sent[3:]
    await bench.subscriber.cut_off()


seen_by: ContextVar[str] = ContextVar("seen_by", default="nobody")


async def test_each_has_variables_a_context_and_where_it_waits_a_task_of_its_own() -> None:
    seen, contexts, tasks = list[str](), list[Context](), set[Any]()

    async def handle(number: int, context: Context) -> None:
        seen.append(seen_by.get())
        seen_by.set(str(number))
        assert current_context() is context
        contexts.append(context)
        if number % 2:
            task = asyncio.current_task()
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            tasks.add(task)
        assert seen_by.get() == str(number)

    bench = Bench(handle)
    logs = bench.run(*events(10))
    await bench.subscriber.finish()
    assert logs == [["ack at once"]] * 10
    assert (seen, len(tasks)) == (["nobody"] * 10, 5)
    for number, context in enumerate(contexts):
        assert (context.side, context.service, context.endpoint) == (Side.SUBSCRIBER, "numbers", "see")
        assert (context.topic, context.metadata, context.deadline, context.attempt) == ("numbers", {}, None, 1)
        assert (context.id, context.state, context.settled) == (f"id-{number}", "state", False)
    await bench.subscriber.cut_off()


@pytest.mark.parametrize("looked", [False, True])
async def test_what_a_handler_has_settled_is_not_settled_again(looked: bool) -> None:
    async def handle(number: int, context: Context) -> None:
        if looked:
            assert context.topic == "numbers"
        assert not context.settled
        await context.ack()
        assert context.settled
        assert context.topic == "numbers"
        assert context.settled
        if number == 1:
            raise ValueError

    bench = Bench(handle)
    assert bench.run(*events(3)) == [["ack"]] * 3
    await bench.subscriber.cut_off()
