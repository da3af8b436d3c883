"""The lock under which a stream is changed: who has to wait for it, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_nats.jetstream.api import ApiError
from eventmicro_nats.jetstream.lock import changing

TAKEN = ApiError(10148, "consumer already exists")
BEING_REMOVED = ApiError(10012, "open …/obs/eventmicro-declaring/o.dat.tmp: no such file or directory")
NOT_REMOVED = ApiError(10012, "error creating store for consumer")
NO_ROOM = ApiError(10012, "insufficient storage")


class Server:
    """Refuses the lock so, and then gives it."""

    def __init__(self, *refusals: ApiError) -> None:
        self.refusals = list(refusals)
        self.asked: list[str] = []

    async def call(self, what: str, arguments: Any = None, *, deadline: float) -> dict[str, Any]:
        self.asked.append(what.split(".")[1])
        if self.refusals and arguments is not None:
            raise self.refusals.pop(0)
        return dict(arguments or {})


async def change(server: Any, seconds: float = 5) -> None:
    async with changing(server, "EVENTS", asyncio.get_running_loop().time() + seconds):
        server.asked.append("change")


@pytest.mark.parametrize("refusal", [TAKEN, BEING_REMOVED, NOT_REMOVED])
async def test_a_lock_that_another_has_or_has_just_given_back_is_waited_for(refusal: ApiError) -> None:
    server = Server(refusal, refusal)
    await change(server)
    assert server.asked == ["CREATE", "CREATE", "CREATE", "change", "DELETE"]


async def test_a_lock_for_which_there_is_no_room_is_not_waited_for() -> None:
    server = Server(NO_ROOM)
    with pytest.raises(ApiError, match="insufficient"):
        await change(server)
    assert server.asked == ["CREATE"]


async def test_what_does_not_pass_is_said_when_there_is_no_time_left() -> None:
    server = Server(NOT_REMOVED)
    with pytest.raises(ApiError, match="creating store"):
        await change(server, seconds=0)
