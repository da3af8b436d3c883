"""An event on its way out: the context that middleware sees."""

from __future__ import annotations

from eventmicro.codecs import Body
from eventmicro.context import Context, Side
from eventmicro.message import Message

PUBLISHER = Side.PUBLISHER


class OutgoingEvent(Context):
    """The context of an event that is being published.

    body: the body of its type.
    message: what it becomes.
    timeout: how long the broker is waited for, in seconds; None: as the client says.
    together: what collects the messages of several events; None where it goes alone.
    """

    __slots__ = ("body", "message", "timeout", "together")

    def __init__(self, message: Message, body: Body, metadata: dict[str, str] | None, timeout: float | None) -> None:
        self.message = message
        self.body = body
        self.timeout = timeout
        self.together: list[Message] | None = None
        super().__init__(PUBLISHER, "", "", message.subject, metadata)
