"""Real servers for the tests: own folders, own ports on 127.0.0.1, ended with the test run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from eventmicro_nats.embedded import dying_with_parent, find_nats_server


class NatsServer:
    """A nats-server on a free port, which it keeps over restarts; a context manager.

    `config` is appended to its configuration file.
    """

    def __init__(self, config: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eventmicro-test-nats-")
        self.config = config
        self.port = -1
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        folder = Path(self._folder.name)
        self._write_config()
        command = [find_nats_server(), "-c", "nats.conf", "-p", str(self.port), "-l", "nats.log"]
        command += ["--ports_file_dir", str(folder)]
        self.process = subprocess.Popen(dying_with_parent(command), cwd=folder)
        ports = self._read_ports(folder / f"nats-server_{self.process.pid}.ports", folder / "nats.log")
        self.port = int(ports["nats"][0].rpartition(":")[2])

    def reload(self, config: str) -> None:
        """Give the running server another configuration."""
        self.config = config
        self._write_config()
        self.signal(signal.SIGHUP)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def _write_config(self) -> None:
        (Path(self._folder.name) / "nats.conf").write_text(f'host: "127.0.0.1"\n{self.config}\n')

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait(10)

    def _read_ports(self, file: Path, log: Path) -> dict[str, Any]:
        """The server writes this file when it listens."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"nats-server ended: {log.read_text()[-2000:]}")
            try:
                return json.loads(file.read_text())  # type: ignore[no-any-return]
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.005)
        raise TimeoutError(f"nats-server does not listen: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """A server that all tests of this process share; `EVENTMICRO_TEST_NATS_URL` names a given one instead."""
    given = os.environ.get("EVENTMICRO_TEST_NATS_URL")
    if given:
        yield given
        return
    with NatsServer() as server:
        yield server.url
