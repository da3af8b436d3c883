"""`eventmicro stats --watch` where no terminal is: again and again, for who reads a pipe or a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from eventmicro import MemoryBroker, Service, Unavailable
from eventmicro.cli import discover
from eventmicro.cli.output import Output
from eventmicro.registry import NodeRecord, ServiceRecord
from tests.unit.cli.kit import Typed, shell_over


def orders(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker, id="one")

    @service.rpc
    async def quote(number: int) -> int:
        return number

    return service


shell = shell_over(orders)


def read(count: int, lines: list[str]) -> Callable[[str], bool]:
    """Who reads so many lines."""

    def take(line: str) -> bool:
        lines.append(line)
        return len(lines) < count

    return take


def test_it_prints_an_object_a_line_until_nobody_reads(shell: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(discover, "EVERY", 0.0)
    monkeypatch.setattr(discover, "print_line", read(3, lines))
    assert shell("stats --watch -o raw")[0] == 0
    assert [json.loads(line)["node"] for line in lines] == ["one"] * 3


async def test_it_prints_the_table_again_where_no_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [Unavailable("it ends"), [], []]

    async def look() -> Any:
        if isinstance(found := looks.pop(), Unavailable):
            raise found
        return found

    monkeypatch.setattr(discover, "EVERY", 0.0)
    with pytest.raises(Unavailable):
        await discover._print_again(Output.table, look)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["SERVICE", "NODE"]] * 2


def test_one_document_without_an_end_is_refused_with_the_form_that_has_none(shell: Typed) -> None:
    code, _, err = shell("stats --watch --json")
    assert code == 2
    assert "--output raw" in err


def test_the_word_that_stands_before_commands_elsewhere_may_stand_here(shell: Typed) -> None:
    assert shell("eventmicro services") == shell("services")
    assert shell("eventmicro") == shell("help")


def test_a_heading_has_the_labels_that_all_nodes_share() -> None:
    nodes = [NodeRecord(id="1", metadata={"zone": "eu", "team": "a"}), NodeRecord(id="2", metadata={"zone": "us"})]
    record = ServiceRecord(name="orders", metadata={"zone": "eu", "team": "a"}, nodes=nodes)
    assert discover._shared(record) == {"team": "a"}
