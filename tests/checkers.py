"""mypy, as tests run it: over one cache, since what is new in each is little beside what all of them import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers.kafka_jars import locked

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "tests-mypy-cache"


def mypy(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`mypy --strict` in a folder, without anybody's configuration; one at a time, as they write to the same cache."""
    options = ["--strict", "--config-file", "", "--cache-dir", str(CACHE)]
    command = [sys.executable, "-m", "mypy", *options, *arguments]
    with locked(CACHE.with_suffix(".lock")):
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
