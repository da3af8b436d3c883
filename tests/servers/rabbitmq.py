"""RabbitMQ as a plain process: the Debian package's program, without its service and its user.

`EVENTMICRO_TEST_RABBITMQ_BIN` names the folder with the programs of another version.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from tests.certificates import Certificates
from tests.servers.process import HOST, ServerProcess, ServerUnavailable, free_port
from tests.servers.rabbitmq_home import make_home

# Where Debian and Ubuntu put the real scripts; those on PATH want to become the user rabbitmq.
PROGRAMS = "/usr/lib/rabbitmq/bin"
INSTALL = "apt-get install --no-install-recommends rabbitmq-server"

CONFIG = """\
disk_free_limit.absolute = 50MB
log.console = true
log.file = false
"""
TLS_CONFIG = """\
listeners.ssl.1 = {host}:{port}
ssl_options.cacertfile = {files.authority}
ssl_options.certfile = {files.certificate}
ssl_options.keyfile = {files.key}
"""


class NameService(ServerProcess):
    """Where Erlang's nodes find each other (epmd). Nodes that share one have its folder as home, and so one cookie."""

    name = "epmd"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def launch(self) -> subprocess.Popen[bytes]:
        return self._spawn([_find("epmd"), "-address", HOST, "-port", str(self.port)])

    def is_ready(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 2).close()
        except OSError:
            return False
        return True


class RabbitServer(ServerProcess):
    """A RabbitMQ node with ports and data of its own, on 127.0.0.1 alone; user guest, guest.

    Args:
        config: lines appended to its rabbitmq.conf; the last of two lines with one key counts.
        certificates: makes it listen for TLS too, at `tls_url`; they are to be for "localhost".
        names: a name service that runs, where it is to find others; by default it has one of its own.
    """

    name = "rabbitmq"

    def __init__(
        self, config: str = "", *, certificates: Certificates | None = None, names: NameService | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.certificates = certificates
        self.port, self.tls_port, self._node_port = (free_port() for _ in range(3))
        self._names = names or NameService()
        self._own_names = self._names if names is None else None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    @property
    def node_name(self) -> str:
        """What other nodes and rabbitmqctl call it."""
        return f"test{self.port}@localhost"

    @property
    def tls_url(self) -> str:
        return f"amqps://guest:guest@localhost:{self.tls_port}/"

    def launch(self) -> subprocess.Popen[bytes]:
        server = make_home(_find("rabbitmq-server"), self.folder / "home")
        self._write_config()
        if self._own_names is not None:
            self._own_names.begin()
        return self._spawn([server], self._environment())

    def is_ready(self) -> bool:
        try:
            if self.certificates is not None:
                socket.create_connection((HOST, self.tls_port), 2).close()
            return bool(rabbitmq_version(HOST, self.port))
        except OSError:
            return False

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl, e.g. `ctl("add_vhost", "other")`, about a second; what it printed."""
        command = [_find("rabbitmqctl"), "--quiet", *arguments]
        environment = {**os.environ, **self._environment()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _end(self, number: int) -> None:
        super()._end(number)
        if self._own_names is not None:
            self._own_names.kill()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._own_names is not None:
            self._own_names.__exit__()

    def _write_config(self) -> None:
        tls = TLS_CONFIG.format(host=HOST, port=self.tls_port, files=self.certificates) if self.certificates else ""
        (self.folder / "rabbitmq.conf").write_text(f"{CONFIG}{tls}{self.config}\n")
        (self.folder / "enabled_plugins").write_text("[].")

    def _environment(self) -> dict[str, str]:
        on_loopback = f"-kernel inet_dist_use_interface {{{HOST.replace('.', ',')}}}"
        return {
            "HOME": str(self._names.folder),  # for the cookie
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "ERL_EPMD_PORT": str(self._names.port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the Erlang machine, which so dies with us and has our pid
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": on_loopback,
            "RABBITMQ_CTL_ERL_ARGS": on_loopback,
        }


def _find(program: str) -> str:
    folders = (os.environ.get("EVENTMICRO_TEST_RABBITMQ_BIN", PROGRAMS), os.environ.get("PATH", os.defpath))
    found = shutil.which(program, path=os.pathsep.join(folders))
    if found is None:
        raise ServerUnavailable("rabbitmq", f"RabbitMQ is not installed: {INSTALL}")
    return found


def rabbitmq_version(host: str, port: int) -> str:
    """The version that the node at this address greets with, once it serves; raises OSError before."""
    with socket.create_connection((host, port), 2) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        greeting = connection.recv(4096)
    _, found, rest = greeting.partition(b"\x07versionS")
    if not found:
        raise ConnectionError("this is no RabbitMQ")
    return rest[4 : 4 + int.from_bytes(rest[:4], "big")].decode()
