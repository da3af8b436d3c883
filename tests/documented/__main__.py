"""Checks the Python of the documentation by mypy, each page in a folder of its own: python -m tests.documented"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.documented import ROOT, programs

FOLDER = ROOT / "build" / "documented"
CACHE = ROOT / "build" / "documented-cache"
# A page may leave out what a reader does not need; what it says is right.
OPTIONS = ("--strict", "--allow-untyped-defs", "--allow-untyped-calls", "--no-error-summary", "--cache-dir", str(CACHE))
SOURCES = os.pathsep.join(str(ROOT / each) for each in ("", "brokers", "backends", "schemas"))


def write_out() -> list[Path]:
    """The folders with the programs of each page."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, file, code in programs():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        (FOLDER / name / file).write_text(code)
    return sorted(FOLDER.iterdir())


def is_right(folder: Path) -> bool:
    """Whether mypy finds nothing in it; else it says so."""
    command = [sys.executable, "-m", "mypy", *OPTIONS, "."]
    return subprocess.run(command, cwd=folder, env=os.environ | {"MYPYPATH": SOURCES}, check=False).returncode == 0


if __name__ == "__main__":
    wrong = [folder.name for folder in write_out() if not is_right(folder)]
    sys.exit(f"not right: {', '.join(wrong)}, in {FOLDER}" if wrong else 0)
