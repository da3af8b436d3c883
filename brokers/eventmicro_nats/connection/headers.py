"""The headers of a NATS message: read from the wire, and written to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from eventmicro.errors import UsageError
from eventmicro.wire import DESCRIPTION, ERROR, ERROR_CODE, STATUS

VERSION = b"NATS/1.0"
MESSAGE_ID = "Nats-Msg-Id"
PIN_ID = "Nats-Pin-Id"
TTL = "Nats-TTL"

# What begins so says something to the server, of later versions too, and holds for the event that it came with: a dead
# letter, or whatever is published with an event's metadata, would be refused for it, or expire, or replace others.
_ORDER = "Nats-"
# But for what a service answers, and what the server says of where a message came from, which it never reads itself.
_NO_ORDERS = frozenset(
    (
        ERROR,
        ERROR_CODE,
        "Nats-Request-Info",
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Last-Sequence",
    )
)
# What the server leaves in a stream where an event expired or was removed: a note, and no event.
MARKER = b"\r\nNats-Marker-Reason:"
_CRLF = b"\r\n"
_PIN = b"\r\n%b:" % PIN_ID.encode()
_ID_FIRST = b"%b\r\n%b:" % (VERSION, MESSAGE_ID.encode())
_match_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
# How long a name may be to be remembered as one: a dead letter has the names that a peer has sent.
LONGEST_REMEMBERED = 100
_NEWLINES = {0x0D: " ", 0x0A: " "}


def read_headers(raw: bytes) -> dict[str, str] | None:
    """The headers by name, with what the server says in the first line as `Status` and `Description`; None: no header.

    A line that is no header is left out, and what is not UTF-8 is replaced: what a peer sends is never an error here.
    """
    first, _, rest = raw.partition(_CRLF)
    headers: dict[str, str] = {}
    if first == VERSION and (plain := _read_plain(rest)) is not None:
        return plain or None
    status, _, description = first[len(VERSION) :].strip().decode(errors="replace").partition(" ")
    if status:
        headers[STATUS] = status
    if description:
        headers[DESCRIPTION] = description
    for line in rest.split(_CRLF):
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().decode(errors="replace")] = value.strip().decode(errors="replace")
    return headers or None


def read_event_headers(raw: bytes) -> dict[str, str] | None:
    """The same without the publisher's orders to the server; None at once where there is no more than its id."""
    if raw.startswith(_ID_FIRST) and ((lines := raw.count(_CRLF)) == 3 or (lines == 4 and _PIN in raw)):
        return None
    headers = read_headers(raw) or {}
    return {name: headers[name] for name in headers if name[:5] != _ORDER or name in _NO_ORDERS} or None


def _read_plain(lines: bytes) -> dict[str, str] | None:
    """Headers with nothing odd in them, as nearly all are; None where there is."""
    try:
        headers = {}
        for line in lines.decode().split("\r\n"):
            if line:
                name, value = line.split(":", 1)
                headers[name.strip()] = value.strip()
        return headers
    except ValueError:  # a line without a colon, or what is not UTF-8
        return None


def read_pairs(raw: bytes) -> tuple[tuple[str, str], ...]:
    """All headers as they came, those that repeat and the orders to the server too, in their order."""
    lines = (line.partition(b":") for line in raw.split(_CRLF)[1:])
    return tuple(
        (name.strip().decode(errors="replace"), value.strip().decode(errors="replace"))
        for name, colon, value in lines
        if colon
    )


def check_orders(subject: str, headers: Mapping[str, str]) -> None:
    """Refuse what would be an order to the server, in the headers of an event that is published from here.

    Raises:
        UsageError: it names the one that is.
    """
    for name in headers:
        if is_order(name):
            if name == MESSAGE_ID:
                raise UsageError(f"{subject}: header {name} names the event to NATS: publish it with id= instead")
            raise UsageError(f"{subject}: header {name} is an order to the NATS server; name it otherwise")


def write_headers(headers: Mapping[str, str]) -> bytes:
    """The lines of these headers, without the version in front and the empty line behind.

    Raises:
        UsageError: a name that is none.
    """
    lines = ""
    for name, value in headers.items():
        if not (_is_known_name(name) if len(name) <= LONGEST_REMEMBERED else _is_name(name)):
            raise UsageError(f"{name!r} cannot be the name of a header: write letters, digits and '-'")
        value = value.strip()
        if "\n" in value or "\r" in value:
            value = value.translate(_NEWLINES)
        lines += f"{name}: {value}\r\n"
    return lines.encode()


def is_order(name: str) -> bool:
    """Whether the server would take a header for an order."""
    return name.startswith(_ORDER) and name not in _NO_ORDERS


def _is_name(name: str) -> bool:
    return _match_name(name) is not None


_is_known_name = lru_cache(1000)(_is_name)
