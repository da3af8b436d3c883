"""The codec port: how values of a type become bodies, and bodies values; and what some callers put around a body."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from eventmicro.errors import ServiceError
from eventmicro.message import Delivery

Encoder = Callable[[Any], bytes]
"""Turns a value into a body. Raises EncodeError where the value is not of the type the encoder was made for."""

Decoder = Callable[[bytes], Any]
"""Turns a body into a value. Raises DecodeError where it is not one of the type the decoder was made for."""

# How pydantic tells a field that was set to another type: with the value, whose text is anything at all.
_WARNED = "Pydantic serializer warnings:"
_ONE_MORE = "\n  PydanticSerializationUnexpectedValue("
_FIELD = re.compile(r"\[(?:field_name='(\w+)', )?input_value=.*, input_type=(.+)\]\)", re.DOTALL)


class NotReady(Exception):
    """Raised by the encoder or decoder of a topic's codec: what it needs is not here yet, such as a schema.

    Who publishes or handles events awaits `fetch`, and tries again; meanwhile the event waits.
    """

    async def fetch(self) -> None:
        """Get it.

        Raises:
            TransportError: it is not to be had now, and may be later.
            DecodeError: it never will be.
        """
        raise NotImplementedError


@runtime_checkable
class Codec(Protocol):
    """One content type. Has no state: one object serves everybody."""

    @property
    def content_type(self) -> str:
        """The content type, in lower case and without parameters, such as `application/json`."""
        ...

    def handles(self, kind: Any) -> bool:
        """Whether values of the type `kind` can travel in this content type."""
        ...

    def encoder(self, kind: Any) -> Encoder:
        """Compile the encoder for a type it handles. Called once a type, so it may be slow; what it returns may not."""
        ...

    def decoder(self, kind: Any) -> Decoder:
        """Compile the decoder for a type it handles. Called once a type. What it returns must bear any bytes."""
        ...


@runtime_checkable
class ReadsHeaders(Protocol):
    """A codec of a topic that takes a part of the body from where the broker has it, such as a header of its own."""

    def frame(self, delivery: Delivery) -> bytes:
        """The body of an event with headers, as the decoder takes it."""
        ...


@dataclass(slots=True)
class Opened:
    """A request taken out of its envelope.

    Attributes:
        body: the message, in the envelope's inner content type; empty where there is none.
        method: what the envelope says is called; empty where it says nothing.
        id: what the reply repeats, so that the caller knows whose it is; None where the caller awaits none.
        wrong: why it cannot be answered by the endpoint, where it cannot.
        token: whatever else the envelope needs for its reply.
    """

    body: bytes = b""
    method: str = ""
    id: Any = None
    wrong: ServiceError | None = None
    token: Any = None


@runtime_checkable
class Envelope(Protocol):
    """A content type of calls that puts something around the message. Has no state: one object serves everybody.

    Events have none: who asks for it for an event sends the message alone, in the inner content type.
    """

    @property
    def content_type(self) -> str:
        """The content type, such as `application/json-rpc`."""
        ...

    @property
    def inner(self) -> str:
        """The content type of the message within, such as `application/json`."""
        ...

    def request(self, method: str, body: bytes) -> bytes:
        """Put a request into its envelope; `method` is `service.endpoint`. An empty body is no message."""
        ...

    def open_request(self, envelope: bytes) -> Opened:
        """Take a request out. Must bear any bytes, and raises nothing: what is wrong is in `Opened.wrong`."""
        ...

    def reply(self, request: Opened, body: bytes) -> bytes:
        """Put a reply into its envelope."""
        ...

    def error(self, request: Opened, error: ServiceError, form: dict[str, Any]) -> bytes:
        """Put an error into its envelope; `form` is the error as it travels elsewhere."""
        ...

    def open_reply(self, envelope: bytes, endpoint: str) -> bytes:
        """Take a reply out.

        Raises:
            DecodeError: it is none.
            ServiceError: it is an error.
        """
        ...


def why_unwritten(error: BaseException) -> tuple[str, BaseException | None]:
    """Why pydantic cannot write a value, and what an error that says so is raised from.

    Where a field is of another type these tell its name and the type that it has, and nothing of the value, which may
    be a secret.
    """
    text = str(error)
    if not text.startswith(_WARNED):
        return text, error
    found = _FIELD.search(_ONE_MORE.join(text.split(_ONE_MORE, 2)[:2]))
    field, kind = found.groups() if found else (None, None)
    where = f"its field {field!r}" if field else "what is in it"
    return f"{where} is of another type{f': {kind}' if kind else ''}", None
