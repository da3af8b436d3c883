"""A server as a child process: a folder and ports of its own, started, killed, paused; it cannot outlive us."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from eventmicro_nats.embedded import dying_with_parent

HOST = "127.0.0.1"
# How long a start and a stop in order may take, in seconds.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


class ServerUnavailable(Exception):
    """A server cannot be had on this machine. The text is one line: why, and how to get it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return self.reason


class ServerProcess:
    """What all servers of the tests have in common; a context manager that starts it, then kills it.

    Folder and ports stay the same over stop, kill and start. A subclass says how to `launch` it and when it `is_ready`.
    """

    name: str
    port: int

    @property
    def url(self) -> str:
        raise NotImplementedError

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(
            prefix=f"eventmicro-test-{self.name}-", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        self.log = self.folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def start(self) -> None:
        """Start it; return when it serves.

        Raises:
            ServerUnavailable: it is not installed.
            RuntimeError: it ended, or does not serve within a minute; the end of its log says why.
        """
        self.begin()
        self.await_ready()

    def begin(self) -> None:
        """Start it, and do not wait: a node of a cluster may serve only when others are there, too."""
        self.process = self.launch()

    def await_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Return when what has begun serves; `timeout` in seconds."""
        process = self.process
        assert process is not None, f"{self.name} has not begun"
        try:
            wait_for(lambda: process.poll() is not None or self.is_ready(), timeout)
            if process.poll() is None:
                return
        except TimeoutError:
            pass
        self.kill()
        raise RuntimeError(f"{self.name} did not start: {self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it in order; return when it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would; return when it is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: its connections stay open and nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._temporary.cleanup()

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def _spawn(self, command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Run a command that dies with us, what it says in the log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                dying_with_parent(command),
                cwd=self.folder,
                env=None if environment is None else {**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the run, which then ends it
            )


def wait_for(condition: Callable[[], object], timeout: float = START_TIMEOUT) -> None:
    """Return as soon as it is true; raise TimeoutError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def free_port() -> int:
    """A port that is this process's as long as it lives, also while the server is down.

    It is below those that the system gives to outgoing connections, and locked against other processes of ours.
    """
    while True:
        port = _untried.pop()
        with suppress(OSError), socket.socket() as probe:
            fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind((HOST, port))
            return port


_untried = random.sample(range(20000, 32000), 12000)


@functools.cache
def _lock_file() -> int:
    """A file of which each byte stands for a port; open until we end, which gives all locks back."""
    file = Path(tempfile.gettempdir()) / f"eventmicro-test-ports-{os.getuid()}"
    return os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
