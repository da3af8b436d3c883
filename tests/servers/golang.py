"""Programs in Go, ours with the client of NATS and others', built once into the user's cache; and what modules hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.servers.kafka_jars import locked
from tests.servers.process import ServerUnavailable

# What asks for programs to be built that are not in the cache.
ASKED = "EVENTMICRO_TEST_GO"
CLIENT = "github.com/nats-io/nats.go@v1.47.0"
# How long one step of a build may take, in seconds.
LONGEST = 600


def run_program(source: str, *arguments: str, timeout: float = 60) -> str:
    """Run a program; what it printed.

    Raises:
        ServerUnavailable: there is no Go, the client cannot be fetched, or nobody has asked for the build.
        subprocess.CalledProcessError: it failed.
    """
    command = [str(_built("the Go client", CLIENT + source, lambda folder: _build(source, folder))), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout


def installed(package: str) -> Path:
    """A program of others, as `example.org/module/program@v1.2.3`; one that is on the path is taken as it is.

    Raises:
        ServerUnavailable: there is no Go, it cannot be fetched, or nobody has asked for the build.
    """
    name = package.partition("@")[0].rpartition("/")[2]
    if (found := shutil.which(name)) is not None:
        return Path(found)
    return _built(name, package, lambda folder: _install(package, name, folder))


def module(name: str) -> Path:
    """The folder with what a module holds, as `example.org/module@v1.2.3`; nothing of it is built.

    Raises:
        ServerUnavailable: there is no Go, or it cannot be fetched.
    """
    said = json.loads(_go(["mod", "download", "-json", name], Path.home()))
    return Path(said["Dir"])


def _built(what: str, key: str, build: Callable[[Path], None]) -> Path:
    """The program; built if need be, by one process at a time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventmicro"
    program = base / "go" / hashlib.sha256(key.encode()).hexdigest()[:16] / "program"
    with locked(base / "go.lock"):
        if not program.is_file() and not os.environ.get(ASKED):
            raise ServerUnavailable("go", f"{what} is not built yet; {ASKED}=1 does it, in minutes, once")
        if not program.is_file():
            shutil.rmtree(program.parent, ignore_errors=True)
            program.parent.mkdir(parents=True)
            build(program.parent)
            (program.parent / "building").rename(program)
    return program


def _build(source: str, folder: Path) -> None:
    (folder / "main.go").write_text(source, encoding="utf-8")
    for words in (["mod", "init", "program"], ["get", CLIENT], ["build", "-o", "building", "."]):
        _go(words, folder)


def _install(package: str, name: str, folder: Path) -> None:
    _go(["install", package], folder, GOBIN=str(folder))
    (folder / name).rename(folder / "building")


def _go(words: list[str], folder: Path, **env: str) -> str:
    """What `go` prints."""
    go = shutil.which("go")
    if go is None:
        raise ServerUnavailable("go", "there is no Go: https://go.dev/dl")
    command, known = [go, *words], os.environ | env
    try:
        done = subprocess.run(
            command, cwd=folder, env=known, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        raise ServerUnavailable("go", f"`go {words[0]}` did not end within {LONGEST} s") from None
    if done.returncode != 0:
        said = " ".join(done.stderr[-300:].split())
        raise ServerUnavailable("go", f"`go {' '.join(words)}` failed; is the module proxy in reach? {said}")
    return done.stdout
