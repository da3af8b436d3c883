"""Content: a message on its way in, until the last of its frames is there."""

from __future__ import annotations

from pamqp.commands import Basic
from pamqp.header import ContentHeader

from eventmicro_rabbitmq.connection.frames import Properties


class Content:
    """A message whose frames come one by one: first what it is, then its properties, then its body in pieces."""

    def __init__(self, method: Basic.Deliver | Basic.Return) -> None:
        self.method = method
        self.properties: Properties | None = None
        self._parts: list[bytes] = []
        self._missing = 0

    @property
    def is_whole(self) -> bool:
        return self.properties is not None and self._missing <= 0

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    def begin(self, header: ContentHeader) -> None:
        """Its properties, and how long its body is."""
        self.properties = header.properties
        self._missing = header.body_size

    def add(self, part: bytes) -> None:
        """A piece of its body."""
        self._parts.append(part)
        self._missing -= len(part)
