"""What the command line shows of records and help, on screens of any width."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, TypeAdapter

from eventmicro import Service
from eventmicro.cli.app import in_options
from eventmicro.cli.records import print_table, signature
from eventmicro.cli.table import print_table as print_services
from eventmicro.registry import EndpointRecord


class Tree(BaseModel):
    name: str
    branches: list[Tree] = []


class Tick(msgspec.Struct):
    price: float
    size: int = 1


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        (TypeAdapter(Tree).json_schema(), "Tree(name: string, branches?: array of Tree)"),
        (msgspec.json.schema(Tick), "Tick(price: number, size?: integer)"),
        ({"$ref": "#/$defs/Gone"}, "Gone"),
        ({"$ref": "#/$defs/Odd", "$defs": {"Odd": 1}}, "Odd"),
    ],
)
def test_the_fields_of_a_schema_are_shown_that_is_one_of_its_own_definitions(
    schema: dict[str, Any], shown: str
) -> None:
    assert signature(EndpointRecord(name="e", request=schema, reply=schema)) == ("e", shown, shown)


def test_a_table_in_a_file_has_no_blanks_behind_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("SERVICE", "WHAT IS WRONG"), [("orders", ""), ("a", "much")])
    assert capsys.readouterr().out == "SERVICE  WHAT IS WRONG\norders\na        much\n"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("run", ["--register-interval", "EVENTMICRO_REGISTER_INTERVAL", "--health-port", "EVENTMICRO_HEALTH_HOST"]),
        ("call", ["--content-type", "--rpc-broker", "EVENTMICRO_RPC_BROKER", "--selector"]),
        ("stream", ["--content-type", "--count", "SERVICE.ENDPOINT"]),
    ],
)
def test_help_cuts_off_no_option_and_no_variable_on_a_narrow_screen(command: str, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eventmicro", command, "--help"],
        env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words = re.split(r"[\s,;\[\]]+", done.stdout)
    assert [each for each in options if each not in words] == []
    assert "…" not in done.stdout
    assert "Examples:" in done.stdout


@pytest.mark.parametrize(
    ("text", "typed", "said"),
    [
        ("content_type='x': did you mean", ["call", "a.b", "--content-type", "x"], "--content-type 'x': did you mean"),
        ("selector='rnd': write", ["call", "a.b", "--selector=rnd"], "--selector 'rnd': write"),
        ("content_type='x': did you mean", ["run", "app"], "content_type='x': did you mean"),  # it is in the code
        ("there is no service", ["--content-type", "x"], "there is no service"),
    ],
)
def test_an_error_names_an_option_as_it_was_typed(text: str, typed: list[str], said: str) -> None:
    assert in_options(text, typed) == said


async def test_the_table_of_a_service_among_others_has_no_empty_lines_around(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Service("stock", broker="memory://") as service:
        print_services([service])
        alone = capsys.readouterr().err
        assert (alone[0], alone[-2:]) == ("\n", "\n\n")
        print_services([service], apart=False)
        assert "" not in capsys.readouterr().err.splitlines()
