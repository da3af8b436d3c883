"""The properties of an event, of which most have few of all that there may be: read in place, and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pamqp import decode, encode

from eventmicro_rabbitmq.connection.frames import Properties

# How many sets of properties are remembered; as a rule each publisher has one.
REMEMBERED = 256

Decode = Callable[[bytes], tuple[int, Any]]
# A property's name, and what reads it: None for text, as most are.
Plan = tuple[tuple[str, Decode | None], ...]

_plans: dict[int, Plan] = {}


class Sparse(Properties):
    """Properties of which only those that are there were set; asked for others it says their defaults.

    It names no slots of its own: `__slots__` are the names of all properties, as in pamqp's.
    """

    def __getattr__(self, name: str) -> Any:
        if name in Properties.flags:
            return "" if name == "cluster_id" else None
        raise AttributeError(name)


class Received(Sparse):
    """Those of an event that has come."""

    def __init__(self) -> None:
        self.content_type = self.headers = self.message_id = None  # which are asked for each time


class Persistent(Sparse):
    """Those of an event that is published: it is kept, and has an id."""

    def __init__(self, message_id: str, content_type: str | None = None, headers: dict[str, Any] | None = None) -> None:
        self.message_id = message_id
        self.content_type = content_type
        self.headers = headers
        self.delivery_mode = 2

    def marshal(self) -> bytes:
        flags, parts = _MODE_AND_ID, list[bytes]()
        if self.content_type:
            flags |= Properties.flags["content_type"]
            parts.append(_text(self.content_type))
        if self.headers is not None:
            flags |= Properties.flags["headers"]
            parts.append(encode.field_table(self.headers))
        return b"".join((flags.to_bytes(2, "big"), *parts, b"\x02", _text(self.message_id or "")))


_MODE_AND_ID = Properties.flags["delivery_mode"] | Properties.flags["message_id"]


def _text(value: str) -> bytes:
    encoded = value.encode()
    return bytes((len(encoded),)) + encoded


def read_properties(data: bytes, position: int, end: int, flags: int) -> Received | None:
    """The properties between two positions; None where they are not just that, or cannot be read.

    Args:
        flags: says which there are.
    """
    plan = _plans.get(flags)
    if plan is None:
        plan = _remember(flags)
    found = Received()
    try:
        for name, decode_value in plan:
            if decode_value is None:
                start = position + 1
                position = start + data[position]
                setattr(found, name, data[start:position].decode())
            elif decode_value is decode.octet:
                setattr(found, name, data[position])
                position += 1
            else:
                size, value = decode_value(data[position:end])
                setattr(found, name, value)
                position += size
    except Exception:  # pamqp raises many kinds
        return None
    return found if position == end and not flags & _MORE_FLAGS else None


# A bit of the flags that says that there are further ones, for properties that nobody has named yet.
_MORE_FLAGS = 1


def _remember(flags: int) -> Plan:
    if len(_plans) >= REMEMBERED:
        _plans.clear()
    kinds = ((name, Properties.amqp_type(name)) for name, flag in Properties.flags.items() if flags & flag)
    plan = tuple((name, None if kind == "shortstr" else decode.METHODS[kind]) for name, kind in kinds)
    _plans[flags] = plan
    return plan
