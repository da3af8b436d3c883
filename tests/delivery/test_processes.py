"""A subscriber whose process is killed: what it held is handled by another one, and what kills each is given up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from eventmicro import Client, Context
from tests.delivery.bench import Bench, Number, Until, numbers, values
from tests.processes import Program

# Another process has to be able to join: the memory broker is left out.
pytestmark = [pytest.mark.timeout_seconds(90), pytest.mark.needs("persistent")]

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def subscriber(bench: Bench, mode: str, folder: Path) -> Program:
    """A child process; see program_subscriber."""
    program = str(Path(__file__).with_name("program_subscriber.py"))
    return Program(folder, program, bench.url, bench.name, mode, python=True, env={"PYTHONPATH": str(ROOT)})


async def aside(function: Callable[..., T], *arguments: object) -> T:
    """Call what blocks."""
    return await asyncio.to_thread(function, *arguments)


def ended(output: str) -> set[int]:
    """The events that a subscriber says it has dealt with."""
    lines = [line.split() for line in output.splitlines()]
    return {int(value) for line in lines if line[:1] == ["ended"] for value in line[1:]}


class Seen:
    def __init__(self) -> None:
        self.attempts: dict[int, int] = {}

    async def handle(self, event: Number, context: Context) -> None:
        self.attempts.setdefault(event.value, context.attempt)


@pytest.mark.parametrize("mode", ["hang", "batch"])
async def test_what_a_killed_subscriber_held_is_handled_by_another_one(
    mode: str, bench: Bench, until: Until, tmp_path: Path
) -> None:
    seen = Seen()
    with subscriber(bench, mode, tmp_path) as program:
        await aside(program.line_with, "ready")
        async with Client(bench.url) as client:
            await client.publish_many(bench.topic, numbers(100))
        await aside(program.line_with, "in mid-batch" if mode == "batch" else "began 9 ")
        await aside(program.end, signal.SIGKILL)
    before = ended(program.output)
    async with bench.run(seen.handle):
        await until(lambda: before | seen.attempts.keys() == set(range(100)))
    hung = {9} if mode == "hang" else seen.attempts.keys() & set(range(30, 40))
    if bench.capabilities.crash_attempts:
        assert any(seen.attempts[value] > 1 for value in hung)


@pytest.mark.timeout_seconds(120)  # it takes eleven processes
@pytest.mark.needs("persistent", "crash_attempts")
async def test_an_event_that_kills_each_process_is_given_up_in_the_end_and_no_other_is(
    bench: Bench, until: Until, tmp_path: Path
) -> None:
    programs: list[Program] = []

    def others() -> set[int]:
        return ended("".join(program.output for program in programs))

    async with Client(bench.url) as client, bench.letters() as letters:
        with subscriber(bench, "die", tmp_path) as program:
            programs.append(program)
            await aside(program.line_with, "ready")
            await client.publish_many(bench.topic, [Number(value=13), *numbers(10)])
            await aside(program.wait)
        while not (letters and len(others()) == 10):
            with subscriber(bench, "die", tmp_path) as program:
                programs.append(program)
                await until(lambda: programs[-1].process.poll() is not None or (letters and len(others()) == 10))
    assert values(letters) == [13]
    assert others() == set(range(10))
    assert (letters[0].headers or {})["Dead-Letter-Reason"] == "delivered 11 times and never settled"
