"""What each codec and each envelope writes, byte for byte, as tests/wire/golden/codecs.json has it on record.

A change here is a change of the wire: other versions and other languages read these bytes. What is new is written by
`python -m tests.wire.test_golden_codecs`; look at what it changes, as what is released stays as it is (released.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
from google.protobuf import wrappers_pb2
from pydantic import BaseModel

from eventmicro.codec import Envelope
from eventmicro.codecs import Codecs
from eventmicro.compression import Compression, decompress
from eventmicro.errors import NotFound

FILE = Path(__file__).parent / "golden" / "codecs.json"
METHOD = "orders.quote"


class Line(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    id: UUID = UUID("12345678-1234-5678-1234-567812345678")
    at: datetime = datetime(2026, 11, 30, 6, 30, 5, 123000, tzinfo=UTC)
    day: date = date(2026, 11, 30)
    total: Decimal = Decimal("12.340")
    blob: bytes = b"bytes"
    lines: list[Line] = [Line(sku="ä"), Line(sku="b", count=-70000)]
    note: str | None = None
    weight: float = 0.5
    paid: bool = True


@dataclass
class Point:
    x: int
    y: float


class Tick(msgspec.Struct):
    number: int
    at: datetime


@attrs.define
class Parcel:
    weight: float


VALUES: dict[str, tuple[Any, Any]] = {
    "model": (Order, Order()),
    "dataclass": (Point, Point(1, 0.5)),
    "struct": (Tick, Tick(7, datetime(2026, 11, 30, 6, 30, 5, tzinfo=UTC))),
    "attrs class": (Parcel, Parcel(0.5)),
    "list": (list[int], [0, -1, 127, 128, 2**31, 2**63 - 1]),
    "text": (str, "größer"),
    "none": (Line | None, None),
    "protobuf": (wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="hey")),
    "bytes": (bytes, b"\x00\xff"),
}
CODECS = ("json", "protobuf", "msgpack", "cbor", "bson", "text")
ENVELOPES = ("json-rpc", "proto-rpc", "bson-rpc")
MESSAGES = {"json-rpc": b'{"sku":"a"}', "proto-rpc": b"\x0a\x03hey", "bson-rpc": b"\x05\x00\x00\x00\x00"}
codecs = Codecs()


def written(name: str) -> dict[str, str]:
    """What a value is, in each content type in which it travels."""
    kind, value = VALUES[name]
    body = codecs.body(kind)
    encoders = {each: body.encoder(codecs.resolve(each)) for each in CODECS}
    return {each: form(encode(value)) for each, encode in encoders.items() if encode is not None}


def enveloped(name: str) -> dict[str, str]:
    """A call in an envelope: its request, its reply, and an error in place of that."""
    envelope = codecs.find(codecs.resolve(name))
    assert isinstance(envelope, Envelope)
    request = envelope.request(METHOD, MESSAGES[name])
    opened = envelope.open_request(request)
    error = NotFound("no ä", id=METHOD)
    told = envelope.error(opened, error, json.loads(error.to_json()))
    return {"request": form(request), "reply": form(envelope.reply(opened, MESSAGES[name])), "error": form(told)}


def record() -> dict[str, dict[str, str]]:
    return {
        **{name: written(name) for name in VALUES},
        **{name: enveloped(name) for name in ENVELOPES},
    }


def form(body: bytes) -> str:
    """A body as the record has it: what is no text as hexadecimal digits."""
    try:
        text = body.decode()
    except ValueError:
        text = "\x00"
    return text if text.isprintable() else "hex " + body.hex()


def body_of(form: str) -> bytes:
    return bytes.fromhex(form[4:]) if form.startswith("hex ") else form.encode()


GOLDEN: dict[str, dict[str, str]] = json.loads(FILE.read_text()) if FILE.exists() else {}


def recorded() -> Iterator[tuple[str, str]]:
    yield from ((name, content_type) for name in VALUES for content_type in GOLDEN.get(name, ()))


def test_what_is_written_is_what_is_on_record() -> None:
    assert record() == GOLDEN


@pytest.mark.parametrize(("name", "content_type"), list(recorded()))
def test_what_is_on_record_is_read(name: str, content_type: str) -> None:
    kind, value = VALUES[name]
    assert codecs.body(kind).decoder(codecs.resolve(content_type))(body_of(GOLDEN[name][content_type])) == value


def test_every_kind_of_message_and_every_content_type_is_on_record() -> None:
    assert set(GOLDEN) == {*VALUES, *ENVELOPES}
    assert {content_type for name in VALUES for content_type in GOLDEN[name]} == set(CODECS)


# As gzip and zstd themselves have written it: what another version of theirs writes may differ, and is read.
COMPRESSED = {
    "gzip": "1f8b08000000000000034b4ca43d0000647a70af64000000",
    "zstd": "28b52ffd206445000010616101003f012c",
}


def test_what_others_have_compressed_is_read() -> None:
    for encoding, digits in COMPRESSED.items():
        assert decompress(bytes.fromhex(digits), encoding, 100) == b"a" * 100
        smaller = Compression(encoding, 10).compress(b"a" * 100)  # type: ignore[arg-type]
        assert smaller is not None
        assert decompress(smaller, encoding, 100) == b"a" * 100


if __name__ == "__main__":
    FILE.write_text(json.dumps(record(), indent=2, ensure_ascii=False) + "\n")
