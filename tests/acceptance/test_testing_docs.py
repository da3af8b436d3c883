"""What docs/testing.md shows passes, as it is shown there; its tables are those of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from eventmicro import testing

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/testing.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("testing")
    for name, code in FILES.items():
        (folder / name).write_text(code)
    return folder


def run(folder: Path, *options: str) -> str:
    """The last line of what pytest says, without the time."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "eventmicro_pytest", "-W", "error", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTMICRO_TEST")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout.strip().splitlines()[-1].rpartition(" in ")[0] or done.stdout + done.stderr


def test_the_commands_of_the_page_do_what_it_says(folder: Path) -> None:
    commands = re.findall(r"^\$ pytest *([^#\n]*?) *(?:#.*)?$", PAGE, re.MULTILINE)
    assert commands == [
        "--eventmicro-update-golden",
        "",
        "--eventmicro-broker jetstream://127.0.0.1:4222 -k reserved",
    ]
    assert run(folder, *commands[0].split()) == "5 passed"
    assert (folder / "golden" / "shop.json").exists()
    assert run(folder) == "5 passed"


def test_the_same_test_runs_on_a_real_broker(folder: Path, jetstream_url: str) -> None:
    assert run(folder, "--eventmicro-broker", jetstream_url, "-k", "reserved") == "1 passed, 4 deselected"


def test_the_table_of_what_is_seen_has_every_field() -> None:
    for kind in (testing.Published, testing.Called, testing.Handled, testing.Dead):
        (row,) = re.findall(rf"^\| [^|]* \| [^|]*`{kind.__name__}`[^|]* \| (.*) \|$", PAGE, re.MULTILINE)
        told = set(re.findall(r"`(\w+)`", row))
        names = {field.name for field in fields(kind)} | ({"value"} if kind is testing.Dead else set())
        assert names - told <= {"read"}, kind
