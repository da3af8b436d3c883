"""etcd, one member: the system's package, or another one in the folder that EVENTMICRO_GO_SERVERS names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.certificates import Certificates
from tests.servers.process import HOST, ServerProcess, ServerUnavailable, free_port

# Where programs are that are built for the tests, if no other folder is named.
BUILT = Path.home() / ".cache" / "eventmicro" / "go-servers"


def find_program(name: str, how: str) -> str:
    """The program of a server: one that was built for the tests, or the system's.

    Raises:
        ServerUnavailable: it is not installed; `how` it can be.
    """
    for folder in os.environ.get("EVENTMICRO_GO_SERVERS", str(BUILT)).split(os.pathsep):
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    if found := shutil.which(name):
        return found
    raise ServerUnavailable(name, f"{name} is not installed: {how}")


class EtcdServer(ServerProcess):
    """An etcd on free ports, which it keeps over restarts; a context manager.

    Args:
        certificates: those to show to clients, over TLS.
        keeps: whether its data is there after a restart.
    """

    name = "etcd"

    def __init__(self, *, certificates: Certificates | None = None, keeps: bool = True) -> None:
        super().__init__()
        self.port, self._peer_port, self._health_port = free_port(), free_port(), free_port()
        self.certificates = certificates
        self.keeps = keeps

    @property
    def url(self) -> str:
        return f"{'etcds' if self.certificates else 'etcd'}://{HOST}:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        data = self.folder / "data"
        if not self.keeps:
            shutil.rmtree(data, ignore_errors=True)
        client = f"{'https' if self.certificates else 'http'}://{HOST}:{self.port}"
        peer = f"http://{HOST}:{self._peer_port}"
        options = {
            "name": "one",
            "data-dir": data,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"one={peer}",
            "listen-metrics-urls": f"http://{HOST}:{self._health_port}",
            "logger": "zap",
            "log-level": "error",
        }
        if self.certificates:
            options |= {"cert-file": self.certificates.certificate, "key-file": self.certificates.key}
        program = find_program("etcd", "apt-get install --no-install-recommends etcd-server")
        return self._spawn([program, *(f"--{name}={value}" for name, value in options.items())])

    def is_ready(self) -> bool:
        health = f"http://{HOST}:{self._health_port}/health"
        with suppress(OSError, ValueError), urllib.request.urlopen(health, timeout=1) as answer:
            return str(json.load(answer).get("health")).lower() == "true"
        return False


def etcd_version(host: str, port: int) -> str:
    """The version that the member at this address says."""
    with urllib.request.urlopen(f"http://{host}:{port}/version", timeout=5) as answer:
        return str(json.load(answer)["etcdserver"])
