"""Hedged calls: a second request where no answer comes, the first answer, and nothing left of the other."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from eventmicro import BadRequest, CallRetry, Client, InternalError, Service, Unavailable, UsageError

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://hedging"


class Slow:
    """A service whose calls wait until a test lets them go on, and which counts them."""

    def __init__(self) -> None:
        self.service = Service("slow", broker=URL)
        self.gates: list[asyncio.Future[int]] = []
        self.cancelled = 0

        @self.service.rpc(concurrency=100_000)
        async def wait() -> int:
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            try:
                return await gate  # type: ignore[no-any-return]
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        @self.service.rpc
        async def echo() -> int:
            return 7


def waiting(client: Client) -> int:
    return len(client._caller)


def subscriptions(client: Client) -> int:
    hub = client.broker._hub  # type: ignore[attr-defined]
    return len(hub._exact) + len(hub._wild)


@pytest.mark.parametrize("winner", [0, 1])
async def test_the_first_answer_is_taken_and_the_other_one_is_cancelled(until: Until, winner: int) -> None:
    slow = Slow()
    async with slow.service, Client(URL) as client:
        call = asyncio.create_task(client.call("slow.wait", None, int, hedge=0.001, idempotent=True))
        await until(lambda: len(slow.gates) == 2)
        slow.gates[winner].set_result(winner)
        assert await call == winner
        await until(lambda: slow.cancelled == 1)
        assert waiting(client) == 0
        assert client._caller.retries.budget("slow.wait").spent == 1


async def test_an_answer_in_time_is_one_request(until: Until) -> None:
    slow = Slow()
    async with slow.service, Client(URL) as client:
        assert await client.call("slow.echo", None, int, hedge=60, idempotent=True) == 7
        assert client._caller.retries.budget("slow.echo").spent == 0


@pytest.mark.parametrize(("error", "is_answer"), [(BadRequest("no"), True), (InternalError("failed"), False)])
async def test_an_error_that_no_other_attempt_would_change_is_an_answer(
    until: Until, error: Exception, is_answer: bool
) -> None:
    slow = Slow()
    async with slow.service, Client(URL) as client:
        call = asyncio.create_task(client.call("slow.wait", None, int, hedge=0.001, idempotent=True))
        await until(lambda: len(slow.gates) == 2)
        slow.gates[0].set_exception(error)
        if is_answer:
            with pytest.raises(BadRequest):
                await call
            await until(lambda: slow.cancelled == 1)
        else:
            slow.gates[1].set_result(5)
            assert await call == 5


async def test_where_both_fail_the_call_has_failed_and_may_be_made_again(until: Until) -> None:
    slow = Slow()
    async with slow.service, Client(URL) as client:
        words: Any = {"hedge": 0.001, "idempotent": True, "retry": CallRetry(attempts=2, backoff=0)}
        call = asyncio.create_task(client.call("slow.wait", None, int, **words))
        for attempt in (1, 2):
            await until(lambda attempt=attempt: len(slow.gates) == 2 * attempt)  # type: ignore[misc]
            for gate in slow.gates[-2:]:
                gate.set_exception(Unavailable(f"attempt {attempt}"))
        with pytest.raises(Unavailable, match=r"attempt 2 \(2 attempts\)"):
            await call


async def test_a_hedge_counts_against_the_budget(until: Until) -> None:
    slow = Slow()
    async with slow.service, Client(URL, retry=CallRetry(attempts=1, budget=0)) as client:
        calls = [
            asyncio.create_task(client.call("slow.wait", None, int, hedge=0.001, idempotent=True, timeout=60))
            for _ in range(30)
        ]
        await until(lambda: len(slow.gates) == 30 + 10)
        await asyncio.sleep(0.05)  # more would come by now
        assert len(slow.gates) == 30 + 10
        for gate in slow.gates:
            gate.set_result(7)
        assert await asyncio.gather(*calls) == [7] * 30


async def test_a_client_hedges_what_is_known_to_be_idempotent_alone(until: Until) -> None:
    slow = Slow()
    async with slow.service, Client(URL, hedge=0.001) as client:
        for words, sent in (({}, 1), ({"idempotent": True}, 3), ({"idempotent": True, "hedge": 0}, 4)):
            call = asyncio.create_task(client.call("slow.wait", None, int, timeout=60, **words))
            await until(lambda sent=sent: len(slow.gates) == sent)  # type: ignore[misc]
            await asyncio.sleep(0.05)  # more would come by now
            assert len(slow.gates) == sent
            slow.gates[-1].set_result(sent)
            assert await call == sent


async def test_a_hedge_is_refused_where_the_call_may_not_be_made_twice() -> None:
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=r"hedge=0.1 may send .* slow.wait is not known .* idempotent=True"):
            await client.call("slow.wait", hedge=0.1)
        with pytest.raises(UsageError, match=r"slow\.wait is not known to be idempotent"):
            await client.call("slow.wait", hedge=0.1, idempotent=False)


async def test_a_cancelled_call_cancels_both(until: Until) -> None:
    slow = Slow()
    async with slow.service, Client(URL) as client:
        call = asyncio.create_task(client.call("slow.wait", None, int, hedge=0.001, idempotent=True))
        await until(lambda: len(slow.gates) == 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: slow.cancelled == 2)
        assert waiting(client) == 0


@pytest.mark.timeout_seconds(120)
async def test_ten_thousand_cancelled_calls_leave_no_task_no_subscription_and_no_memory(until: Until) -> None:
    slow = Slow()
    policy = CallRetry(attempts=3, attempt_timeout=30, budget=None)
    async with slow.service, Client(URL, retry=policy, hedge=0.01) as client:

        async def cancel(many: int) -> None:
            call = partial(client.call, "slow.wait", None, int, idempotent=True, timeout=60)
            calls = [asyncio.create_task(call()) for _ in range(many)]
            await until(lambda: len(slow.gates) == 2 * many)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: slow.cancelled == 2 * many)
            slow.gates.clear()
            slow.cancelled = 0

        await cancel(500)
        tasks, listening = asyncio.all_tasks(), subscriptions(client)
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(20):
            await cancel(500)
        await until(lambda: asyncio.all_tasks() <= tasks)
        gc.collect()
        held = sys.getallocatedblocks() - before
        assert waiting(client) == 0
        assert subscriptions(client) == listening
        assert client._caller.retries._losers == set()
        assert held < 5_000  # less than one for each
        assert await client.call("slow.echo", None, int) == 7


async def test_a_directed_call_knows_what_is_idempotent_from_the_first_on(until: Until) -> None:
    """Its client looks the service up before it refuses to send a request twice."""
    service, gates = Service("known", broker=URL), list[asyncio.Future[int]]()

    @service.rpc(idempotent=True)
    async def wait() -> int:
        gates.append(asyncio.get_running_loop().create_future())
        return await gates[-1]

    @service.rpc
    async def pay() -> int:
        return 1

    async with service, Client(URL, selector="random") as client:
        call = asyncio.create_task(client.call("known.wait", None, int, hedge=0.001))
        await until(lambda: len(gates) == 2)
        gates[1].set_result(7)
        assert await call == 7
    async with service, Client(URL) as client:
        with pytest.raises(UsageError, match=r"known\.pay is not known to be idempotent"):
            await client.call("known.pay", None, int, selector="random", hedge=0.001)
        assert await client.call("known.pay", None, int) == 1
