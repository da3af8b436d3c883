"""pytest's plugin of eventmicro: two options, and a fixture that makes worlds; see docs/testing.md.

It stands beside the package `eventmicro`, so that pytest loads nothing of that before a test asks for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eventmicro.testing import World

# The names are those of eventmicro.testing, which is not to be loaded for them.
BROKER_VARIABLE = "EVENTMICRO_TEST_BROKER"
UPDATE_VARIABLE = "EVENTMICRO_TEST_UPDATE_GOLDEN"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("eventmicro", "services in tests")
    group.addoption(
        "--eventmicro-broker",
        metavar="URL",
        help=f"let worlds run on this broker in place of one in memory; also {BROKER_VARIABLE}, and eventmicro_broker",
    )
    group.addoption(
        "--eventmicro-update-golden", action="store_true", help="write golden files anew; they are compared otherwise"
    )
    parser.addini("eventmicro_broker", "the broker of worlds, where neither option nor environment names one")


def pytest_configure(config: pytest.Config) -> None:
    """Let worlds know, also those that a test makes without the fixture; and what tests start as programs."""
    option: str | None = config.getoption("--eventmicro-broker")
    broker = option or os.environ.get(BROKER_VARIABLE) or config.getini("eventmicro_broker")
    settings = {BROKER_VARIABLE: broker, UPDATE_VARIABLE: config.getoption("--eventmicro-update-golden") and "1"}
    for name, value in settings.items():
        if value:
            _set(config, name, str(value))


def _set(config: pytest.Config, name: str, value: str) -> None:
    """Set a variable of the environment for this run of pytest."""
    before = os.environ.get(name)
    os.environ[name] = value

    def undo() -> None:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before

    config.add_cleanup(undo)


@pytest.fixture
def world() -> type[World]:
    """Makes worlds: `async with world(orders) as here`; or `world(orders).run(test)`, where a test is no coroutine."""
    from eventmicro.testing import World

    return World
