"""Slips at the command line are a line with the mend, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from eventmicro import UsageError
from eventmicro.cli.app import app
from eventmicro.cli.asyncapi import asyncapi
from eventmicro.cli.bodies import read_argument
from eventmicro.cli.moments import read_moment
from eventmicro.cli.settings import file_defaults
from eventmicro.cli.target import load_services
from eventmicro.sources import FILE_VARIABLE
from eventmicro.tomlfile import read_toml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose service `stall` is the target of another name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    Path("stall").mkdir()
    Path("stall/__init__.py").touch()
    Path("stall/selling.py").write_text("from eventmicro import Service\nservice = Service('stall')\n")
    Path("eventmicro.toml").write_text(
        "".join(f'[services.{n}]\ntarget = "stall.selling"\n' for n in ("stall", "shed"))
    )
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "eventmicro.toml"))


@pytest.mark.parametrize("name", ["stall", "shed"])
@pytest.mark.usefixtures("folder")
def test_a_name_of_the_settings_file_is_no_target_and_its_target_is_said(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_services([name])
    assert str(refused.value).endswith(f"; the service {name!r} of the settings file is stall.selling")


@pytest.mark.usefixtures("folder")
def test_a_module_that_is_there_from_a_folder_above_is_said_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", sys.path[1:])
    for module in ("stall", "stall.selling"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.chdir("stall")
    with pytest.raises(UsageError) as refused:
        load_services(["stall.selling:service"])
    assert str(refused.value).endswith(f"; it is there from {tmp_path}: install that, or have it in PYTHONPATH")


@pytest.mark.usefixtures("folder")
def test_without_a_target_the_document_is_of_the_folders_services(capsys: pytest.CaptureFixture[str]) -> None:
    asyncapi(form=None, out=Path("made/asyncapi.json"))
    assert '"title": "stall"' in Path("made/asyncapi.json").read_text()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("option", "words"),
    [("log_format", "text, json"), ("log_level", "debug, info, warning, error, critical")],
)
@pytest.mark.usefixtures("folder")
def test_a_word_for_logs_that_is_none_is_said_with_its_place(option: str, words: str) -> None:
    file = Path("eventmicro.toml")
    file.write_text(f'timeout = 3\n{option} = "jsno"\n{file.read_text()}')
    with pytest.raises(UsageError) as refused:
        file_defaults(get_command(app), "run")
    assert str(refused.value) == f"eventmicro.toml:2: {option}='jsno': write {words}"


@pytest.mark.usefixtures("folder")
def test_a_word_for_logs_is_taken_in_any_case_as_at_the_command_line() -> None:
    Path("eventmicro.toml").write_text('log_format = "JSON"\n')
    assert file_defaults(get_command(app), "run") == {"run": {"log_format": "JSON"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timeout = 3\nlog_format = json\n", ":2: Invalid value at column 14: a text stands in quotes"),
        ("[retry\n", ":1: Expected ']' at the end of a table declaration at column 7"),
        ("timeout =", ": Invalid value (at end of document)"),
    ],
)
def test_a_file_that_is_no_toml_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "eventmicro.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_toml(file)
    assert str(refused.value) == f"{file}{said}"


def test_a_wrong_time_is_said_with_its_option() -> None:
    with pytest.raises(typer.BadParameter) as refused:
        read_moment("1x", "--before")
    assert refused.value.format_message().startswith("Invalid value for '--before': '1x': write how long ago")


def test_a_body_out_of_a_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        read_argument("-")
    assert read_argument(None) == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_behind_stdout_is_said_in_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = (sys.executable, "-m", "eventmicro", "brokers")
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "eventmicro: what was asked for cannot be written: No space left on device\n"
