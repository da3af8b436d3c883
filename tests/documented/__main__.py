"""Checks the Python of the documentation and the examples by mypy: python -m tests.documented"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.documented import ROOT, programs

FOLDER = ROOT / "build" / "documented"
CACHE = ROOT / "build" / "documented-cache"
# A page may leave out what a reader does not need; what it says is right.
LENIENT = ("--allow-untyped-defs", "--allow-untyped-calls")
EXAMPLES = ROOT / "examples"
SOURCES = os.pathsep.join(str(ROOT / each) for each in ("", "brokers", "backends", "schemas"))


def write_out() -> list[Path]:
    """The folders with the programs of each page."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, file, code in programs():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        (FOLDER / name / file).write_text(code)
    return sorted(FOLDER.iterdir())


def is_right(folder: Path, options: Sequence[str], *what: str) -> bool:
    """Whether mypy finds nothing in it; else it says so."""
    command = [sys.executable, "-m", "mypy", "--strict", *options, "--no-error-summary", "--cache-dir", CACHE, *what]
    return subprocess.run(command, cwd=folder, env=os.environ | {"MYPYPATH": SOURCES}, check=False).returncode == 0


def wrong() -> Iterator[str]:
    for folder in write_out():
        if not is_right(folder, LENIENT, "."):
            yield str(folder.relative_to(ROOT))
    if not is_right(EXAMPLES, ["--explicit-package-bases"], *sorted(path.name for path in EXAMPLES.glob("[0-9]*.py"))):
        yield "examples"
    packages = sorted(path.parent.name for path in EXAMPLES.glob("*/__init__.py"))
    if not is_right(ROOT, [], *(f"--package=examples.{name}" for name in packages)):
        yield f"examples: {', '.join(packages)}"


if __name__ == "__main__":
    found = list(wrong())
    sys.exit(f"not right: {'; '.join(found)}" if found else 0)
