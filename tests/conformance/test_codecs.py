"""Every ready-made codec, and every envelope, does what codecs and envelopes must do."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
from google.protobuf import struct_pb2, wrappers_pb2

from eventmicro import UsageError, conformance
from eventmicro.codec import Codec, Envelope
from eventmicro.codecs.bson import BsonCodec
from eventmicro.codecs.bsonrpc import BsonRpc
from eventmicro.codecs.cbor import CborCodec
from eventmicro.codecs.json import JsonCodec
from eventmicro.codecs.jsonrpc import JsonRpc
from eventmicro.codecs.msgpack import MsgpackCodec
from eventmicro.codecs.protobuf import ProtobufCodec, ProtobufJsonCodec
from eventmicro.codecs.protorpc import ProtoRpc
from eventmicro.codecs.raw import RawCodec
from eventmicro.codecs.structs import StructJsonCodec
from eventmicro.codecs.text import TextCodec


class Line(msgspec.Struct):
    sku: str
    count: int = 1


class Order(msgspec.Struct):
    id: uuid.UUID
    at: datetime
    day: date
    total: Decimal
    blob: bytes
    lines: list[Line]
    note: str | None = None


@attrs.define
class Parcel:
    weight: float
    lines: list[Line] = attrs.Factory(list)


ORDER = Order(
    uuid.UUID(int=7),
    datetime(2026, 11, 30, 6, 30, 5, 123456, tzinfo=UTC),
    date(2026, 11, 30),
    Decimal("12.340"),
    b"\x00\xff",
    [Line("a"), Line("b", 2)],
)
STRUCTS: list[Any] = [
    (Order, ORDER),
    (list[Line], [Line("a")]),
    (Line | None, None),
    (dict[str, Line], {"a": Line("a")}),
    (Parcel, Parcel(0.5, [Line("a")])),
]
MAPPINGS = [each for each in STRUCTS if each[0] in (Order, Parcel)]
MESSAGES: list[Any] = [
    (wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="größer")),
    (struct_pb2.Struct, struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1)})),
]

CODECS: list[tuple[Codec | Envelope, list[Any]]] = [
    (JsonCodec(), []),
    (StructJsonCodec(), STRUCTS),
    (RawCodec(), []),
    (TextCodec(), []),
    (MsgpackCodec(), STRUCTS),
    (CborCodec(), STRUCTS),
    (BsonCodec(), MAPPINGS),
    (ProtobufCodec(), MESSAGES),
    (ProtobufJsonCodec(), MESSAGES),
    (JsonRpc(), []),
    (ProtoRpc(), []),
    (BsonRpc(), []),
]
CASES = [case for codec, specimens in CODECS for case in conformance.codec_cases(codec, specimens)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case.codec).__name__}-{case}")
def test_a_codec_does_what_codecs_must_do(case: conformance.CodecCase) -> None:
    case.run()


def test_what_is_no_codec_has_no_cases_and_neither_has_one_for_which_there_is_no_value() -> None:
    with pytest.raises(UsageError, match="neither a Codec nor an Envelope"):
        conformance.codec_cases(object())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="application/protobuf handles none of the types that are tried"):
        conformance.codec_cases(ProtobufCodec())
