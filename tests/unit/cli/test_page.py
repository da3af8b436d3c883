"""docs/cli.md: each line of it that is typed is run, here or where it is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from eventmicro import MemoryBroker, Service, Topic
from tests.unit.cli.kit import Typed, shell_over

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cli.md").read_text()
BLOCKS = re.findall(r"```(?:console|text)\n(.*?)```", PAGE, re.DOTALL)
# What needs more than a service in memory, by how it begins, and which test runs it.
ELSEWHERE = {
    "eventmicro new": "unit/cli/test_new.py",
    "eventmicro init": "unit/cli/test_new.py",
    "eventmicro call orders.quote - <": "acceptance/test_cli_messages.py",
    "eventmicro subscribe orders.placed --since": "acceptance/test_cli_shell.py",
    "eventmicro shell": "acceptance/test_cli_shell.py",
    "eventmicro register": "unit/cli/test_register.py",
    "eventmicro deregister": "acceptance/test_cli_shell.py",
}


class Order(BaseModel):
    sku: str
    quantity: int = 1


class Placed(BaseModel):
    id: int
    status: str = "placed"


def make(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker)

    @service.rpc
    async def quote(order: Order) -> float:
        return 2.0 * order.quantity

    @service.rpc
    async def place(order: Order) -> Placed:
        return Placed(id=7)

    @service.rpc
    async def find(order: Placed) -> Placed:
        return order

    @service.subscribe(Topic("orders.placed", Order))
    async def bill(order: Order) -> None: ...

    return service


shell = shell_over(make)


def typed(*texts: str) -> list[str]:
    """The lines that a user types, those of a shell as of one."""
    lines = [line.partition("   #")[0].strip() for text in texts for line in text.splitlines()]
    marks = ("$ ", "eventmicro> ")
    return [line.removeprefix(mark) for line in lines for mark in marks if line.startswith(mark)]


def elsewhere(line: str) -> str | None:
    return next((test for begin, test in ELSEWHERE.items() if line.startswith(begin)), None)


def test_what_is_run_elsewhere_is_on_the_page_and_there() -> None:
    for begin, test in ELSEWHERE.items():
        assert any(line.startswith(begin) for line in typed(*BLOCKS)), begin
        words = begin.split()
        assert re.search(rf"[\"' ]{words[1]}[\"' ]", (ROOT / "tests" / test).read_text()), begin


HERE = {block: lines for block in BLOCKS if (lines := [each for each in typed(block) if elsewhere(each) is None])}


def test_no_line_is_left_out() -> None:
    assert sum(map(len, HERE.values())) == 9


@pytest.mark.parametrize("lines", HERE.values(), ids=lambda lines: lines[0])
def test_each_line_of_the_page_runs(
    lines: list[str], shell: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "request.json").write_text('{"sku": "a"}')
    for line in lines:
        shell.answers = ["tea", ""] if "--interactive" in line else []
        code, out, error = shell(line.removeprefix("eventmicro "))
        assert code == 0, f"{line}: {error}"
        if "orders.quote" in line:
            assert json.loads(out) == 2.0
        if line.endswith("-o table"):
            assert out.split()[-6:] == ["FIELD", "VALUE", "id", "7", "status", "placed"]
