"""One server of a kind for a whole test run: the process that leads the run owns it, its workers ask for it."""

from __future__ import annotations

import os
import pickle
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers.consul import ConsulServer, consul_version
from tests.servers.etcd import EtcdServer, etcd_version
from tests.servers.kafka import KafkaServer
from tests.servers.kafka_jars import VERSION as KAFKA_VERSION
from tests.servers.nats import NatsServer, nats_version
from tests.servers.process import HOST, ServerProcess, ServerUnavailable
from tests.servers.rabbitmq import RabbitServer, rabbitmq_version


@dataclass(frozen=True)
class SharedServer:
    """Where a server is, and what it says it is."""

    url: str
    version: str


@dataclass(frozen=True)
class Kind:
    """What it is called, the scheme of its URL for a service, how to make one of ours and ask it for its version."""

    title: str
    scheme: str
    server: Callable[[], ServerProcess]
    version: Callable[[str, int], str]


def _our_kafka_version(host: str, port: int) -> str:
    """A broker does not tell its version."""
    return KAFKA_VERSION


KINDS = {
    "nats": Kind("nats-server", "nats", NatsServer, nats_version),
    "jetstream": Kind("JetStream", "jetstream", lambda: NatsServer(jetstream=True), nats_version),
    "rabbitmq": Kind("RabbitMQ", "amqp", RabbitServer, rabbitmq_version),
    "kafka": Kind("Apache Kafka", "kafka", KafkaServer, _our_kafka_version),
    "etcd": Kind("etcd", "etcd", EtcdServer, etcd_version),
    "consul": Kind("Consul", "consul", ConsulServer, consul_version),
}


class SharedServers:
    """The servers of a run, each started when it is first asked for.

    `EVENTMICRO_TEST_<KIND>_URL` names one to use instead.
    """

    def __init__(self) -> None:
        # Each server gets a thread that lives as long as we do, because it dies with the thread that started it.
        self._threads = ThreadPoolExecutor(len(KINDS))
        self._lock = threading.Lock()
        self._asked: dict[str, Future[SharedServer]] = {}
        self._running: list[ServerProcess] = []

    def begin(self, kind: str) -> Future[SharedServer]:
        """Start it if nobody has yet; do not wait for it."""
        with self._lock:
            if kind not in self._asked:
                self._asked[kind] = self._threads.submit(self._start, kind)
            return self._asked[kind]

    def close(self) -> None:
        """End all that were started here."""
        for server in self._running:
            server.__exit__()
        self._threads.shutdown()

    def report(self) -> str:
        """One line that says what the tests ran on."""
        return "servers: " + ", ".join(self._describe(kind) for kind in KINDS)

    def _start(self, kind: str) -> SharedServer:
        given = os.environ.get(f"EVENTMICRO_TEST_{kind.upper()}_URL")
        if given:
            return SharedServer(given, "(given)")
        server = KINDS[kind].server()
        self._running.append(server)
        server.start()
        address = server.url.partition(":")[2]
        return SharedServer(f"{KINDS[kind].scheme}:{address}", KINDS[kind].version(HOST, server.port))

    def _describe(self, kind: str) -> str:
        title, asked = KINDS[kind].title, self._asked.get(kind)
        if asked is None or not asked.done():
            return f"{title} not used"
        try:
            return f"{title} {asked.result().version}"
        except ServerUnavailable as error:
            return f"{title} skipped: {error}"
        except Exception as error:
            first_line, _, _ = str(error).partition("\n")
            return f"{title} failed: {first_line}"


class Desk(socketserver.ThreadingUnixStreamServer):
    """Where workers ask: a socket in a folder that is for this user alone."""

    daemon_threads = True

    def __init__(self, shared: SharedServers) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eventmicro-test-run-")
        self.address = str(Path(self._folder.name) / "servers")
        self.shared = shared
        super().__init__(self.address, _Question)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._folder.cleanup()


class _Question(socketserver.StreamRequestHandler):
    server: Desk

    def handle(self) -> None:
        future = self.server.shared.begin(self.rfile.readline().decode().strip())
        answer = future.exception() or future.result()
        with suppress(OSError):  # who only wanted it to begin is gone
            self.wfile.write(pickle.dumps(answer))


def begin(address: str, kind: str) -> None:
    """Ask the process that leads the run to start a server, and do not wait for it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(f"{kind}\n".encode())


def ask(address: str, kind: str) -> SharedServer:
    """Ask the process that leads the run for a server; raise what starting it raised."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(f"{kind}\n".encode())
        with connection.makefile("rb") as stream:
            answer = pickle.load(stream)
    if isinstance(answer, BaseException):
        raise answer
    return answer  # type: ignore[no-any-return]
