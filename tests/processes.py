"""Programs for the tests: the command line as a real process, its output read as it comes, ended with the test."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Self

# How long anything may take that is waited for here, in seconds.
LIMIT = 120.0


class Program:
    """`eventmicro ...` as a child process, stdout and stderr in one; a context manager that kills it at the end."""

    def __init__(
        self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, python: bool = False
    ) -> None:
        self._folder = folder
        self._command = [sys.executable, *([] if python else ["-m", "eventmicro"]), *arguments]
        self._env = environment(folder) | dict(env or {})
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.output = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)  # so that it takes along what it has started
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(LIMIT)

    def line_with(self, *words: str) -> str:
        """The next line of its output that has all these words."""
        while True:
            try:
                line = self._lines.get(timeout=LIMIT)
            except queue.Empty:
                raise AssertionError(f"no line with {words} within {LIMIT:g} s; it said:\n{self.output}") from None
            if line is None:
                raise AssertionError(f"it ended without a line with {words}; it said:\n{self.output}")
            if all(word in line for word in words):
                return line

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code; `output` has all it said."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return code

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.output += line
                self._lines.put(line)
        self._lines.put(None)


def eventmicro(
    folder: Path, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `eventmicro ...` to its end; what it said, and its exit code."""
    with subprocess.Popen(
        [sys.executable, "-m", "eventmicro", *arguments],
        cwd=folder,
        env=environment(folder) | dict(env or {}),
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(stdin, LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), err.decode())


def environment(folder: Path) -> dict[str, str]:
    """An environment without settings from outside, whose embedded server is this test's own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTMICRO_")}
    return clean | {"EVENTMICRO_STATE_DIR": str(folder / "state"), "NO_COLOR": "1", "COLUMNS": "200"}


def is_running(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as it is true; fail after a while."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come about"
        time.sleep(0.01)
