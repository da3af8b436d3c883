"""The opening of a stream: a request as any other, with a header that says where frames go, and how many may come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from eventmicro.errors import BadRequest
from eventmicro.rpc.streams.credit import HIGHEST_BYTES, HIGHEST_ITEMS
from eventmicro.rpc.streams.frames import MAX_TEXT, TOO_HIGH
from eventmicro.wire import STREAM, header, is_subject, read_object

# The shortest and the longest time after which a silent side may count as lost, in seconds.
SHORTEST, LONGEST = 0.1, 3600.0
# The longest header of an opening, in characters.
MAX_HEADER = 2 * MAX_TEXT


@dataclass(frozen=True, slots=True)
class Opening:
    """What a side that opens a stream says of itself.

    address, stream: the subject to which frames go, and the number that the stream has there.
    item_limit, byte_limit: the first credit for messages to it.
    keep_alive: how long the other side may be silent before it counts as lost, in seconds.
    ended: whether it sends no messages.
    """

    address: str
    stream: int
    item_limit: int
    byte_limit: int
    keep_alive: float
    ended: bool


def write_opening(opening: Opening) -> str:
    """The opening as the value of the header `Stream`."""
    form: dict[str, Any] = {
        "address": opening.address,
        "stream": opening.stream,
        "items": opening.item_limit,
        "bytes": opening.byte_limit,
        "keep_alive": round(opening.keep_alive * 1000),
    }
    if opening.ended:
        form["ended"] = True
    return json.dumps(form)


def read_opening(headers: Mapping[str, str] | None) -> Opening | None:
    """What the headers of a request say; None: it comes from a client that knows nothing of frames.

    Raises:
        BadRequest: they say what cannot be.
    """
    text = header(headers, STREAM)
    if text is None:
        return None
    form = read_object(text, MAX_HEADER)
    if form is None:
        raise BadRequest(f"header {STREAM}: not a JSON object, or over {MAX_HEADER} characters")
    address = form.get("address")
    if not is_address(address):
        raise BadRequest(f"header {STREAM}: 'address' is no subject")
    return Opening(
        address,
        _number(form, "stream", TOO_HIGH),
        _number(form, "items", HIGHEST_ITEMS),
        _number(form, "bytes", HIGHEST_BYTES),
        keep_alive_of(_number(form, "keep_alive", TOO_HIGH)),
        form.get("ended") is True,
    )


def is_address(address: object) -> TypeGuard[str]:
    """Whether frames can be sent there."""
    return isinstance(address, str) and is_subject(address) and len(address.encode()) <= MAX_TEXT


def is_number(number: object, highest: int = TOO_HIGH) -> TypeGuard[int]:
    """Whether it is a number above 0, and not above this."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number <= highest


def keep_alive_of(milliseconds: int) -> float:
    """A keep-alive within its bounds, in seconds."""
    return min(max(milliseconds / 1000, SHORTEST), LONGEST)


def _number(form: dict[str, Any], name: str, highest: int) -> int:
    number = form.get(name)
    if not is_number(number, highest):
        raise BadRequest(f"header {STREAM}: {name!r} is no number from 1 to {highest}")
    return number
