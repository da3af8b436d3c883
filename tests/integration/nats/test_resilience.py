"""Retries, hedges and the breaker over a real server, with calls to chosen nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from eventmicro import CallRetry, CallTimeout, Client, InternalError, Service, Unavailable
from eventmicro.middlewares import CircuitBreaker, State, in_order
from eventmicro.rpc.budget import RESERVE

Until = Callable[[Callable[[], object]], Awaitable[None]]
QUICK = CallRetry(attempts=3, backoff=0.01)


class Node:
    """One node of a service, which may fail, or wait for ever."""

    def __init__(self, url: str, service: str, id: str) -> None:
        self.id = id
        self.service = Service(service, id=id, broker=url)
        self.mood = "well"
        self.runs = 0
        self.cancelled = 0

        @self.service.rpc(idempotent=True)
        async def who() -> str:
            self.runs += 1
            if self.mood == "fails":
                raise InternalError("broken")
            if self.mood == "waits":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled += 1
            return id


async def test_a_call_is_made_again_at_a_node_that_was_not_tried(nats_url: str) -> None:
    name = "retried"
    nodes = [Node(nats_url, name, f"n{number}") for number in range(3)]
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.service)
        client = await stack.enter_async_context(Client(nats_url, selector="round-robin", retry=QUICK))
        await client.call(f"{name}.who", None, str)  # from now on it knows the terms
        nodes[0].mood = nodes[1].mood = "fails"
        answers = [await client.call(f"{name}.who", None, str) for _ in range(4)]
        assert answers == ["n2"] * 4
        assert nodes[0].runs + nodes[1].runs >= 2


async def test_an_attempt_that_is_not_answered_is_cancelled_there_and_made_elsewhere(
    nats_url: str, until: Until
) -> None:
    name = "hung"
    one, other = Node(nats_url, name, "one"), Node(nats_url, name, "other")
    retry = CallRetry(attempts=2, attempt_timeout=0.1, backoff=0)
    async with one.service, other.service, Client(nats_url, selector="round-robin", retry=retry) as client:
        await client.call(f"{name}.who", None, str)
        one.mood = "waits"
        before = one.runs
        assert [await client.call(f"{name}.who", None, str) for _ in range(4)] == ["other"] * 4
        given_up = one.runs - before
        assert given_up >= 1
        await until(lambda: one.cancelled == given_up)


async def test_of_a_hedged_call_the_first_answer_is_taken_and_the_loser_is_cancelled(
    nats_url: str, until: Until
) -> None:
    name = "hedged"
    one, other = Node(nats_url, name, "one"), Node(nats_url, name, "other")
    async with one.service, other.service, Client(nats_url, selector="round-robin", hedge=0.05) as client:
        await client.call(f"{name}.who", None, str)
        one.mood = "waits"
        before = one.runs
        assert [await client.call(f"{name}.who", None, str) for _ in range(6)] == ["other"] * 6
        hedged = one.runs - before
        assert hedged >= 1
        await until(lambda: one.cancelled == hedged)
        assert len(client._caller) == 0


async def test_a_storm_against_a_service_that_is_gone_stays_within_its_budget(nats_url: str) -> None:
    async with Client(nats_url, retry=CallRetry(attempts=10, backoff=0)) as client:
        for _ in range(10):
            calls = (client.call("storm.quote", None, str) for _ in range(30))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in outcomes} == {Unavailable}
        assert client._caller.retries.budget("storm.quote").spent <= 300 * 0.1 + RESERVE


async def test_a_node_whose_circuit_is_open_is_left_alone_then_probed(nats_url: str, until: Until) -> None:
    name = "broken"
    one, other = Node(nats_url, name, "one"), Node(nats_url, name, "other")
    breaker = CircuitBreaker(minimum=3, open_for=0.3)
    states: list[tuple[str, State]] = []
    breaker._on_change = lambda circuit: states.append((circuit.node, circuit.state))
    words = {"selector": "round-robin", "middleware": in_order(breaker)}
    async with one.service, other.service, Client(nats_url, **words) as client:  # type: ignore[arg-type]

        async def called(times: int) -> Counter[str]:
            outcomes = await asyncio.gather(
                *(client.call(f"{name}.who", None, str) for _ in range(times)), return_exceptions=True
            )
            return Counter(each if isinstance(each, str) else type(each).__name__ for each in outcomes)

        await called(2)
        one.mood = "fails"
        for _ in range(3):
            await called(4)
        assert states[:1] == [("one", State.OPEN)]
        runs = one.runs
        if states == [("one", State.OPEN)]:  # on a machine so slow that its time is over it is probed already
            assert await called(20) == {"other": 20}
            assert one.runs <= runs + 1
        one.mood = "well"

        async def recover() -> None:
            while ("one", State.CLOSED) not in states:
                await called(4)
                await asyncio.sleep(0.02)

        await asyncio.wait_for(recover(), 20)
        assert (await called(20)).keys() == {"one", "other"}


async def test_the_deadline_holds_for_all_attempts_together(nats_url: str) -> None:
    node = Node(nats_url, "late", "one")
    node.mood = "waits"
    retry = CallRetry(attempts=100, attempt_timeout=0.05, backoff=0.01, budget=None)
    async with node.service, Client(nats_url) as client:
        with pytest.raises(CallTimeout, match=r"attempts\)"):
            await client.call("late.who", None, str, timeout=1.0, retry=retry, idempotent=True)
        assert 2 <= node.runs <= 20
