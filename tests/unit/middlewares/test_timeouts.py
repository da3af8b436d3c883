"""The timeout, on all four sides."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventmicro import CallTimeout, Client, Context, Service, UsageError
from eventmicro.middlewares import Timeout
from tests.unit.middlewares.kit import Called, Clock, at


@pytest.mark.parametrize(("before", "after"), [(None, 1002.0), (1001.0, 1001.0), (1009.0, 1002.0)])
async def test_on_the_clients_side_it_moves_the_deadline_nearer(
    clock: Clock, before: float | None, after: float
) -> None:
    context = at(deadline=before)
    await Timeout(2)(None, context, Called())
    assert context.deadline == after


@pytest.mark.parametrize("side", ["endpoint", "subscriber", "publisher"])
async def test_elsewhere_it_cancels_what_runs_inside(side: str) -> None:
    called = Called()
    called.gate.clear()
    with pytest.raises(CallTimeout, match=r"orders\.quote: not finished within the timeout of 0.01 s"):
        await Timeout(0.01)(None, at(side), called)
    assert called.cancelled == 1
    called.gate.set()
    assert await Timeout(60)(None, at(side), called) == "answer"


async def test_a_timeout_of_what_runs_inside_is_its_own() -> None:
    with pytest.raises(TimeoutError, match="of the database"):
        await Timeout(60)(None, at("endpoint"), Called(TimeoutError("of the database")))


async def test_a_call_ends_by_it_and_its_handler_too(until: Any) -> None:
    service = Service("slow", broker="memory://timeouts")
    cancelled: list[float] = []

    @service.rpc
    async def wait(context: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(context.remaining() or 0.0)

    @service.rpc(middleware=[Timeout(0.02)])
    async def limited() -> None:
        await asyncio.Event().wait()

    async with service, Client("memory://timeouts", middleware=[Timeout(0.2)]) as client:
        with pytest.raises(CallTimeout, match="no reply"):
            await client.call("slow.wait")
        await until(lambda: cancelled)
        assert len(cancelled) == 1
        assert cancelled[0] < 0.2  # of the client's own 5 seconds there would be more
    async with service, Client("memory://timeouts") as client:
        with pytest.raises(CallTimeout, match=r"slow\.limited: not finished within the timeout of 0.02 s"):
            await client.call("slow.limited")


@pytest.mark.parametrize("seconds", [0, -1, "2", None])
def test_what_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(UsageError, match="Timeout="):
        Timeout(seconds)
