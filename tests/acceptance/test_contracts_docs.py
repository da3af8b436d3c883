"""Every program and every command of docs/contracts.md does what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eventmicro import SignatureError
from tests.processes import Program, eventmicro

PAGE = (Path(__file__).parents[2] / "docs/contracts.md").read_text()
COMMANDS = [
    line.partition("  #")[0].removeprefix("$ ").strip()
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
]


def pieces(language: str, comment: str) -> dict[str, str]:
    """The pieces of code in a language that name their file."""
    found = re.findall(rf"```{language}\n{comment} (\S+)\n(.*?)```", PAGE, re.S)
    return dict(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in (pieces("python", "#") | pieces("proto", "//")).items():
        (tmp_path / name).write_text(code)
    return tmp_path


def test_there_is_no_command_that_no_test_runs() -> None:
    assert [command.split()[:3] for command in COMMANDS] == [
        ["eventmicro", "generate", "client"],
        ["pip", "install", "'eventmicro[generate]'"],  # the extra has what the others need: pyproject.toml
        ["eventmicro", "generate", "proto"],
        ["eventmicro", "generate", "proto-of"],
        ["eventmicro", "generate", "proto-of"],
    ]
    assert sorted(pieces("python", "#")) == ["orders.py", "orders_contract.py", "use.py"]


def run(folder: Path, command: str) -> str:
    done = eventmicro(folder, *shlex.split(command)[1:])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.timeout_seconds(60)
def test_the_programs_call_one_another_and_the_client_is_generated(folder: Path) -> None:
    with Program(folder, "run", "orders") as served:
        served.line_with("orders.watch")
        for contract in ("orders_contract", "orders_client"):
            with Program(folder, "use.py", python=True) as use:
                assert use.wait() == 0, use.output
                assert use.output.splitlines() == ["4.2", "[4.2, 8.4]", "12.600000000000001", "[4.2, 8.4]", "4.2"]
            if contract == "orders_contract":
                assert run(folder, COMMANDS[0]) == ""
                code = (folder / "use.py").read_text()
                (folder / "use.py").write_text(code.replace("orders_contract", "orders_client"))


def test_the_proto_file_becomes_a_contract_and_the_contracts_proto_files(folder: Path) -> None:
    assert run(folder, COMMANDS[2]) == ""
    named = set(re.findall(r"brewing_\w+\.pyi?", PAGE[: PAGE.index("generate proto-of")]))
    assert {path.name for path in (folder / "made").iterdir()} == named
    back = run(folder, COMMANDS[3])
    assert re.findall(r"rpc (\w+)", back) == re.findall(r"rpc (\w+)\(", (folder / "brewing.proto").read_text())
    assert run(folder, COMMANDS[4]) == ""
    assert run(folder, "eventmicro generate proto shop/orders.proto --out made") == ""
    assert (folder / "made/shop/orders_contracts.py").exists()


def test_a_file_of_another_package_is_compiled_beside_the_one_that_its_contract_came_from(folder: Path) -> None:
    run(folder, COMMANDS[2])
    assert "`--package brewing.v2`" in PAGE
    run(folder, f"{COMMANDS[3]} --package brewing.v2 --out kettle.proto")
    assert run(folder, "eventmicro generate proto brewing.proto kettle.proto --out both") == ""
    assert (folder / "both/kettle_contracts.py").exists()


def test_the_differences_are_said_as_the_page_shows(folder: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    exec((folder / "orders_contract.py").read_text(), names)
    wrong = """
from eventmicro import Service
class OrdersHandler:
    async def quote(self, item: Quote) -> int: ...
    async def watch(self, item: Item) -> Quote: ...
    async def talk(self, items: AsyncIterator[Item]) -> AsyncIterator[Quote]:
        yield Quote(total=1)
service = Service("orders", version="1.3.0")
service.implements(Orders)(OrdersHandler)
"""
    with pytest.raises(SignatureError) as refused:
        exec(wrong, names)
    shown = re.search(r"```\n(OrdersHandler does not.*?)\n```", PAGE, re.S)
    assert shown is not None
    assert str(refused.value) == shown[1]
