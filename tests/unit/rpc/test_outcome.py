"""outcome: a call goes on within the read that brings its reply, wherever that can be, and once in every case."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from eventmicro.handlers.eager import EagerStarter
from eventmicro.message import Delivery
from eventmicro.rpc.outcome import Outcome
from tests.unit.rpc.test_caller import Calling, Wire


async def outside(act: Callable[[], object]) -> None:
    """Do it as the event loop does what comes from a socket: while no task is running."""
    done = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            done.set_result(act())
        except BaseException as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(callback)
    await done


def outcome() -> Outcome:
    return Outcome(asyncio.get_running_loop(), "1.5000ms", "orders.quote", 0.0)


async def waiting(outcome: Outcome, said: list[Any]) -> asyncio.Task[None]:
    async def wait() -> None:
        try:
            said.append(await outcome)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def test_calls_go_on_within_the_read_of_their_replies_and_what_they_send_next_leaves_with_it() -> None:
    async with Calling(Wire()) as calling:

        async def twice() -> int:
            return await calling.client.call("orders.double", 4, int) + await calling.client.call(
                "orders.double", 8, int
            )

        tasks = [asyncio.create_task(twice()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        replies = [calling.reply(number) for number in range(len(calling.wire.requests))]
        assert len(replies) == 3
        sent: list[int] = []
        await outside(lambda: (calling.caller.many(deque(replies)), sent.append(len(calling.wire.requests))))
        assert sent == [6], "the next requests, as soon as the replies were taken"
        calling.caller.many(deque(calling.reply(number) for number in range(3, 6)))
        assert await asyncio.gather(*tasks) == [16, 16, 16]
        assert calling.has_nothing()


async def test_a_call_that_goes_on_and_takes_back_the_other_replies_of_its_read_harms_nobody() -> None:
    async with Calling(Wire()) as calling:
        line: deque[Delivery] = deque()

        async def takes_back() -> int:
            reply = await calling.client.call("orders.double", 4, int)
            line.clear()
            return reply

        first = asyncio.create_task(takes_back())
        await asyncio.sleep(0)
        second = await calling.call(8, int)
        line.extend([calling.reply(0), calling.reply(1, b"16")])
        await outside(lambda: calling.caller.many(line))
        assert await first == 8
        assert not second.done()
        calling.caller(calling.reply(1, b"16"))
        assert await second == 16


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_there_before_it_is_awaited_is_not_waited_for(at_once: bool) -> None:
    reply = outcome()
    reply.set("reply", at_once)
    assert await reply == "reply"


async def test_the_first_outcome_stands() -> None:
    reply, said = outcome(), list[Any]()
    task = await waiting(reply, said)
    reply.set("first", at_once=False)
    reply.set("second", at_once=False)
    assert not reply.cancel()
    await task
    assert said == ["first"]


async def test_from_within_another_task_it_goes_on_in_the_next_turn() -> None:
    reply, said = outcome(), list[Any]()
    task = await waiting(reply, said)
    reply.set("reply", at_once=True)  # this task is running: the other cannot be entered
    assert said == []
    await task
    assert said == ["reply"]


async def test_from_within_its_own_context_variables_it_goes_on_in_the_next_turn() -> None:
    reply, said, variables = outcome(), list[Any](), copy_context()

    async def wait() -> None:
        said.append(await reply)

    task = asyncio.get_running_loop().create_task(wait(), context=variables)
    await asyncio.sleep(0)
    await outside(lambda: variables.run(reply.set, "reply", True))
    await task
    assert said == ["reply"]


async def test_a_cancelled_wait_ends_once_whatever_comes_with_it() -> None:
    reply, said = outcome(), list[Any]()
    task = await waiting(reply, said)
    task.cancel()
    await outside(lambda: reply.set("reply", at_once=True))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["cancelled"]


async def test_one_that_is_cancelled_after_its_outcome_has_come_is_cancelled() -> None:
    reply, said = outcome(), list[Any]()
    task = await waiting(reply, said)
    reply.set("reply", at_once=False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["cancelled"], "as with a future of asyncio's"


async def test_a_timeout_ends_the_wait() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await outcome()


@pytest.mark.parametrize("how", ["reply", "cancel"])
async def test_a_handler_that_calls_goes_on_though_the_outcome_comes_before_it_has_moved_into_its_task(
    how: str,
) -> None:
    reply, said = outcome(), list[Any]()

    async def handler() -> None:
        try:
            said.append(await reply)
        except asyncio.CancelledError:
            said.append("cancelled")

    starter = EagerStarter()
    tasks: list[Any] = []
    await outside(lambda: tasks.append(starter.start(handler())))
    (task,) = tasks
    if how == "reply":
        reply.set("reply", at_once=True)
    else:
        task.cancel()
    await asyncio.wait([task])
    assert said == [{"reply": "reply", "cancel": "cancelled"}[how]]
    starter.close()
