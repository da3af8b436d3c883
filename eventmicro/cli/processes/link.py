"""The link between the process that a user starts and the workers it starts: a socket pair, and lines of JSON on it.

A worker asks `"broker"`, if its services name none, and is told `{"url": ...}` or `{"error": ...}`; it says
`{"ready": [names]}` when its services have started. Each side learns that the other is gone by the end of the stream,
also after kill -9.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Self

from eventmicro.errors import Disconnected, UsageError

SOCKET_VARIABLE = "EVENTMICRO_PARENT_SOCKET"
WORKER_VARIABLE = "EVENTMICRO_WORKER"
SERVICE_VARIABLE = "EVENTMICRO_SERVICE"
FIRST = 1


class Link:
    """The worker's side."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self.number = number
        self.service = os.environ.get(SERVICE_VARIABLE)
        """The name in the settings file of what this worker runs, if it is run by that name."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """The link to the process that started this one as a worker; None where none did."""
        number = os.environ.pop(SOCKET_VARIABLE, None)
        if number is None:
            return None
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        return cls(connection, int(os.environ[WORKER_VARIABLE]))

    @property
    def is_first(self) -> bool:
        """Whether this worker is the one that speaks for all."""
        return self.number == FIRST

    def fileno(self) -> int:
        """The descriptor that ends when the parent is gone."""
        return self._connection.fileno()

    def ask_broker(self) -> str:
        """The URL of the embedded broker, which the parent starts or joins.

        Raises:
            UsageError: there can be none.
            Disconnected: the parent is gone.
        """
        self._say("broker")
        line = self._lines.readline()
        if not line:
            raise Disconnected("the process that started this worker is gone")
        answer: dict[str, str] = json.loads(line)
        if "error" in answer:
            raise UsageError(answer["error"])
        return answer["url"]

    def ready(self, names: Sequence[str]) -> None:
        """Tell that the services have started, which have these names."""
        self._say({"ready": names})

    def _say(self, what: Any) -> None:
        try:
            self._connection.sendall(json.dumps(what).encode() + b"\n")
        except OSError as error:
            raise Disconnected("the process that started this worker is gone") from error
