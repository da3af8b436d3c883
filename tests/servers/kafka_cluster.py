"""Three Kafka brokers, each a controller, too (KRaft)."""

from __future__ import annotations

from collections.abc import Mapping

from tests.servers.cluster import NODES, Cluster
from tests.servers.kafka import CONTROLLER, PLAINTEXT, KafkaServer, random_id
from tests.servers.process import HOST

# What the brokers call each other by, whatever clients are told.
INTERNAL = "INTERNAL"
CONFIG = {
    "inter.broker.listener.name": INTERNAL,
    "listener.security.protocol.map": f"{PLAINTEXT}:PLAINTEXT,{INTERNAL}:PLAINTEXT,{CONTROLLER}:PLAINTEXT",
    "default.replication.factor": NODES,
    "min.insync.replicas": NODES - 1,
    "offsets.topic.replication.factor": NODES,
    "transaction.state.log.replication.factor": NODES,
    "transaction.state.log.min.isr": NODES - 1,
    "broker.heartbeat.interval.ms": 500,  # (2000)
    "broker.session.timeout.ms": 3000,  # (9000) so long a broker that is gone leads on
}


class KafkaCluster(Cluster[KafkaServer]):
    """Three Kafka brokers; of three replicas two have to be in step for a publish to be confirmed.

    Args:
        config: properties of each, on top of those made here.
    """

    def __init__(self, config: Mapping[str, object] | None = None) -> None:
        super().__init__([KafkaServer({**CONFIG, **(config or {})}, listeners=[INTERNAL]) for _ in range(NODES)])
        cluster = random_id()
        voters = ",".join(f"{number}@{HOST}:{node.ports[CONTROLLER]}" for number, node in enumerate(self.nodes))
        for number, node in enumerate(self.nodes):
            node.node_id, node.cluster_id = number, cluster
            node.config["controller.quorum.voters"] = voters

    @property
    def url(self) -> str:
        return f"kafka://{self.hosts}?replication={NODES}"

    def start(self, *numbers: int) -> None:
        for node, port in zip(self.nodes, self.ports, strict=True):
            node.addresses[PLAINTEXT] = f"{HOST}:{port}"
        super().start(*numbers)
