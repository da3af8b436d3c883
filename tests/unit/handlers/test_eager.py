"""eager: a coroutine stepped at once behaves as in a task of its own, on every Python."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from eventmicro.handlers.eager import EagerStarter, Task

number: ContextVar[int] = ContextVar("number", default=0)


async def settle(starter: EagerStarter, task: Task | None) -> None:
    """Wait for what was started, and let go of what was made in advance."""
    if task is not None:
        await asyncio.wait([task])
    starter.close()
    await asyncio.sleep(0)


async def run(work: Callable[[], Awaitable[None]]) -> Task | None:
    """Start, wait for the end, and return the task where there was one."""
    starter = EagerStarter()
    task = starter.start(work())  # type: ignore[arg-type]
    await settle(starter, task)
    return task


async def test_what_never_waits_has_ended_when_start_returns() -> None:
    seen: list[int] = []

    async def work() -> None:
        seen.append(1)

    starter = EagerStarter()
    assert starter.start(work()) is None
    assert seen == [1]
    await settle(starter, None)


async def test_what_waits_goes_on_in_a_task() -> None:
    seen: list[str] = []
    gate = asyncio.Event()

    async def work() -> None:
        seen.append("first")
        await gate.wait()
        seen.append("second")
        await asyncio.sleep(0)
        seen.append("third")

    starter = EagerStarter()
    task = starter.start(work())
    assert seen == ["first"]
    assert task is not None
    assert not task.done()
    gate.set()
    await task
    assert seen == ["first", "second", "third"]
    await settle(starter, None)


async def test_the_current_task_is_the_same_before_and_after_the_first_wait_and_not_the_starters() -> None:
    seen: list[Any] = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    outer = asyncio.current_task()
    starter = EagerStarter()
    task = starter.start(work())
    assert asyncio.current_task() is outer
    await settle(starter, task)
    assert seen == [task, task]
    assert task is not outer


async def test_a_timeout_entered_in_the_first_step_ends_the_wait_and_only_that() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("timeout")
        task = asyncio.current_task()
        assert task is not None
        seen.append(f"cancelling {task.cancelling()}")
        await asyncio.sleep(0)
        seen.append("went on")

    task = await run(work)
    assert seen == ["timeout", "cancelling 0", "went on"]
    assert task is not None
    assert not task.cancelled()


async def test_a_timeout_that_is_over_already_ends_the_first_wait() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(-1):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("timeout")

    await run(work)
    assert seen == ["timeout"]


async def test_wait_for_in_the_first_step_works() -> None:
    seen: list[Any] = []

    async def value() -> int:
        await asyncio.sleep(0)
        return 7

    async def work() -> None:
        seen.append(await asyncio.wait_for(value(), 10))
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        except TimeoutError:
            seen.append("timeout")

    await run(work)
    assert seen == [7, "timeout"]


async def test_a_task_group_in_the_first_step_waits_for_its_tasks_and_cancels_them_on_error() -> None:
    seen: list[Any] = []

    async def child(value: int) -> None:
        await asyncio.sleep(0)
        seen.append(value)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def hanging() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child(1))
            group.create_task(child(2))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(hanging())
                group.create_task(failing())
                await asyncio.Event().wait()
        except* LookupError:
            seen.append("failed")

    task = await run(work)
    assert seen == [1, 2, "cancelled", "failed"]
    assert task is not None
    assert not task.cancelled()
    assert task.exception() is None


async def test_context_variables_are_ones_own_in_every_step() -> None:
    seen: list[tuple[int, int]] = []

    async def work(value: int) -> None:
        before = number.get()
        number.set(value)
        await asyncio.sleep(0)
        seen.append((before, number.get()))
        await asyncio.sleep(0)
        seen.append((before, number.get()))

    async def short() -> None:
        number.set(99)

    number.set(5)
    starter = EagerStarter()
    starter.start(short())
    tasks = [starter.start(work(value)) for value in (1, 2, 3)]
    assert number.get() == 5
    await asyncio.wait([task for task in tasks if task is not None])
    assert number.get() == 5
    assert seen == [(5, 1), (5, 2), (5, 3), (5, 1), (5, 2), (5, 3)]
    await settle(starter, None)


async def test_a_callback_and_a_task_made_in_the_first_step_see_its_context_variables() -> None:
    seen: list[int] = []

    async def child() -> None:
        seen.append(number.get())

    async def work() -> None:
        number.set(8)
        asyncio.get_running_loop().call_soon(lambda: seen.append(number.get()))
        await asyncio.create_task(child())

    await run(work)
    assert seen == [8, 8]


async def test_a_value_and_an_error_of_what_is_awaited_reach_the_work() -> None:
    seen: list[Any] = []
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()

    async def work() -> None:
        seen.append(await good)
        try:
            await bad
        except LookupError:
            seen.append("error")

    starter = EagerStarter()
    task = starter.start(work())
    good.set_result(7)
    bad.set_exception(LookupError())
    await settle(starter, task)
    assert seen == [7, "error"]


async def test_an_error_after_the_first_wait_is_the_tasks() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("late")

    task = await run(work)
    assert task is not None
    assert isinstance(task.exception(), LookupError)


async def test_cancelling_the_task_at_once_reaches_the_work_where_it_waits() -> None:
    """The cancel comes before the loop has had a turn, as where a call and its cancel arrive in one read."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("cleaned up")

    starter = EagerStarter()
    task = starter.start(work())
    assert task is not None
    task.cancel()
    await settle(starter, task)
    assert seen == ["cancelled", "cleaned up"]
    assert task.cancelled()


async def test_cancelling_the_task_later_reaches_the_work_where_it_waits() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")

    starter = EagerStarter()
    task = starter.start(work())
    await asyncio.sleep(0)
    assert task is not None
    task.cancel()
    await settle(starter, task)
    assert seen == ["cancelled"]
    assert not task.cancelled()  # the work took the cancel


async def test_work_that_cancels_its_own_task_in_the_first_step_is_cancelled_where_it_waits() -> None:
    seen: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")

    starter = EagerStarter()
    for round_ in range(1, 4):  # the first runs in a task that has not had a turn yet, the others may not
        await settle(starter, starter.start(work()))
        assert len(seen) == round_


async def test_work_that_cancels_its_own_task_and_ends_without_waiting_harms_nobody_after_it() -> None:
    seen: list[str] = []

    async def selfish() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def next_one() -> None:
        seen.append("started")
        await asyncio.sleep(0)
        seen.append("ended")

    starter = EagerStarter()
    starter.start(selfish())
    task = starter.start(next_one())
    assert task is not None
    await settle(starter, task)
    assert seen == ["started", "ended"]
    assert not task.cancelled()


async def test_work_that_raises_without_waiting_leaves_the_starter_usable() -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    seen: list[int] = []

    async def broken() -> None:
        raise LookupError("at once")

    async def good() -> None:
        await asyncio.sleep(0)
        seen.append(1)

    starter = EagerStarter()
    outer = asyncio.current_task()
    assert starter.start(broken()) is None
    assert asyncio.current_task() is outer
    await settle(starter, starter.start(good()))
    assert seen == [1]
    assert [str(problem["exception"]) for problem in problems] == ["at once"]


async def test_work_may_start_other_work_in_its_first_step() -> None:
    seen: list[str] = []
    tasks: list[Task | None] = []
    starter = EagerStarter()

    async def inner() -> None:
        await asyncio.sleep(0)
        seen.append("inner")

    async def outer() -> None:
        tasks.append(starter.start(inner()))
        await asyncio.sleep(0)
        seen.append("outer")

    tasks.append(starter.start(outer()))
    await asyncio.wait([task for task in tasks if task is not None], timeout=1)
    starter.close()
    assert sorted(seen) == ["inner", "outer"]


@pytest.mark.parametrize("share", [0, 1, 2, 10], ids=lambda share: f"one in {share} waits" if share else "none waits")
async def test_thousands_of_pieces_of_work_leave_no_task(share: int) -> None:
    done: list[int] = []

    async def work(index: int) -> None:
        if share and index % share == 0:
            await asyncio.sleep(0)
        done.append(index)

    before = asyncio.all_tasks()
    starter = EagerStarter()
    tasks = [starter.start(work(index)) for index in range(5000)]
    waiting = [task for task in tasks if task is not None]
    assert len(waiting) == (5000 // share if share else 0)
    if waiting:
        await asyncio.wait(waiting)
    assert sorted(done) == list(range(5000))
    await settle(starter, None)
    assert asyncio.all_tasks() == before


async def test_a_starter_that_was_closed_before_it_started_anything_is_fine() -> None:
    starter = EagerStarter()
    starter.close()
    starter.close()
