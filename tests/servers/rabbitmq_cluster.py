"""Three RabbitMQ nodes that keep quorum queues together."""

from __future__ import annotations

from tests.servers.cluster import NODES, Cluster
from tests.servers.rabbitmq import NameService, RabbitServer

# What a node that has no data yet joins.
JOIN = "cluster_formation.peer_discovery_backend = classic_config\ncluster_formation.classic_config.nodes.1 = {name}\n"


class RabbitCluster(Cluster[RabbitServer]):
    """Three RabbitMQ nodes; the first one is the one that the others join.

    Args:
        config: lines appended to the rabbitmq.conf of each.
    """

    def __init__(self, config: str = "") -> None:
        self._names = NameService()
        first = RabbitServer(config, names=self._names)
        join = JOIN.format(name=first.node_name)
        super().__init__([first, *(RabbitServer(join + config, names=self._names) for _ in range(NODES - 1))])

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.hosts}/"

    def start(self, *numbers: int) -> None:
        if self._names.process is None:
            self._names.start()
            super().start(0)
            super().start(*range(1, NODES))
        else:
            super().start(*numbers)

    def stop(self) -> None:
        super().stop()
        self._names.__exit__()
