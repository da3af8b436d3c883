"""Runs `async def` tests, each in an event loop of its own, bounded in time and checked for tasks left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import tempfile
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

pytest_plugins = ["tests.servers.plugin"]

# How long one test may take, in seconds: what hangs is ended, and what waits for its turn on a busy machine is not. A
# mark `@pytest.mark.timeout_seconds(300)` gives more to one test.
TIMEOUT = 180.0


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests apart from the brokers that their user runs."""
    os.environ.pop("EVENTMICRO_BROKER", None)
    state = tempfile.TemporaryDirectory(prefix="eventmicro-test-state-")
    config.add_cleanup(state.cleanup)
    os.environ["EVENTMICRO_STATE_DIR"] = state.name
    config.addinivalue_line(
        "markers", "timeout_seconds(seconds): how long this async test may take, if for more than 180"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector off the tests, which stay to the end: a third of their collection would be its."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: more than there are cores, since most tests wait for a server."""
    return min(8, (os.cpu_count() or 2) * 2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what was broken, what was lost and what came twice."""
    lines = [
        str(line)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, line in report.user_properties
        if name == "faults"
    ]
    if lines:
        terminalreporter.write_line("broker | events | faults | published again | lost | handled twice")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test; leave every other to pytest."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    mark = pyfuncitem.get_closest_marker("timeout_seconds")
    seconds = max(TIMEOUT, float(mark.args[0])) if mark else TIMEOUT
    asyncio.run(run_bounded(pyfuncitem.obj, arguments, seconds), debug=False)
    return True


async def run_bounded(test: Callable[..., Awaitable[Any]], arguments: dict[str, Any], seconds: float) -> None:
    """Await a test; fail where it takes too long, or leaves a task or a connection behind."""
    before = asyncio.all_tasks()
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            await test(**arguments)
    except TimeoutError:
        if bound.expired():
            pytest.fail(f"the test was not done within {seconds:g} s", pytrace=False)
        raise
    await check_no_task_left(before)
    await check_no_connection_left()


async def check_no_task_left(before: set[asyncio.Task[Any]]) -> None:
    """Let what is ending end, then fail if a task is left that was not in `before`."""
    for _ in range(10):
        if asyncio.all_tasks() <= before:
            return
        await asyncio.sleep(0)
    left = "\n  ".join(repr(task) for task in asyncio.all_tasks() - before)
    pytest.fail(f"the test left tasks behind:\n  {left}", pytrace=False)


async def check_no_connection_left() -> None:
    """Let what is closing close, then fail if a connection is left: the garbage collector would tell of it anywhere."""
    left: list[Any] = []
    for _ in range(10):
        left = [each for each in open_transports() if each._sock is not None]
        if not left:
            return
        await asyncio.sleep(0)
    names = "\n  ".join(f"{each!r}: {each._sock!r}" for each in left)
    pytest.fail(f"the test left connections behind:\n  {names}", pytrace=False)


def open_transports() -> list[Any]:
    """The connections of the running event loop; asyncio tells nobody of them."""
    transports: Any = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    return list(transports.values())


Until = Callable[[Callable[[], object]], Awaitable[None]]

# How long a test waits for what it waits for, in seconds; a busy machine takes longer than one would think.
PATIENCE = 120


@pytest.fixture
def until() -> Until:
    """`await until(lambda: len(seen) == 3)`: return as soon as it is true; fail after so long that it never will."""

    async def until(condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await asyncio.sleep(0.001)
        except TimeoutError:
            pytest.fail(f"what was waited for did not come about within {PATIENCE} s")

    return until
