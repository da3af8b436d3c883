"""MessagePack, CBOR and BSON: what each keeps as it is, and what travels as text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from math import inf, isnan, nan
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import bson
import cbor2
import msgspec
import pytest
from pydantic import BaseModel, HttpUrl, SecretStr

from eventmicro.codecs import Codecs
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import BSON, CBOR, MSGPACK

BINARY = [MSGPACK, CBOR, BSON]
codecs = Codecs()


class Holder(BaseModel):
    value: Any


class Odd(BaseModel):
    url: HttpUrl = HttpUrl("https://example.com/a")
    path: PurePosixPath = PurePosixPath("/tmp/a")
    address: IPv4Address = IPv4Address("127.0.0.1")
    span: timedelta = timedelta(minutes=1)
    numbers: frozenset[int] = frozenset((1, 2))
    by_number: dict[int, str] = {7: "seven"}


class Number(BaseModel):
    value: int = 0


def through(kind: Any, value: Any, content_type: str) -> Any:
    encode = codecs.body(kind).encoder(content_type)
    assert encode is not None
    return codecs.body(kind).decoder(content_type)(encode(value))


def written(value: Any, content_type: str) -> Any:
    """What another library finds in what we write of a value."""
    encode = codecs.body(Holder).encoder(content_type)
    assert encode is not None
    read: Any = {MSGPACK: msgspec.msgpack.decode, CBOR: cbor2.loads, BSON: bson.decode}[content_type]
    return read(encode(Holder(value=value)))["value"]


@pytest.mark.parametrize("content_type", BINARY)
def test_what_a_format_has_no_form_for_travels_as_json_has_it(content_type: str) -> None:
    assert through(Odd, Odd(), content_type) == Odd()


MOMENT = datetime(2026, 11, 30, 6, 30, 5, 123000, tzinfo=UTC)
FORMS: list[tuple[Any, Any, Any, Any]] = [
    # a value, and what stands for it in MessagePack, CBOR, BSON
    (b"\x00\xff", b"\x00\xff", b"\x00\xff", b"\x00\xff"),
    (MOMENT, MOMENT, MOMENT, MOMENT.replace(tzinfo=None)),
    (MOMENT.replace(microsecond=1), MOMENT.replace(microsecond=1), MOMENT.replace(microsecond=1), "text"),
    (MOMENT.replace(tzinfo=None), "2026-11-30T06:30:05.123000", "2026-11-30T06:30:05.123000", "text"),
    (MOMENT.astimezone(timezone(timedelta(hours=2))), MOMENT, MOMENT, MOMENT.replace(tzinfo=None)),
    (date(2026, 11, 30), "2026-11-30", date(2026, 11, 30), "2026-11-30"),
    (UUID(int=7), str(UUID(int=7)), UUID(int=7), bson.Binary(UUID(int=7).bytes, 4)),
    (Decimal("12.340"), "12.340", Decimal("12.340"), "12.340"),
    ((1, "a"), [1, "a"], [1, "a"], [1, "a"]),
    (SecretStr("hunter2"), "**********", "**********", "**********"),
]


@pytest.mark.parametrize(("value", "msgpack", "cbor", "in_bson"), FORMS, ids=[repr(form[0])[:50] for form in FORMS])
def test_others_find_in_it_what_their_format_has_for_that(value: Any, msgpack: Any, cbor: Any, in_bson: Any) -> None:
    assert written(value, MSGPACK) == msgpack
    assert written(value, CBOR) == cbor
    found = written(value, BSON)
    assert isinstance(found, str) if in_bson == "text" else found == in_bson


@pytest.mark.parametrize("content_type", BINARY)
@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_numbers_that_json_does_not_have_travel(content_type: str, number: float) -> None:
    value = through(Holder, Holder(value=number), content_type).value
    assert isnan(value) if isnan(number) else value == number


@pytest.mark.parametrize("content_type", BINARY)
def test_a_field_that_was_set_to_another_type_is_refused(content_type: str) -> None:
    encode = codecs.body(Number).encoder(content_type)
    assert encode is not None
    with pytest.raises(EncodeError):
        encode(Number.model_construct(value="many"))
    with pytest.raises(EncodeError):
        encode(Number(value=2**70) if content_type != CBOR else {"value": 1})


@pytest.mark.parametrize("exponent", [-(2**40), -6145, 6145, 2**31 - 1, 2**70])
def test_a_decimal_that_would_become_a_huge_integer_is_refused(exponent: int) -> None:
    body = cbor2.dumps({"value": cbor2.CBORTag(4, [exponent, 1])})
    for kind in (Number, Holder):
        with pytest.raises(DecodeError, match="no CBOR"):
            codecs.body(kind).decoder(CBOR)(body)


REFUSED = [
    cbor2.CBORTag(35, "(a+)+$"),
    cbor2.CBORTag(36, "From: a"),
    cbor2.CBORTag(30, [1, 2]),
    cbor2.CBORTag(5, [1, 2]),
    cbor2.CBORTag(4242, 1),
    cbor2.CBORTag(4, [1, 2, 3]),
    cbor2.CBORTag(4, "x"),
]


@pytest.mark.parametrize("tag", REFUSED, ids=str)
def test_a_tag_for_what_is_no_plain_data_is_refused(tag: Any) -> None:
    with pytest.raises(DecodeError, match="no CBOR"):
        codecs.body(Holder).decoder(CBOR)(cbor2.dumps({"value": tag}))


def test_a_key_that_comes_twice_in_cbor_is_refused() -> None:
    with pytest.raises(DecodeError):
        codecs.body(Number).decoder(CBOR)(b"\xa2\x65value\x01\x65value\x02")


def test_what_only_mongodb_has_is_read_as_what_others_have() -> None:
    number = bson.ObjectId()
    for value, read in (
        (number, str(number)),
        (bson.Decimal128("12.340"), Decimal("12.340")),
        ({"$ref": "a", "$id": "b", "more": 1}, {"$ref": "a", "$id": "b", "more": 1}),
    ):
        assert codecs.body(Holder).decoder(BSON)(bson.encode({"value": value})).value == read


MAPPINGS: list[tuple[Any, bool]] = [
    (Number, True),
    (dict[str, int], True),
    (Number | Odd, True),
    (Number | None, False),
    (list[Number], False),
    (int, False),
    (Any, False),
]


@pytest.mark.parametrize(("kind", "travels"), MAPPINGS, ids=str)
def test_only_what_is_a_mapping_travels_in_bson(kind: Any, travels: bool) -> None:
    assert (codecs.body(kind).encoder(BSON) is not None) is travels
