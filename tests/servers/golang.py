"""Programs in Go with the client of NATS, built once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.kafka_jars import locked
from tests.servers.process import ServerUnavailable

# What asks for programs to be built that are not in the cache.
ASKED = "EVENTMICRO_TEST_GO"
CLIENT = "github.com/nats-io/nats.go@v1.47.0"


def run_program(source: str, *arguments: str, timeout: float = 60) -> str:
    """Run a program; what it printed.

    Raises:
        ServerUnavailable: there is no Go, the client cannot be fetched, or nobody has asked for the build.
        subprocess.CalledProcessError: it failed.
    """
    command = [str(_built(source)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout


def _built(source: str) -> Path:
    """The program; built if need be, by one process at a time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventmicro"
    name = hashlib.sha256((CLIENT + source).encode()).hexdigest()[:16]
    program = base / "go" / name / "program"
    with locked(base / "go.lock"):
        if not program.is_file() and not os.environ.get(ASKED):
            raise ServerUnavailable("go", f"the Go client is not built yet; {ASKED}=1 does it, in minutes, once")
        if not program.is_file():
            shutil.rmtree(program.parent, ignore_errors=True)
            program.parent.mkdir(parents=True)
            _build(source, program.parent)
    return program


def _build(source: str, folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise ServerUnavailable("go", "there is no Go: https://go.dev/dl")
    (folder / "main.go").write_text(source, encoding="utf-8")
    for words in (["mod", "init", "program"], ["get", CLIENT], ["build", "-o", "building", "."]):
        try:
            done = subprocess.run([go, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            raise ServerUnavailable("go", f"`go {words[0]}` did not end within 300 s") from None
        if done.returncode != 0:
            said = " ".join(done.stderr[-300:].split())
            raise ServerUnavailable("go", f"`go {' '.join(words)}` failed; is the module proxy in reach? {said}")
    (folder / "building").rename(folder / "program")
