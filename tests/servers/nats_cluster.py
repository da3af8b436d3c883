"""Three nats-servers that keep streams together."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import nats
from nats.errors import Error
from nats.js.errors import Error as JetStreamError

from tests.servers.cluster import NODES, Cluster
from tests.servers.nats import NatsServer
from tests.servers.process import HOST, free_port

# How long a call of the management may take before another node is asked, in seconds.
ANSWER_TIMEOUT = 2.0
# Clients are not told of the nodes' own ports, since they may be meant to come through proxies.
CONFIG = """\
server_name: n{number}
http: "{host}:{monitor}"
cluster {{ name: test, listen: "{host}:{route}", routes: [{others}], no_advertise: true }}
"""


class NatsNode(NatsServer):
    """A nats-server of a cluster.

    Args:
        number: its place among the nodes.
        routes: the ports at which the nodes listen for each other.
        config: appended to its configuration file.
    """

    def __init__(self, number: int, routes: list[int], config: str = "") -> None:
        self._monitor = free_port()
        others = ", ".join(f'"nats://{HOST}:{port}"' for port in routes if port != routes[number])
        mine = CONFIG.format(number=number, host=HOST, monitor=self._monitor, route=routes[number], others=others)
        super().__init__(mine + config, jetstream=True)

    def is_ready(self) -> bool:
        """Whether JetStream has a leader, and all that is kept here is up to date."""
        try:
            with urlopen(f"http://{HOST}:{self._monitor}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


class NatsCluster(Cluster[NatsNode]):
    """Three nats-servers with JetStream.

    Args:
        config: appended to the configuration file of each.
    """

    def __init__(self, config: str = "") -> None:
        routes = [free_port() for _ in range(NODES)]
        super().__init__([NatsNode(number, routes, config) for number in range(NODES)])

    @property
    def url(self) -> str:
        return f"jetstream://{self.hosts}?replicas={NODES}"

    async def leader_of(self, stream: str, consumer: str = "") -> int:
        """The number of the node that leads a stream, or a consumer of it, as soon as one does."""
        while True:
            kind, names = ("consumer_info", (stream, consumer)) if consumer else ("stream_info", (stream,))
            info = await self._ask(kind, *names)
            if info.cluster is not None and info.cluster.leader:
                return int(info.cluster.leader.removeprefix("n"))

    async def _ask(self, what: str, *arguments: str) -> Any:
        """What a node that runs answers, once one does."""
        while True:
            for node in self.nodes:
                try:
                    return await _ask(node, what, *arguments)
                except (OSError, Error, JetStreamError, TimeoutError):
                    await asyncio.sleep(0.05)


async def _ask(node: NatsNode, what: str, *arguments: str) -> Any:
    """What this node answers."""
    client = await nats.connect(f"nats://{HOST}:{node.port}", allow_reconnect=False, error_cb=_ignore)
    try:
        return await getattr(client.jetstream(timeout=ANSWER_TIMEOUT), what)(*arguments)
    finally:
        await client.close()


async def _ignore(error: Exception) -> None:
    """It is raised as well."""
