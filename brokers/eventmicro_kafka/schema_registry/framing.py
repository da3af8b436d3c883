"""Framing: the bytes before a body, or in a header beside it, that say by which schema it is written."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from eventmicro.errors import DecodeError
from eventmicro.message import Delivery
from eventmicro_kafka.received import RecordDelivery

SchemaKey = int | UUID
"""What names a schema in its registry: its number, or its id everywhere."""

# The header in which newer serializers say it, in place of the bytes before the body.
HEADER = "__value_schema_id"
_NUMBER, _ID = 0, 1
_NUMBER_SIZE, _ID_SIZE = 5, 17


def frame(number: int) -> bytes:
    """The bytes before a body that is written by the schema of this number."""
    return bytes((_NUMBER,)) + number.to_bytes(4, "big")


def with_header(delivery: Delivery) -> bytes:
    """A body with the bytes before it, also where these are in a header."""
    if isinstance(delivery, RecordDelivery) and delivery.record is not None:
        said = next((value for name, value in delivery.record.headers if name == HEADER), None)
        if said is not None and len(said) == _ID_SIZE and said[0] == _ID:
            return bytes(said) + delivery.body
    return delivery.body


def take_apart(body: bytes) -> tuple[SchemaKey, int]:
    """By which schema a body is written, and where it begins.

    Raises:
        DecodeError: it is not framed.
    """
    if len(body) >= _NUMBER_SIZE and body[0] == _NUMBER:
        return int.from_bytes(body[1:_NUMBER_SIZE], "big"), _NUMBER_SIZE
    if len(body) >= _ID_SIZE and body[0] == _ID:
        return UUID(bytes=body[1:_ID_SIZE]), _ID_SIZE
    raise DecodeError("not in the framing of a schema registry: it begins with neither 0 and a number nor 1 and an id")


def write_indexes(indexes: Sequence[int]) -> bytes:
    """Which message of a protobuf schema follows, by its place among its siblings, from the outermost on."""
    if list(indexes) == [0]:
        return b"\0"
    return b"".join(map(_zigzag, (len(indexes), *indexes)))


def skip_indexes(body: bytes, at: int) -> int:
    """Where the message begins.

    Raises:
        DecodeError: there are none.
    """
    count, at = _read_zigzag(body, at)
    if count < 0:
        raise DecodeError("not framed as protobuf is: the number of message indexes is below zero")
    for _ in range(count):
        _, at = _read_zigzag(body, at)
    return at


def _zigzag(number: int) -> bytes:
    number, written = number << 1, bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _read_zigzag(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(body) and shift < 35:
        byte = body[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise DecodeError("not framed as protobuf is: its message indexes do not end")
