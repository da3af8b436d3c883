"""What is being sent: the contexts of a call and of an event on their way out, and how their values are encoded."""

from __future__ import annotations

from typing import Any

from eventmicro.codecs import Body
from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro.message import Message
from eventmicro.wire import CONTENT_TYPE, content_type


class OutgoingCall(Context):
    """The context of a call, with the body of its reply."""

    __slots__ = ("body",)
    body: Body


class OutgoingEvent(Context):
    """The context of an event that is being published.

    body: the body of its type.
    message: what it becomes.
    timeout: how long the broker is waited for, in seconds; None: as the client says.
    together: what collects the messages of several events; None where it goes alone.
    """

    __slots__ = ("body", "message", "timeout", "together")
    body: Body
    message: Message
    timeout: float | None
    together: list[Message] | None


def encode(body: Body, value: Any, headers: dict[str, str]) -> bytes:
    """Encode in the content type that the headers name, else in the type's own, and name that where it has to be."""
    named = content_type(headers) if headers else None
    if named is None:
        if body.announced:
            headers[CONTENT_TYPE] = body.content_type
        return body.encode(value)
    encode = body.encoder(named)
    if encode is None:
        raise UsageError(f"a value of type {type(value).__name__} cannot travel as {named}; leave Content-Type out")
    return encode(value)
