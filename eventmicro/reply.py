"""Reply: what an endpoint answers, with the metadata beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_origin

from eventmicro.errors import UsageError
from eventmicro.wire import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    DESCRIPTION,
    ERROR,
    ERROR_CODE,
    LARGE,
    STATUS,
    STREAM,
    check_headers,
)

T = TypeVar("T")

# What a reply says of itself; a handler that said it would have its reply taken for another one.
_RESERVED = {
    name.lower() for name in (CONTENT_TYPE, CONTENT_ENCODING, DESCRIPTION, ERROR, ERROR_CODE, LARGE, STATUS, STREAM)
}


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """A reply with its metadata, for callers that ask for it: `client.call("orders.quote", request, Reply[Quote])`."""

    value: T
    metadata: dict[str, str]
    """The headers that came with it, those included that say how it is written."""


def refuse_reply(kind: Any) -> None:
    """Refuse a Reply as the type of anything but what a caller takes.

    Raises:
        UsageError: it is one.
    """
    if kind is Reply or get_origin(kind) is Reply:
        raise UsageError(f"{kind} is for the reply types of callers; write the type that is in it")


def check_reply_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """What a handler has said beside its reply, for sending.

    Raises:
        UsageError: it cannot be sent, or says what only the reply itself may.
    """
    if reserved := [name for name in metadata if isinstance(name, str) and name.lower() in _RESERVED]:
        raise UsageError(f"reply_metadata: {', '.join(reserved)} is said by the reply itself; leave it out")
    return check_headers(metadata)
