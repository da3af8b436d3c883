"""Structs and attrs classes as messages: what is wrong with them, and what is written of them."""

from __future__ import annotations

import datetime as dt
import enum
import json
from math import inf, nan
from typing import Annotated, Any, Generic, Literal, TypeVar

import attrs
import msgspec
import pytest
from pydantic import BaseModel

from eventmicro.codecs import Codecs
from eventmicro.codecs.structs import handles_by_msgspec
from eventmicro.errors import DecodeError, EncodeError, UsageError
from eventmicro.running.recording import schema_of
from eventmicro.wire import JSON

T = TypeVar("T")


class Line(msgspec.Struct):
    sku: str
    count: int = 1


class Order(msgspec.Struct, rename="camel"):
    order_id: str
    lines: list[Line] = []
    weight: float | None = None
    next_order: Order | None = None


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["a", "b"] = "a"


class Colour(enum.Enum):
    RED = "red"


class Painted(msgspec.Struct):
    colour: Colour


class Item(BaseModel):
    sku: str


class Mixed(msgspec.Struct):
    item: Item


class Box(msgspec.Struct, Generic[T]):
    inside: T


@attrs.define
class Parcel:
    weight: float = attrs.field(validator=attrs.validators.ge(0))
    line: Line | None = None


KINDS = [
    (Line, True),
    (Parcel, True),
    (list[Line], True),
    (dict[str, list[Parcel]], True),
    (Line | None, True),
    (Item, False),
    (list[Item], False),
    (int, False),
    (Line("a"), False),
    (msgspec.Struct, True),
    (Box[int], True),
    (Literal["a"], False),
]


@pytest.mark.parametrize(("kind", "handled"), KINDS, ids=[str(k)[:40] for k, _ in KINDS])
def test_msgspec_is_asked_for_what_holds_one(kind: Any, handled: bool) -> None:
    assert handles_by_msgspec(kind) is handled


WRONG: list[tuple[Any, bytes, list[Any], str, str]] = [
    (Line, b"{}", ["sku"], "missing", "Field required"),
    (Line, b'{"sku":5}', ["sku"], "invalid", "Expected `str`, got `int`"),
    (Order, b'{"orderId":"7","lines":[{"sku":"a"},{}]}', ["lines", "*", "sku"], "missing", "Field required"),
    (Order, b'{"orderId":"7","lines":[{"sku":"a","count":"x"}]}', ["lines", 0, "count"], "invalid", "Expected"),
    (list[Line], b'[{"sku":1}]', [0, "sku"], "invalid", "Expected `str`, got `int`"),
    (Strict, b'{"hunter2":1}', [], "extra_forbidden", "Object contains unknown field"),
    (Strict, b'{"kind":"hunter2"}', ["kind"], "invalid", "Invalid enum value"),
    (Painted, b'{"colour":"hunter2"}', ["colour"], "invalid", "Invalid enum value"),
    (Parcel, b'{"weight":"hunter2"}', ["weight"], "invalid", "Expected `float`, got `str`"),
    (Parcel, b'{"weight":-1}', [], "invalid", "'weight' must be >= 0"),
]


@pytest.mark.parametrize(("kind", "body", "loc", "type_", "msg"), WRONG, ids=[w[1].decode()[:30] for w in WRONG])
def test_what_is_wrong_is_told_by_its_field(kind: Any, body: bytes, loc: list[Any], type_: str, msg: str) -> None:
    codecs = Codecs()
    for content_type in (JSON, "application/msgpack", "application/cbor"):
        written = codecs.body(Any).encoder(content_type)
        assert written is not None
        with pytest.raises(DecodeError, match="not a valid") as caught:
            codecs.body(kind).decoder(content_type)(written(json.loads(body)))
        (error,) = caught.value.errors
        assert error["type"] == type_
        assert error["msg"].startswith(msg)
        assert [part if isinstance(part, str) else 0 for part in error["loc"]] == loc or "*" in loc
        assert "hunter2" not in f"{caught.value} {error}"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"sku":"a"} x', b"1" * 5000, b'"\xff"'])
def test_what_is_no_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError, match="not a valid Line"):
        Codecs().body(Line).decode(body)


def test_a_generic_struct_is_read_as_what_it_holds() -> None:
    body = Codecs().body(Box[int])
    assert body.decode(body.encode(Box(7))) == Box(7)
    with pytest.raises(DecodeError):
        body.decode(b'{"inside":"x"}')


def test_names_are_written_as_the_class_says_and_nothing_stands_for_none() -> None:
    body = Codecs().body(Order)
    assert body.encode(Order("7", [Line("a")])) == (
        b'{"orderId":"7","lines":[{"sku":"a","count":1}],"weight":null,"nextOrder":null}'
    )
    assert (body.content_type, body.announced) == (JSON, False)
    assert Codecs().body(Line | None).decode(b"") is None
    assert Codecs().body(Line | None).decode(b"null") is None
    with pytest.raises(DecodeError):
        Codecs().body(Line).decode(b"")


@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_a_number_that_json_does_not_have_is_refused_by_its_field(number: float) -> None:
    with pytest.raises(EncodeError, match=rf"Order: nextOrder.weight is {number}, and JSON has no such number"):
        Codecs().body(Order).encode(Order("7", next_order=Order("8", weight=number)))
    with pytest.raises(EncodeError, match=r"list\[Parcel\]: \[1\].weight is"):
        Codecs().body(list[Parcel]).encode([Parcel(1.0), Parcel(inf)])


WRONG_VALUES: list[tuple[Any, Any]] = [
    (Line, Parcel(1.0)),
    (Line, {"sku": "a"}),
    (Line, None),
    (list[Line], [{"sku": 5}]),
    (list[Line], [Parcel(1.0)]),
    (dict[str, Line], {"a": 7}),
    (Line | None, 7),
    (Parcel, Line("a")),
]


@pytest.mark.parametrize(("kind", "value"), WRONG_VALUES)
def test_a_value_of_another_type_is_refused_before_it_is_sent(kind: Any, value: Any) -> None:
    body = Codecs().body(kind)
    for content_type in (JSON, "application/msgpack", "application/cbor"):
        encode = body.encoder(content_type)
        assert encode is not None
        with pytest.raises(EncodeError):
            encode(value)


def test_a_struct_of_what_msgspec_does_not_know_is_refused_when_it_is_declared() -> None:
    with pytest.raises(UsageError, match="Mixed cannot be a message: msgspec does not know Item"):
        Codecs().body(Mixed)


class Leg(msgspec.Struct, tag="leg"):
    times: list[dt.time]
    back: Journey | None = None


class Wait(msgspec.Struct, tag="wait"):
    until: dict[str, dt.datetime]


@attrs.define
class Seat:
    free: None | dt.datetime  # noqa: RUF036


class Journey(msgspec.Struct, rename="camel"):
    starts_at: dt.datetime
    ends_at: dt.datetime | None
    noted: Annotated[dt.datetime, msgspec.Meta(description="by hand")]
    parts: list[Leg | Wait | None]
    seat: Seat
    title: str = ""


def test_moments_and_times_are_said_to_be_that_where_msgspec_leaves_their_zone_open() -> None:
    schema = schema_of(Journey, "validation")
    assert schema is not None
    moment, time = {"type": "string", "format": "date-time"}, {"type": "string", "format": "time"}
    named = {name: definition["properties"] for name, definition in schema["$defs"].items()}
    journey = named["Journey"]
    assert (journey["startsAt"], journey["endsAt"]) == (moment, {"anyOf": [moment, {"type": "null"}]})
    assert journey["noted"] == {**moment, "description": "by hand"}
    assert journey["title"] == {"type": "string", "default": ""}
    assert named["Leg"]["times"]["items"] == time
    assert named["Wait"]["until"]["additionalProperties"] == moment
    assert moment in named["Seat"]["free"]["anyOf"]


def test_their_schemas_are_in_the_registry_as_msgspec_gives_them() -> None:
    schema = schema_of(Order, "validation")
    assert schema is not None
    assert schema["$defs"]["Order"]["required"] == ["orderId"]
    parcel = schema_of(Parcel, "serialization")
    assert parcel is not None
    assert parcel["$defs"]["Parcel"]["properties"]["weight"]["type"] == "number"
    assert schema_of(Mixed, "validation") is None
