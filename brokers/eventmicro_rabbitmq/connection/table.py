"""Header tables as bytes: what a copy keeps goes on to the last bit, in its type, also where pamqp could not write it.

pamqp keeps 32 bits of a float, and writes no text that is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from struct import Struct
from typing import Any

from pamqp import encode

Entry = tuple[str, bytes]
"""A header: its name, and all its bytes, those of the name included."""

_LENGTH, _DOUBLE, _LONG = Struct(">I"), Struct(">d"), Struct(">q")
# How long a value is behind the letter of its type, as RabbitMQ has the types.
_SIZES = dict(zip(b"tbBsuIilLfdDTV", (1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 5, 8, 0), strict=True))
# Values that say how long they are: text, list, table, bytes.
_WITH_LENGTH = frozenset(b"SAFx")


def read_entries(table: bytes) -> list[Entry]:
    """The headers of a table.

    Raises:
        ValueError, IndexError, struct.error: it cannot be read.
    """
    entries, position, end = list[Entry](), _LENGTH.size, len(table)
    while position < end:
        start, name_at = position, position + 1
        kind_at = name_at + table[position]
        position = kind_at + 1 + _size(table, kind_at)
        entries.append((table[name_at:kind_at].decode("utf-8", "replace"), table[start:position]))
    return entries


def _size(table: bytes, kind_at: int) -> int:
    kind = table[kind_at]
    if kind in _WITH_LENGTH:
        return _LENGTH.size + int(_LENGTH.unpack_from(table, kind_at + 1)[0])
    if kind not in _SIZES:
        raise ValueError(f"a header of the unknown type {kind}")
    return _SIZES[kind]


def join_entries(entries: Iterable[bytes]) -> bytes:
    """A table of these headers."""
    return _with_length(b"".join(entries))


def write_table(headers: Mapping[str, Any]) -> bytes:
    """A table of headers with values of any type that comes out of one."""
    return join_entries(write_entry(name, value) for name, value in headers.items())


def write_entry(name: str, value: Any) -> bytes:
    """One header."""
    encoded = name.encode()
    return bytes((len(encoded),)) + encoded + _write(value)


def _write(value: Any) -> bytes:
    if type(value) is str:  # as nearly all are
        return b"S" + _with_length(value.encode())
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value)
    return b"S" + _with_length(str(value).encode())


def _with_length(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _list(values: list[Any]) -> bytes:
    return b"A" + _with_length(b"".join(map(_write, values)))


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], bytes]], ...] = (
    (bool, lambda value: b"t" + bytes((value,))),
    (int, lambda value: b"l" + _LONG.pack(value)),
    (float, lambda value: b"d" + _DOUBLE.pack(value)),
    (str, lambda value: b"S" + _with_length(value.encode())),
    (bytes, lambda value: b"S" + _with_length(value)),  # as pamqp reads text that is not UTF-8
    (bytearray, lambda value: b"x" + _with_length(bytes(value))),
    (dict, lambda value: b"F" + write_table(value)),
    (list, _list),
    (datetime, lambda value: b"T" + encode.timestamp(value)),
    (Decimal, lambda value: b"D" + encode.decimal(value)),
    (type(None), lambda _: b"V"),
)
