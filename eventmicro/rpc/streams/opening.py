"""The opening of a stream: a request as any other, with a header that says where frames go, and how many may come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventmicro.errors import BadRequest
from eventmicro.rpc.streams.credit import HIGHEST_BYTES, HIGHEST_ITEMS
from eventmicro.rpc.streams.frames import MAX_TEXT, TOO_HIGH
from eventmicro.wire import STREAM, header, is_subject

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
    try:
        form = json.loads(text) if len(text) <= MAX_HEADER else None
    except (ValueError, RecursionError):
        form = None
    if not isinstance(form, dict):
        raise BadRequest(f"header {STREAM}: not a JSON object, or over {MAX_HEADER} characters")
    address = form.get("address")
    if not isinstance(address, str) or not is_subject(address) or len(address.encode()) > MAX_TEXT:
        raise BadRequest(f"header {STREAM}: 'address' is no subject")
    return Opening(
        address,
        _number(form, "stream", TOO_HIGH),
        _number(form, "items", HIGHEST_ITEMS),
        _number(form, "bytes", HIGHEST_BYTES),
        min(max(_number(form, "keep_alive", TOO_HIGH) / 1000, SHORTEST), LONGEST),
        form.get("ended") is True,
    )


def _number(form: dict[str, Any], name: str, highest: int) -> int:
    number = form.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= highest:
        raise BadRequest(f"header {STREAM}: {name!r} is no number from 1 to {highest}")
    return number
