"""What a command loads: itself, and not the others, nor what draws tables, prompts and projects."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What no command needs before it has something to show.
HEAVY = {
    "rich",
    "prompt_toolkit",
    "jsonschema",
    "copier",
    "jinja2",
    "watchfiles",
    "yaml",
    "nats",
    "aio_pika",
    "aiokafka",
}
COMMANDS = {f"eventmicro.cli.{name}" for name in ("run", "check", "dead", "queues", "generate", "asyncapi", "stream")}


def loaded_by(*arguments: str, **env: str) -> set[str]:
    """The modules that are loaded when a command has run, with a broker that nobody can connect to."""
    code = f"""
import sys
sys.argv = ["eventmicro", *{arguments!r}]
from eventmicro.cli import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, 1, 2), end.code
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if not name.startswith("EVENTMICRO_")} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


# What a client does without, and what core NATS does.
OF_SERVICES = {
    f"eventmicro.{name}"
    for name in ("service", "router", "contracts.contract", "handlers.signature", "events.subscriber", "memory")
}
OF_JETSTREAM = {"nats.js.api", "nats.js.client", "eventmicro_nats.jetstream.broker"}


@pytest.mark.parametrize("arguments", [("services",), ("call", "orders.quote", "{}"), ("shell",)], ids=lambda a: a[0])
def test_who_only_calls_loads_nothing_of_services_nor_of_what_its_broker_does_not_do(
    arguments: tuple[str, ...],
) -> None:
    loaded = loaded_by(*arguments, EVENTMICRO_BROKER="nats://127.0.0.1:1?connect_timeout=0.1")
    assert loaded & (OF_SERVICES | OF_JETSTREAM | {"eventmicro.configuration.known", "tomllib"}) == set()
    assert {"nats.aio.client", "eventmicro_nats.broker"} <= loaded


def test_what_nats_py_has_beside_is_there_for_those_who_ask() -> None:
    code = """
import eventmicro_nats
from nats.js.api import StreamConfig
import nats
assert nats.js.JetStreamContext.__module__ == "nats.js.client"
assert nats.js.api.StreamConfig is StreamConfig
assert eventmicro_nats.JetStreamBroker.__module__ == "eventmicro_nats.jetstream.broker"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("services", "--broker", "memory://"), {"eventmicro.cli.discover"}),
        (("call", "orders.quote", "{}", "--broker", "memory://"), {"eventmicro.cli.messages", "eventmicro.cli.stream"}),
        (("shell", "--broker", "memory://"), {"eventmicro.cli.shell.command", "eventmicro.cli.stream"}),
    ],
    ids=["services", "call", "shell"],
)
def test_a_command_loads_what_it_needs_alone(arguments: tuple[str, ...], needed: set[str]) -> None:
    loaded = loaded_by(*arguments)
    assert loaded & HEAVY == set()
    assert loaded & COMMANDS == needed & COMMANDS
    assert needed <= loaded


def test_a_command_has_its_garbage_collected_and_what_came_before_it_is_not_looked_through() -> None:
    code = """
import gc, sys
sys.argv = ["eventmicro", "brokers"]
seen = []
from eventmicro.cli import lazy, main
made = lazy.Commands._make
def make(self, name):
    seen.append(gc.isenabled())
    return made(self, name)
lazy.Commands._make = make
try:
    main()
except SystemExit:
    pass
assert seen == [False], seen
assert gc.isenabled()
assert gc.get_freeze_count() > 10_000
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)
