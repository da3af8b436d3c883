"""A Consul agent that is its own server, where its program is: in EVENTMICRO_GO_SERVERS, or on the path."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Mapping
from contextlib import suppress

from tests.servers.etcd import find_program
from tests.servers.process import HOST, ServerProcess, free_port

HOW = "tests/servers/build-consul builds it from its Go module, and `make test-consul` does so and tests on it"


class ConsulServer(ServerProcess):
    """A Consul agent on free ports, which it keeps over restarts; a context manager.

    Args:
        keeps: whether its data is there after a restart.
        config: more of its configuration.
    """

    name = "consul"

    def __init__(self, *, keeps: bool = False, config: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self.port, self._rpc_port, self._lan_port = free_port(), free_port(), free_port()
        self.keeps = keeps
        self.config = dict(config or {})

    @property
    def url(self) -> str:
        return f"consul://{HOST}:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        program = find_program("consul", HOW)
        off = dict.fromkeys(("dns", "serf_wan", "grpc", "grpc_tls"), -1)
        ports = {"http": self.port, "server": self._rpc_port, "serf_lan": self._lan_port, **off}
        config: dict[str, object] = {"disable_update_check": True, "log_level": "warn", "ports": ports, **self.config}
        if self.keeps:
            config |= {"server": True, "bootstrap_expect": 1, "data_dir": str(self.folder / "data")}
        (self.folder / "consul.json").write_text(json.dumps(config))
        command = [program, "agent", "-bind", HOST, "-client", HOST, "-node", "one", "-config-file", "consul.json"]
        return self._spawn(command if self.keeps else [*command, "-dev"])

    def is_ready(self) -> bool:
        """Whether it has a leader, and has told it of itself."""
        place = "status/leader" if "acl" in self.config else "health/node/one"
        with (
            suppress(OSError, ValueError),
            urllib.request.urlopen(f"http://{HOST}:{self.port}/v1/{place}", timeout=1) as answer,
        ):
            return bool(json.load(answer))
        return False


def consul_version(host: str, port: int) -> str:
    """The version that the agent at this address says."""
    with urllib.request.urlopen(f"http://{host}:{port}/v1/agent/self", timeout=5) as answer:
        return str(json.load(answer)["Config"]["Version"])
