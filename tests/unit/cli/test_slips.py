"""Slips at the command line are a line with the mend, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from eventmicro import UsageError
from eventmicro.cli.asyncapi import asyncapi
from eventmicro.cli.bodies import read_argument
from eventmicro.cli.moments import read_moment
from eventmicro.cli.target import load_services
from eventmicro.sources import FILE_VARIABLE


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
