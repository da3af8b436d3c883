"""pytest's plugin: its options, its fixture, whatever runs the tests; and what it loads."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

SERVICE = """
import os
import pytest
from eventmicro import Service, Topic
from eventmicro.testing import World

NAMED = Topic("names.said", str)
service = Service("names")

@service.rpc
async def say(name: str) -> str:
    await service.publish(NAMED, name)
    return f"hello {name}"

async def greet(world: World) -> None:
    assert await world.client.call("names.say", "ann", str) == "hello ann"
    await world.idle()
    assert world.published(NAMED) == ["ann"]
"""
PLAIN = """
def test_plain(world) -> None:
    world(service).run(greet)
"""
GOLDEN = """
def test_golden(world) -> None:
    async def test(here) -> None:
        await greet(here)
        here.golden("golden/names.json")
    world(service).run(test)
"""
OTHER_BROKER = """
def test_broker(world) -> None:
    assert world(service).url == World(service).url == "memory://there"
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(SERVICE + tests)
    return pytester.runpytest_inprocess("-p", "eventmicro_pytest", "-p", "no:cacheprovider", *options)


@pytest.fixture(autouse=True)
def same_environment() -> object:
    before = dict(os.environ)
    yield
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert {name for name in changed if name.startswith("EVENTMICRO")} == set()


def test_a_plain_test_has_a_world(pytester: pytest.Pytester) -> None:
    run(pytester, PLAIN).assert_outcomes(passed=1)


def test_tests_that_anyio_runs_have_a_world(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

@pytest.fixture
async def here(world):
    async with world(service) as here:
        yield here

@pytest.mark.anyio
async def test_it(here) -> None:
    await greet(here)
    await here.advance(60)
"""
    run(pytester, tests).assert_outcomes(passed=1)


def test_tests_that_pytest_asyncio_runs_have_a_world(pytester: pytest.Pytester) -> None:
    if importlib.util.find_spec("pytest_asyncio") is None:
        pytest.skip("pytest-asyncio is not installed")
    tests = """
import pytest_asyncio

@pytest_asyncio.fixture
async def here(world):
    async with world(service) as here:
        yield here

@pytest.mark.asyncio
async def test_it(here) -> None:
    await greet(here)
    await here.advance(60)
"""
    run(pytester, tests, "-o", "asyncio_default_fixture_loop_scope=function").assert_outcomes(passed=1)


def test_unittest_has_a_world(pytester: pytest.Pytester) -> None:
    tests = """
import unittest

class Tests(unittest.IsolatedAsyncioTestCase):
    async def test_it(self) -> None:
        async with World(service) as here:
            await greet(here)
            await here.advance(60)
"""
    run(pytester, tests).assert_outcomes(passed=1)


def test_a_broker_is_named_by_option_variable_and_file_in_this_order(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ("-o", "eventmicro_broker=memory://there")
    run(pytester, OTHER_BROKER, *file).assert_outcomes(passed=1)
    monkeypatch.setenv("EVENTMICRO_TEST_BROKER", "memory://elsewhere")
    run(pytester, OTHER_BROKER, *file).assert_outcomes(failed=1)
    run(pytester, OTHER_BROKER, "--eventmicro-broker", "memory://there").assert_outcomes(passed=1)


def test_golden_files_are_written_by_an_option(pytester: pytest.Pytester) -> None:
    failed = run(pytester, GOLDEN)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(
        ["*golden?names.json is not there yet: write it by `pytest --eventmicro-update-golden`*"]
    )
    run(pytester, GOLDEN, "--eventmicro-update-golden").assert_outcomes(passed=1)
    record = json.loads((pytester.path / "golden" / "names.json").read_text())
    assert record["names.said"] == [{"kind": "event", "body": '"ann"'}]
    run(pytester, GOLDEN).assert_outcomes(passed=1)


def test_its_options_are_told_in_a_group_of_their_own(pytester: pytest.Pytester) -> None:
    helped = run(pytester, PLAIN, "--help")
    helped.stdout.fnmatch_lines(
        [
            "services in tests:",
            "*--eventmicro-broker=URL*",
            "*--eventmicro-update-golden*",
            "*eventmicro_broker (string):*",
        ]
    )
    fixtures = run(pytester, PLAIN, "--fixtures")
    fixtures.stdout.fnmatch_lines(["world*", "*Makes worlds:*"])


def test_it_loads_nothing_of_eventmicro_before_a_test_does() -> None:
    code = "import eventmicro_pytest, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert {"eventmicro", "pydantic", "asyncio"} & set(loaded.split()) - {"asyncio"} == set()
