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

from tests import checkers

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = (HERE / "correct.py", HERE / "wrong.py")

# By the name of a file: the lines at which a checker finds something wrong, with what it says.
Found = dict[str, dict[int, str]]


def mypy(_: Path) -> Found:
    done = checkers.mypy(ROOT, "--no-error-summary", "--no-pretty", *map(str, FILES))
    found: Found = {path.name: {} for path in FILES}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            place, _, text = line.partition(": error: ")
            name, number = re.findall(r"([^/]+):(\d+)$", place)[0]
            found[name][int(number)] = text
    assert done.returncode == any(found.values()), done.stdout + done.stderr
    return found


def pyright(folder: Path) -> Found:
    config = folder / "pyrightconfig.json"
    for path in FILES:
        (folder / path.name).write_text(path.read_text())  # it looks below its configuration only
    extra = [str(ROOT), str(ROOT / "brokers"), str(ROOT / "schemas")]
    names = [path.name for path in FILES]
    settings = {"include": names, "extraPaths": extra, "pythonVersion": "3.11", "typeCheckingMode": "strict"}
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == len(FILES), done.stdout
    found: Found = {name: {} for name in names}
    for entry in report["generalDiagnostics"]:
        if entry["severity"] == "error":
            found[Path(entry["file"]).name][entry["range"]["start"]["line"] + 1] = entry["message"]
    return found


CHECKERS: list[Callable[[Path], Found]] = [mypy, pyright]


@pytest.fixture(scope="module", params=CHECKERS, ids=lambda check: check.__name__)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What a checker finds in both files, which it looks at together, as most of its work is what they import."""
    check = request.param
    if importlib.util.find_spec(check.__name__) is None:
        pytest.skip(f"{check.__name__} is not installed")
    return check(tmp_path_factory.mktemp("typing"))  # type: ignore[no-any-return]


def test_what_is_right_is_taken_with_the_types_it_says(found: Found) -> None:
    assert found["correct.py"] == {}


def test_what_is_wrong_is_refused_where_it_is_and_nowhere_else(found: Found) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    wrong = {number: text for number, text in enumerate(lines, 1) if "# WRONG" in text}
    seen = found["wrong.py"]
    missed = [f"{number}: {wrong[number]}" for number in wrong.keys() - seen.keys()]
    extra = [f"{number}: {seen[number]}" for number in seen.keys() - wrong.keys()]
    assert (missed, extra) == ([], [])
