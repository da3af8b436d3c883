"""A cluster of nats-servers with JetStream, whose nodes are killed, frozen and started by number."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, Self

import nats
from nats.errors import Error
from nats.js.errors import Error as JetStreamError

from tests.servers.nats import NatsServer
from tests.servers.process import HOST, free_port

# How long a call of the management may take before another node is asked, in seconds.
ANSWER_TIMEOUT = 2.0


class NatsCluster:
    """Nodes on ports of their own, which they keep over restarts; a context manager.

    Args:
        size: how many nodes.
        config: appended to the configuration file of each.
    """

    def __init__(self, size: int = 3, config: str = "") -> None:
        ports = [free_port() for _ in range(size)]
        self.nodes = [NatsServer(f"{_cluster(number, ports)}\n{config}", jetstream=True) for number in range(size)]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def url(self, *numbers: int, scheme: str = "jetstream") -> str:
        """The URL of these nodes; by default of all."""
        nodes = [self.nodes[number] for number in numbers] or self.nodes
        return f"{scheme}://{','.join(f'{HOST}:{node.port}' for node in nodes)}"

    async def ready(self) -> None:
        """Return when a stream can have a replica on each node."""
        await self._ask("add_stream", name="ready", subjects=["ready"], num_replicas=len(self.nodes))
        await self._ask("delete_stream", "ready")

    async def leader_of(self, stream: str, consumer: str = "") -> int:
        """The number of the node that leads a stream, or a consumer of it, as soon as one does."""
        while True:
            kind, names = ("consumer_info", (stream, consumer)) if consumer else ("stream_info", (stream,))
            info = await self._ask(kind, *names)
            if info.cluster is not None and info.cluster.leader:
                return int(info.cluster.leader.removeprefix("n"))

    async def _ask(self, what: str, *arguments: str, **options: Any) -> Any:
        """What a node that runs answers, once one does."""
        while True:
            for node in self.nodes:
                try:
                    return await _ask(node, what, *arguments, **options)
                except (OSError, Error, JetStreamError, TimeoutError):
                    await asyncio.sleep(0.05)


async def _ask(node: NatsServer, what: str, *arguments: str, **options: Any) -> Any:
    """What this node answers."""
    client = await nats.connect(f"nats://{HOST}:{node.port}", allow_reconnect=False, error_cb=_ignore)
    try:
        return await getattr(client.jetstream(timeout=ANSWER_TIMEOUT), what)(*arguments, **options)
    finally:
        await client.close()


async def _ignore(error: Exception) -> None:
    """It is raised as well."""


def _cluster(number: int, ports: list[int]) -> str:
    """What makes a node one of the cluster whose nodes speak to each other at these ports."""
    routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports if port != ports[number])
    listen = f'listen: "{HOST}:{ports[number]}"'
    return f'server_name: "n{number}"\ncluster {{ name: "tests", {listen}, routes: [{routes}], no_advertise: true }}'
