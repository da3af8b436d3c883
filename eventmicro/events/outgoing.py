"""An event on its way out: the context that middleware sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventmicro.context import Context, Side
from eventmicro.message import Message

Write = Callable[[Message, Any, dict[str, str]], None]

PUBLISHER = Side.PUBLISHER


class OutgoingEvent(Context):
    """The context of an event that is being published.

    message: what it becomes.
    write: fills that in.
    timeout: how long the broker is waited for, in seconds; None: as the client says.
    together: what collects the messages of several events; None where it goes alone.
    """

    __slots__ = ("message", "timeout", "together", "write")

    def __init__(
        self,
        message: Message,
        write: Write,
        metadata: dict[str, str] | None,
        timeout: float | None,
        pattern: str = "",
    ) -> None:
        self.message = message
        self.write = write
        self.timeout = timeout
        self.together: list[Message] | None = None
        Context.__init__(self, PUBLISHER, "", "", message.subject, metadata, pattern=pattern)
