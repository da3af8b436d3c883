"""intake: the adapters' line between what comes and a consumer that takes many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import pytest

from eventmicro.intake import Intake
from eventmicro.message import Delivery


class Taking:
    """A consumer that takes many: so many at once, with what it returns and does said by a test."""

    def __init__(self, most: int, after: Callable[[], Awaitable[None] | None] = lambda: None) -> None:
        self.runs: list[list[str]] = []
        self.most = most
        self.after = after

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        return self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> Awaitable[None] | None:
        self.runs.append([line.popleft().subject for _ in range(min(self.most, len(line)))])
        return self.after()


def came(*names: str) -> list[Delivery]:
    return [Delivery(name) for name in names]


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_comes_together_goes_together_and_the_rest_at_once_where_there_is_room() -> None:
    taking = Taking(2)
    intake = Intake[Delivery](taking)
    intake.take_all(came("1", "2", "3"))
    intake.take(Delivery("4"))
    assert (taking.runs, len(intake)) == ([["1", "2"], ["3"], ["4"]], 0)


async def test_what_finds_no_room_waits_and_is_marked_so_and_those_behind_it_too() -> None:
    rooms: list[asyncio.Future[None]] = []

    def no_room() -> Awaitable[None]:
        rooms.append(asyncio.get_running_loop().create_future())
        return rooms[-1]

    taking = Taking(1, no_room)
    intake = Intake[Delivery](taking)
    deliveries = came("1", "2", "3")
    intake.take_all(deliveries)
    later = Delivery("4")
    intake.take(later)
    await turns()
    assert (taking.runs, len(intake)) == ([["1"]], 3)
    assert [delivery.arrived is None for delivery in (*deliveries, later)] == [True, False, False, False]
    for number in range(4):
        assert len(rooms) == number + 1
        rooms[number].set_result(None)
        await turns()
    assert taking.runs == [["1"], ["2"], ["3"], ["4"]]
    await intake.join()
    assert intake.stands_at is None


async def test_one_that_is_held_by_its_own_consumer_hands_nothing_over_until_it_goes_on() -> None:
    def hold() -> None:
        intake.hold()

    taking = Taking(1, hold)
    intake = Intake[Delivery](taking)
    intake.take_all(came("1", "2", "3"))
    assert taking.runs == [["1"]]
    assert intake.stands_at is not None
    taking.after = lambda: None
    intake.go_on()
    await intake.join()
    assert taking.runs == [["1"], ["2"], ["3"]]


@pytest.mark.parametrize("room", [False, True], ids=["without room", "with room"])
async def test_one_that_is_closed_by_its_own_consumer_drops_the_rest_and_leaves_no_task(room: bool) -> None:
    def close() -> Awaitable[None] | None:
        intake.close()
        return None if room else asyncio.get_running_loop().create_future()

    taking = Taking(1, close)
    intake = Intake[Delivery](taking)
    intake.take_all(came("1", "2", "3"))
    intake.take(Delivery("4"))
    await turns()
    assert (taking.runs, len(intake)) == ([["1"]], 0)
    await intake.join()


async def test_what_is_taken_back_is_not_handed_over_and_what_is_put_first_is_first() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    taking = Taking(1, lambda: gate)
    intake = Intake[Delivery](taking)
    intake.take_all(came("1", "2", "3"))
    assert [delivery.subject for delivery in intake.take_back()] == ["2", "3"]
    intake.take(Delivery("5"))
    intake.put_first(Delivery("4"))
    taking.after = lambda: None
    gate.set_result(None)
    await intake.join()
    assert taking.runs == [["1"], ["4"], ["5"]]


async def test_one_that_is_closed_before_its_wait_for_room_has_begun_can_be_joined() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    intake = Intake[Delivery](Taking(1, lambda: gate))
    intake.take_all(came("1", "2"))
    intake.close()
    async with asyncio.timeout(20):
        await intake.join()
    assert intake.take_back() == []


async def test_a_consumer_that_has_it_held_gets_no_more_of_what_came_together() -> None:
    got: list[str] = []

    def receive(delivery: Delivery) -> None:
        got.append(delivery.subject)
        if delivery.subject == "1":
            intake.hold()

    intake: Intake[Delivery] = Intake(receive)
    intake.take_all(came("0", "1", "2", "3"))
    assert got == ["0", "1"]
    intake.put_first(Delivery("1"))  # as one that was given back
    got.clear()
    intake.go_on()
    await turns()
    assert got == ["1"]
    intake.go_on()
    await turns()
    assert got == ["1", "2", "3"]


async def test_a_consumer_of_many_that_breaks_its_word_and_raises_does_not_stop_the_rest() -> None:
    got: list[str] = []

    def many(line: deque[Delivery]) -> None:
        got.append(line.popleft().subject)
        if got[-1] in "12":
            raise ValueError

    consumer = Taking(1)
    consumer.many = many  # type: ignore[assignment,method-assign]
    intake: Intake[Delivery] = Intake(consumer)
    intake.take_all(came("0", "1", "2", "3"))
    await turns()
    assert got == ["0", "1", "2", "3"]


async def test_a_consumer_of_many_that_takes_none_does_not_keep_others_from_running() -> None:
    consumer = Taking(0)
    intake: Intake[Delivery] = Intake(consumer)
    intake.take_all(came("0", "1"))
    await turns()  # which would never come
    assert len(intake) == 2
    consumer.most = 2
    await turns()
    assert consumer.runs[-1] == ["0", "1"]
    intake.close()
