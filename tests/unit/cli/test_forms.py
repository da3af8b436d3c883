"""In which forms commands print what they list: the same words everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from eventmicro import MemoryBroker, Retry, Service
from eventmicro.cli.app import app
from eventmicro.cli.output import Output
from eventmicro.discovery import listing
from tests.unit.cli.kit import Typed, shell_over

# Those that do something, and what they print is no list: each of the others has all three forms.
OTHERS = {
    "new", "init", "run", "check", "declare", "call", "stream", "publish", "register", "deregister", "shell",
    "asyncapi", "dead replay", "dead drop", "generate client", "generate proto", "generate proto-of",
}  # fmt: skip


def make(broker: MemoryBroker) -> Service:
    service = Service("shop", broker=broker)

    @service.rpc
    async def quote(sku: str) -> int:
        return 7

    @service.subscribe("shop.placed", retry=Retry(attempts=1))
    async def bill(event: str) -> None:
        raise ValueError("no such account")

    @service.after_start
    async def place() -> None:
        await service.publish("shop.placed", "7")
        await service.publish("shop.placed", "8")

    return service


shell = shell_over(make)

LISTS = [
    "services",
    "describe shop",
    "get shop",
    "nodes",
    "health",
    "stats",
    "queues",
    "dead list",
    "dead list shop.bill",
    "dead list shop.bill --count",
    "dead show shop.bill",
    "brokers",
    "config",
]


def commands(group: Any, before: str = "") -> dict[str, Any]:
    found = {}
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= commands(command, f"{before}{name} ") if inner else {before + name: command}
    return found


def test_each_command_that_lists_has_each_form() -> None:
    found = {name: command for name, command in commands(get_command(app)).items() if name not in OTHERS}
    assert {line for name in found for line in LISTS if line.startswith(name)} == set(LISTS)
    assert set(found) == {name for name in found for line in LISTS if line.startswith(name)} | {"subscribe"}
    for name, command in found.items():
        options = {option: param for param in command.params for option in param.opts}
        assert options["-o"].type_descriptor.annotation is Output, name
        assert options["-o"] is options["--output"]
        assert options["--json"].is_flag


@pytest.mark.parametrize("line", LISTS)
def test_json_is_one_document_raw_an_object_a_line_and_a_table_the_default(
    line: str, shell: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "WITHIN", 0.01)  # in memory all answer at once
    code, document, _ = shell(f"{line} --json")
    assert code == 0
    shown = json.loads(document)
    assert shown
    rows = [json.loads(each) for each in shell(f"{line} --output raw")[1].splitlines()]
    if line == "config":
        rows = [row["name"] for row in rows]
        shown = [name for part in shown.values() for name in part]
    assert _without_times(rows) == _without_times(shown)
    table = shell(line)[1]
    assert table.splitlines()[0].strip()
    assert not table.startswith(("[", "{"))
    assert shell(f"{line} -o table")[1].splitlines()[0] == table.splitlines()[0]
    code, _, error = shell(f"{line} --json -o raw")
    assert code == 2
    assert "--json and --output raw: leave one of them out" in error


def _without_times(shown: Any) -> Any:
    """What differs from one look to the next."""
    changing = ("uptime", "attempts", "seconds", "count", "latency", "endpoints", "unsettled")
    if isinstance(shown, dict):
        return {name: _without_times(each) for name, each in shown.items() if name not in changing}
    return [_without_times(each) for each in shown] if isinstance(shown, list) else shown
