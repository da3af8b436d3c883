"""Testing several services together: what they publish and call, what goes wrong between them, time that skips.

pytest examples/27_testing_several_services.py
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import pytest
from pydantic import BaseModel

from eventmicro import Conflict, Depends, InternalError, Retry, Service, Topic, Unavailable
from eventmicro.testing import World

# -- the services, as they would stand in modules of their own --------------------------------------------------------


class Booking(BaseModel):
    guest: str
    nights: int


class Room(BaseModel):
    number: int


class Letter(BaseModel):
    to: str
    text: str


BOOKED = Topic("hotel.booked", Booking)
MAILED = Topic("hotel.mailed", Letter)
rooms, desk, mail = Service("hotel-rooms"), Service("hotel-desk"), Service("hotel-mail")


def free_rooms() -> list[int]:
    raise NotImplementedError("the real one asks a database")


@rooms.rpc
async def reserve(booking: Booking, free: Annotated[list[int], Depends(free_rooms)]) -> Room:
    if not free:
        raise Conflict("the house is full")
    return Room(number=free.pop())


@desk.rpc
async def book(booking: Booking) -> Room:
    room = await desk.call("hotel-rooms.reserve", booking, Room, timeout=5)
    await desk.publish(BOOKED, booking)
    return room


@mail.subscribe(BOOKED, retry=Retry(attempts=5, backoff=60, jitter=0))
async def confirm(booking: Booking) -> None:
    await asyncio.sleep(10)  # a slow machine
    await mail.publish(MAILED, Letter(to=booking.guest, text=f"{booking.nights} nights"))


# -- their tests ------------------------------------------------------------------------------------------------------

ANN = Booking(guest="Ann", nights=2)


def hotel(*free: int) -> World:
    """The three of them, with these rooms."""
    return World(rooms, desk, mail, overrides={free_rooms: lambda: list(free)})


def test_a_guest_gets_a_room_and_a_letter() -> None:
    async def test(world: World) -> None:
        assert await world.client.call("hotel-desk.book", ANN, Room) == Room(number=7)
        await world.idle()  # ten seconds that take no time
        assert world.published(MAILED) == [Letter(to="Ann", text="2 nights")]

    hotel(7).run(test)


def test_nothing_is_booked_in_a_full_house() -> None:
    async def test(world: World) -> None:
        with pytest.raises(InternalError):
            await world.client.call("hotel-desk.book", ANN, Room)
        [asked] = world.called("hotel-rooms.reserve")
        assert isinstance(asked.error, Conflict)
        assert world.published(BOOKED) == []

    hotel().run(test)


def test_a_letter_is_tried_again_until_the_machine_works() -> None:
    async def test(world: World) -> None:
        world.fail("hotel-mail.confirm", Unavailable("no paper"), times=2)
        await world.client.publish(BOOKED, ANN)
        await world.advance(60 + 60)
        assert [each.outcome for each in world.handled(BOOKED)] == ["failed", "failed", "running"]
        await world.advance(10)
        assert [each.guest for each in world.published(BOOKED)] == [each.to for each in world.published(MAILED)]

    hotel().run(test)


def test_rooms_that_do_not_answer_are_not_waited_for_in_real_time() -> None:
    async def test(world: World) -> None:
        with world.drop("hotel-rooms.reserve"), pytest.raises(Unavailable):
            await world.client.call("hotel-desk.book", ANN, Room, timeout=60)

    hotel(7).run(test)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
