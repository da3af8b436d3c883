"""The servers that are measured: of our own for the time of a run, or given ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.servers import KafkaServer, NatsServer, RabbitServer


@dataclass(frozen=True)
class Server:
    """Where it is, and its process, if it is ours: then its CPU time is known."""

    url: str
    pids: dict[str, int]


@contextmanager
def server(broker: str) -> Iterator[Server]:
    """A fresh server on free ports of this machine, or what `EVENTMICRO_TEST_<BROKER>_URL` names.

    Raises:
        ServerUnavailable: it is not installed.
    """
    given = os.environ.get(f"EVENTMICRO_TEST_{broker.upper()}_URL")
    if given:
        yield Server(given, {})
        return
    with START[broker]() as own:
        yield Server(own.jetstream_url if broker == "jetstream" else own.url, {"broker": own.pid})


def kafka() -> KafkaServer:
    """Kafka with commits and a Java as its users have them, which is not how the tests do."""
    own = KafkaServer({"group.coordinator.append.linger.ms": 5})
    own.jvm = ["-Xmx1g", "-XX:TieredStopAtLevel=4"]
    return own


START: dict[str, Callable[[], Any]] = {
    "nats": NatsServer,
    "jetstream": lambda: NatsServer(jetstream=True),
    "rabbitmq": RabbitServer,
    "kafka": kafka,
}
