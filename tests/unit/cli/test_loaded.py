"""What a command loads: itself, and not the others, nor what draws tables, prompts and projects."""

from __future__ import annotations

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


def loaded_by(*arguments: str) -> set[str]:
    """The modules that are loaded when a command has run, with a broker that nobody can connect to."""
    code = f"""
import sys
sys.argv = ["eventmicro", *{arguments!r}]
from eventmicro.cli import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, 2), end.code
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


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
