"""inflight: how many handlers wait at the same time, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventmicro.context import Context, Side, enter_context
from eventmicro.handlers.inflight import InFlight


class Work:
    """Handlers that wait until they are told to go on."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = 0
        self.most = 0
        self.done = 0
        self.cancelled = 0

    async def __call__(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            self.done += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_the_limit_is_reached_and_never_passed(limit: int) -> None:
    inflight, work = InFlight(limit), Work()
    work.gate.set()
    gates = [asyncio.Event() for _ in range(40)]
    running = most = done = 0

    async def handle(gate: asyncio.Event) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        done += 1

    async def feed() -> None:
        for gate in gates:
            inflight.start(handle(gate))
            room = inflight.room()
            if room is not None:
                await room

    feeding = asyncio.create_task(feed())
    for gate in gates:
        await asyncio.sleep(0)
        gate.set()
    await feeding
    await inflight.finish()
    assert (most, done, len(inflight)) == (limit, 40, 0)
    await inflight.cut_off()


async def test_there_is_room_until_the_limit_and_again_when_one_has_ended() -> None:
    inflight, work = InFlight(2), Work()
    assert inflight.room() is None
    inflight.start(work())
    assert inflight.room() is None
    inflight.start(work())
    room = inflight.room()
    assert room is not None
    assert inflight.room() is room
    work.gate.set()
    await room
    assert inflight.room() is None
    await inflight.finish()
    await inflight.cut_off()


async def test_whoever_gives_up_waiting_for_room_does_not_spoil_it_for_the_next() -> None:
    inflight, work = InFlight(1), Work()
    inflight.start(work())
    room = inflight.room()
    assert room is not None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(room, 0.001)
    again = inflight.room()
    assert again is not None
    work.gate.set()
    await again
    await inflight.cut_off()


async def test_what_ends_at_once_takes_no_room() -> None:
    inflight = InFlight(1)

    async def quick() -> None: ...

    for _ in range(100):
        assert inflight.start(quick()) is None
        assert inflight.room() is None
    assert await inflight.cut_off() == 0


async def test_finish_waits_for_all_also_for_what_begins_meanwhile() -> None:
    inflight, work, late = InFlight(10), Work(), Work()

    async def begins_another() -> None:
        await work.gate.wait()
        inflight.start(late())

    inflight.start(begins_another())
    finishing = asyncio.create_task(inflight.finish())
    work.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not finishing.done()
    late.gate.set()
    await finishing
    assert late.done == 1
    await inflight.cut_off()


async def test_what_is_left_alone_is_not_waited_for_nor_cancelled_and_takes_its_room_until_it_ends() -> None:
    inflight, work, other = InFlight(2), Work(), Work()
    message = Context(Side.SUBSCRIBER)

    async def with_message() -> None:
        enter_context(message)
        await work()

    inflight.start(with_message())
    inflight.start(other())
    room = inflight.room()
    finishing = asyncio.create_task(inflight.finish())
    await asyncio.sleep(0)
    inflight.leave_alone(Context(Side.SUBSCRIBER))
    assert len(inflight) == 2
    inflight.leave_alone(message)
    assert (len(inflight), inflight.room()) == (1, room)
    other.gate.set()
    await finishing
    assert await inflight.cut_off() == 0
    assert (work.running, work.cancelled) == (1, 0)
    work.gate.set()
    assert room is not None
    await room
    await inflight.finish()
    while not work.done:
        await asyncio.sleep(0)


async def test_cut_off_cancels_what_runs_waits_for_it_and_says_how_many() -> None:
    inflight, work = InFlight(10), Work()
    for _ in range(3):
        inflight.start(work())
    assert await inflight.cut_off() == 3
    assert (work.cancelled, len(inflight)) == (3, 0)
    assert await inflight.cut_off() == 0


async def test_a_failure_is_told_to_the_loop_and_harms_nobody() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    inflight = InFlight(1)

    async def fails_later() -> None:
        await asyncio.sleep(0)
        raise LookupError("later")

    inflight.start(fails_later())
    room = inflight.room()
    assert room is not None
    await room
    assert [str(error) for error in told] == ["later"]
    await inflight.cut_off()


async def test_a_failure_before_the_first_wait_is_told_to_the_loop_too_and_not_raised_to_the_broker() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    inflight = InFlight(1)

    async def fails_at_once() -> None:
        raise LookupError("at once")

    assert inflight.start(fails_at_once()) is None
    assert [str(error) for error in told] == ["at once"]
    assert inflight.room() is None
    await inflight.cut_off()
