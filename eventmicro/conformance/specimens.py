"""What the cases for codecs send: values of every kind that JSON can hold, and bodies that nobody should send."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

Specimen = tuple[Any, Any]
"""A type, and a value of it."""


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    sku: str
    count: int = 1


class Gift(BaseModel):
    wish: str


class Everything(BaseModel):
    """A field of each kind."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    text: str = "größer als \U0001f600, 0\x00, \"'\\"
    small: int = -1
    large: int = 2**63 - 1
    least: int = -(2**63)
    number: float = 0.1
    yes: bool = True
    moment: datetime = datetime(2026, 11, 30, 6, 30, 5, 123456, tzinfo=UTC)
    local: datetime = datetime(2026, 11, 30, 6, 30, 5)
    day: date = date(2026, 11, 30)
    hour: time = time(6, 30)
    span: timedelta = timedelta(days=1, milliseconds=1)
    name: UUID = UUID("12345678-1234-5678-1234-567812345678")
    price: Decimal = Decimal("12.340")
    blob: bytes = b"\x00\xff\xfe"
    colour: Colour = Colour.RED
    part: Part = Part(sku="a")
    parts: list[Part] = [Part(sku="a"), Part(sku="b", count=2)]
    pair: tuple[int, str] = (1, "one")
    tags: set[str] = {"one"}
    counts: dict[str, int] = {"a": 1}
    either: Part | Gift = Gift(wish="a pony")
    maybe: Part | None = None
    anything: Any = {"a": [1, None, "x", 0.5, True]}


@dataclass
class Point:
    x: int
    y: float = 0.5


class Row(TypedDict):
    name: str
    rows: list[int]


# The form in which an error travels, which every codec that can is to hold.
ERROR: dict[str, Any] = {
    "id": "orders.quote",
    "code": 400,
    "detail": "the request is not a valid QuoteRequest",
    "status": "Bad Request",
    "retryable": False,
    "errors": [{"loc": ["lines", 0, "sku"], "msg": "Field required", "type": "missing"}],
}

SPECIMENS: list[Specimen] = [
    (Everything, Everything()),
    (Part, Part(sku="a")),
    (Point, Point(1)),
    (Row, {"name": "a", "rows": [1, 2]}),
    (dict[str, int], {"a": 1, "": 2}),
    (dict[str, Any], ERROR),
    (Part | Gift, Gift(wish="a pony")),
    (list[Part], [Part(sku="a")]),
    (Part | None, None),
    (str, "größer"),
    (int, -7),
    (float, 0.1),
    (bool, False),
    (bytes, b"\x00\xff"),
    (None, None),
]


def _nested_document(depth: int) -> bytes:
    """BSON within BSON."""
    sizes = [5 + 8 * level for level in range(depth, 0, -1)]
    return b"".join(struct.pack("<i", size) + b"\x03a\x00" for size in sizes) + b"\x05\x00\x00\x00\x00" + bytes(depth)


DEEP = 100_000
# In the form of one codec or another: all are given to each.
HOSTILE: dict[str, bytes] = {
    "lists in JSON": b"[" * DEEP,
    "objects in JSON": b'{"a":' * DEEP,
    "closed lists in JSON": b"[" * DEEP + b"]" * DEEP,
    "lists in MessagePack": b"\x91" * DEEP + b"\x01",
    "maps in MessagePack": b"\x81\xa1a" * DEEP + b"\x01",
    "lists in CBOR": b"\x81" * DEEP + b"\x01",
    "tags in CBOR": b"\xc1" * DEEP + b"\x01",
    "lists without an end in CBOR": b"\x9f" * DEEP,
    "documents in BSON": _nested_document(DEEP),
    "groups in protobuf": b"\x0b" * DEEP,
    "a list of 2^32 in MessagePack": b"\xdd\xff\xff\xff\xff",
    "bytes of 2^32 in MessagePack": b"\xc6\xff\xff\xff\xff",
    "a list of 2^64 in CBOR": b"\x9b" + b"\xff" * 8,
    "bytes of 2^63 in CBOR": b"\x5b\x7f" + b"\xff" * 7,
    "a decimal of 2^31 digits in CBOR": b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
    "a list within itself in CBOR": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a pattern in CBOR": b"\xd8\x23\x68(a+)+$xx",
    "a document of 2^31 in BSON": b"\xff\xff\xff\x7f\x00\x00",
    "a negative length in BSON": b"\xff\xff\xff\xff\x00\x00",
    "a moment out of range in BSON": b"\x10\x00\x00\x00\x09a\x00" + b"\xff" * 7 + b"\x7f\x00",
    "a text of 2^32 in protobuf": b"\x0a\xff\xff\xff\xff\x0f",
    "frames of 2^32 in PROTO-RPC": b"\xff\xff\xff\xff\x00",
    "2^64 in JSON": b"18446744073709551616",
    "2^64 in a field in JSON": b'{"sku":"a","count":18446744073709551616}',
    "10^5000 in JSON": b"9" * 5000,
    "a number beyond all in JSON": b"1e999",
    "half of a pair in JSON": b'"\\ud800"',
    "no UTF-8": b"\xff\xfe\xfd",
    "text that is no UTF-8 in MessagePack": b"\xa2\xff\xfe",
    "text that is no UTF-8 in CBOR": b"\x62\xff\xfe",
    "a moment out of range in MessagePack": b"\xc7\x0c\xff\x3b\x9a\xc9\xff\x7f" + b"\xff" * 7,
    "nothing": b"",
    "zeros": bytes(1000),
}
