"""Several servers that are one, each killed, frozen and started again by its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Self, TypeVar

from tests.servers.process import HOST, ServerProcess

# How many of them there are: the fewest of which one may be gone.
NODES = 3
# How long they may take to be one again, in seconds.
START_TIMEOUT = 180.0

Node = TypeVar("Node", bound=ServerProcess)


class Cluster(Generic[Node]):
    """The nodes of one cluster on 127.0.0.1; a context manager that starts all, then kills them.

    Attributes:
        nodes: its servers; the methods take their places in this list.
        ports: where clients find each node. Proxies in front may be named here before the start.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.ports = [node.port for node in nodes]

    @property
    def url(self) -> str:
        """What a service is given: all nodes, and that each event is to be on all."""
        raise NotImplementedError

    @property
    def urls(self) -> list[str]:
        """Each node by itself."""
        return [
            node.url.replace(f":{node.port}", f":{port}") for node, port in zip(self.nodes, self.ports, strict=True)
        ]

    @property
    def hosts(self) -> str:
        """`host:port` of all nodes, with commas between."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def start(self, *numbers: int) -> None:
        """Start these nodes, by default all, together; return when they serve."""
        chosen = [self.nodes[number] for number in numbers] or self.nodes
        for node in chosen:
            node.begin()
        for node in chosen:
            node.await_ready(START_TIMEOUT)

    def restart(self, number: int) -> None:
        """End a node in order and start it again; return when it serves."""
        self.nodes[number].stop()
        self.start(number)

    def kill(self, *numbers: int) -> None:
        """End nodes as a crash would; return when they are gone."""
        for number in numbers:
            self.nodes[number].kill()

    def freeze(self, number: int) -> None:
        """Let a node hang: its connections stay open and nothing answers."""
        self.nodes[number].pause()

    def thaw(self, number: int) -> None:
        self.nodes[number].resume()

    def stop(self) -> None:
        """Kill all and throw their data away."""
        for node in self.nodes:
            node.__exit__()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
