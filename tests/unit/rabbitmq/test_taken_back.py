"""RabbitMQ: what becomes of events that it has taken back while they were here."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.connection.properties import Received
from eventmicro_rabbitmq.consuming import taken_back
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, read_event
from eventmicro_rabbitmq.consuming.taken_back import TakenBack

from tests.conftest import Until


class Bench:
    """A subscription that notes what is acknowledged and handed over."""

    def __init__(self, patience: float = 60.0, lifetime: float = 60.0) -> None:
        self.acked: list[RabbitDelivery] = []
        self.handed: list[RabbitDelivery] = []
        self.taken_back = TakenBack(self.acked.append, self.handed.append, patience, lifetime)

    def event(self, id: str = "a", body: bytes = b"1", attempt: int = 1) -> RabbitDelivery:
        holder: object = object()
        properties = Properties(message_id=id)
        delivery = RabbitDelivery("s", body, properties, 1, holder, holder)  # type: ignore[arg-type]
        delivery.id, delivery.attempt = id, attempt
        return delivery


async def test_what_ended_well_is_acknowledged_when_it_comes_again_once() -> None:
    bench = Bench()
    first = bench.event()
    bench.taken_back.take([first])
    await first.ack()
    again, once_more = bench.event(), bench.event()
    assert bench.taken_back.keeps(again)
    assert not bench.taken_back.keeps(once_more), "that is another one, of the same id"
    assert (bench.acked, bench.handed) == ([again], [])


async def test_one_of_the_same_id_with_another_body_is_another() -> None:
    bench = Bench()
    first = bench.event()
    bench.taken_back.take([first])
    await first.ack()
    assert not bench.taken_back.keeps(bench.event(body=b"2"))


def unnamed() -> RabbitDelivery:
    """An event to which its publisher has given no id, as it comes."""
    event = Event(1, True, "shop", "tick", Received(), b'{"tick": 1}')
    return read_event(event, event.properties, event.body, Bench(), "q", "dead")  # type: ignore[arg-type]


async def test_one_without_an_id_may_be_another_that_says_the_same_and_is_run() -> None:
    bench = Bench()
    first = unnamed()
    bench.taken_back.take([first])
    await first.ack()
    bench.taken_back.ended_well([unnamed()])
    other = unnamed()
    assert other.id == first.id
    assert not bench.taken_back.keeps(other)
    assert bench.acked == []


async def test_one_without_an_id_is_not_run_beside_itself_and_run_in_any_case() -> None:
    bench = Bench()
    first, again = unnamed(), unnamed()
    bench.taken_back.take([first])
    assert bench.taken_back.keeps(again)
    await first.ack()
    assert (bench.acked, bench.handed) == ([], [again])


async def test_what_ended_well_is_forgotten_when_it_could_be_another() -> None:
    bench = Bench(lifetime=0.0)
    first = bench.event()
    bench.taken_back.take([first])
    bench.taken_back.not_counted([first])
    await first.ack()
    again = bench.event(attempt=2)
    assert not bench.taken_back.keeps(again)
    assert not bench.taken_back.was_not_begun(again)
    assert (bench.acked, again.attempt) == ([], 2)


async def test_what_comes_again_waits_for_the_handler_that_is_still_at_it() -> None:
    for settle, acked, handed in (("ack", 1, 0), ("nack", 0, 1)):
        bench = Bench()
        first, again = bench.event(), bench.event()
        bench.taken_back.take([first])
        assert bench.taken_back.keeps(again)
        assert again.waiting, "it can be taken back once more"
        await getattr(first, settle)()
        assert (len(bench.acked), len(bench.handed), again.waiting) == (acked, handed, False)


async def test_it_waits_no_longer_than_a_handler_may_take(until: Until) -> None:
    bench = Bench(patience=0.01)
    first, again = bench.event(), bench.event()
    bench.taken_back.take([first])
    assert bench.taken_back.keeps(again)
    await until(lambda: bench.handed == [again])
    assert not bench.taken_back.keeps(bench.event()), "the time is over"


async def test_one_that_was_taken_back_again_while_it_waited_is_remembered_for_the_next(until: Until) -> None:
    bench = Bench()
    first, again, at_last = bench.event(), bench.event(), bench.event()
    bench.taken_back.take([first])
    assert bench.taken_back.keeps(again)
    again.lapsed = True
    await first.ack()
    assert bench.acked == []
    assert bench.taken_back.keeps(at_last)
    assert bench.acked == [at_last]


async def test_what_was_not_begun_counts_no_attempt() -> None:
    bench = Bench()
    bench.taken_back.not_counted([bench.event()])
    again = bench.event(attempt=2)
    assert bench.taken_back.was_not_begun(again)
    assert again.attempt == 1
    failed = bench.event(attempt=3)
    assert bench.taken_back.was_not_begun(failed)
    assert failed.attempt == 2, "the server counts on"
    bench.taken_back.counted(failed)
    copy = bench.event(attempt=2)
    assert not bench.taken_back.was_not_begun(copy)
    assert copy.attempt == 2


async def test_it_does_not_remember_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken_back, "REMEMBERED", 3)
    bench = Bench()
    for number in range(9):
        event = bench.event(str(number))
        bench.taken_back.take([event])
        bench.taken_back.not_counted([event])
        if number % 2:
            await event.ack()
    await asyncio.sleep(0)
    kept = bench.taken_back
    assert max(len(kept._well), len(kept._running), len(kept._not_counted)) <= 3
