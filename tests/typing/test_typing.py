"""mypy --strict and pyright see in eventmicro what correct.py and wrong.py say they must."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

# The lines at which a checker finds something wrong, with what it says.
Found = dict[int, str]


def mypy(path: Path, cache: Path) -> Found:
    options = ["--strict", "--no-error-summary", "--no-pretty", "--config-file", "", "--cache-dir", str(cache)]
    output = run("mypy", *options, str(path))
    pattern = rf"^.*{re.escape(path.name)}:(\d+): error: (.*)$"
    found = {int(line): text for line, text in re.findall(pattern, output, re.MULTILINE)}
    assert found or "error" not in output, output
    return found


def pyright(path: Path, folder: Path) -> Found:
    config = folder / "pyrightconfig.json"
    (folder / path.name).write_text(path.read_text())  # it looks below its configuration only
    extra = [str(ROOT), str(ROOT / "brokers"), str(ROOT / "schemas")]
    settings = {"include": [path.name], "extraPaths": extra, "pythonVersion": "3.11", "typeCheckingMode": "strict"}
    config.write_text(json.dumps(settings))
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config))
    report = json.loads(output[output.index("{") :])
    assert report["summary"]["filesAnalyzed"] == 1, output
    return {
        entry["range"]["start"]["line"] + 1: entry["message"]
        for entry in report["generalDiagnostics"]
        if entry["severity"] == "error"
    }


def run(checker: str, *arguments: str) -> str:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", checker, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


CHECKERS: list[Callable[[Path, Path], Found]] = [mypy, pyright]


@pytest.mark.parametrize("check", CHECKERS, ids=lambda check: check.__name__)
def test_what_is_right_is_taken_with_the_types_it_says(check: Callable[[Path, Path], Found], tmp_path: Path) -> None:
    assert check(HERE / "correct.py", tmp_path) == {}


@pytest.mark.parametrize("check", CHECKERS, ids=lambda check: check.__name__)
def test_what_is_wrong_is_refused_where_it_is_and_nowhere_else(
    check: Callable[[Path, Path], Found], tmp_path: Path
) -> None:
    path = HERE / "wrong.py"
    lines = path.read_text().splitlines()
    wrong = {number: text for number, text in enumerate(lines, 1) if "# WRONG" in text}
    found = check(path, tmp_path)
    missed = [f"{number}: {wrong[number]}" for number in wrong.keys() - found.keys()]
    extra = [f"{number}: {found[number]}" for number in found.keys() - wrong.keys()]
    assert (missed, extra) == ([], [])
