"""Values on their way: subclasses, values of another class with the same name, bytes that are no base64."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from pydantic import BaseModel, Field

from eventmicro import Service
from eventmicro.codecs import Codecs
from eventmicro.errors import DecodeError, EncodeError, UsageError


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str


@dataclass
class Place:
    city: str


@dataclass
class Address(Place):
    street: str


@pytest.mark.parametrize("content_type", ["application/json", "application/msgpack", "application/cbor"])
@pytest.mark.parametrize(
    ("kind", "value", "fields"),
    [
        (Animal, Dog(name="Rex", breed="pug"), {"name": "Rex", "breed": "pug"}),
        (Place, Address("Rome", "Via Appia"), {"city": "Rome", "street": "Via Appia"}),
        (Animal, Animal(name="Rex"), {"name": "Rex"}),
    ],
)
def test_all_fields_of_a_subclass_travel(kind: Any, value: Any, fields: dict[str, str], content_type: str) -> None:
    codecs = Codecs()
    encode = codecs.body(kind).encoder(content_type)
    assert encode is not None
    assert codecs.body(dict[str, str]).decoder(content_type)(encode(value)) == fields
    assert codecs.body(kind).decoder(content_type)(encode(value)).__class__ is kind


def test_a_value_of_another_class_of_the_same_name_is_told_in_full() -> None:
    other = type("Animal", (BaseModel,), {"__module__": "zoo.models", "__annotations__": {"name": str}})
    here = rf"expected {Animal.__module__}\.Animal, got zoo\.models\.Animal"
    with pytest.raises(EncodeError, match=here):
        Codecs().body(Animal).encode(other(name="Rex"))
    with pytest.raises(EncodeError, match=r"^expected Animal, got Place$"):
        Codecs().body(Animal).encode(Place("Rome"))


class Zoo(BaseModel):
    name: str = "Rome"
    head: Animal | None = None
    animals: list[Animal] = []
    by_name: dict[str, Animal] = {}


class Weighed(Animal):
    kilos: float


REX = Dog(name="Rex", breed="pug")
WITHIN: list[tuple[Any, Any, Any]] = [
    (Zoo, Zoo(animals=[REX, Animal(name="Tom")]), {"animals": [{"name": "Rex", "breed": "pug"}, {"name": "Tom"}]}),
    (Zoo, Zoo(head=REX), {"head": {"name": "Rex", "breed": "pug"}}),
    (Zoo, Zoo(by_name={"r": REX}), {"by_name": {"r": {"name": "Rex", "breed": "pug"}}}),
    (list[Animal], [REX], [{"name": "Rex", "breed": "pug"}]),
    (Animal | None, REX, {"name": "Rex", "breed": "pug"}),
]


@pytest.mark.parametrize("content_type", ["application/json", "application/msgpack", "application/cbor"])
@pytest.mark.parametrize(("kind", "value", "written"), WITHIN)
def test_all_fields_of_a_subclass_travel_within_a_value(kind: Any, value: Any, written: Any, content_type: str) -> None:
    codecs = Codecs()
    encode = codecs.body(kind).encoder(content_type)
    assert encode is not None
    for _ in range(2):  # what is found out with the first holds for all
        body = codecs.body(Any).decoder(content_type)(encode(value))
        assert body == written or {name: body[name] for name in written} == written
    assert codecs.body(kind).decoder(content_type)(encode(value)) is not None


def test_a_number_of_a_subclass_that_json_has_not_is_refused() -> None:
    body = Codecs().body(Zoo)
    with pytest.raises(EncodeError, match=r"Zoo: animals\[0\]\.kilos is nan"):
        body.encode(Zoo(animals=[Weighed(name="Bo", kilos=float("nan"))]))
    assert b'"kilos":1.5' in body.encode(Zoo(animals=[Weighed(name="Bo", kilos=1.5)]))


class Map(BaseModel):
    places: list[Place | None] = []


class BothPlaces(BaseModel):
    places: list[Address | Place] = []


@pytest.mark.parametrize("content_type", ["application/json", "application/msgpack"])
def test_a_dataclass_within_a_value_that_would_lose_fields_is_refused_with_the_mend(content_type: str) -> None:
    encode = Codecs().body(Map).encoder(content_type)
    assert encode is not None
    assert b"Rome" in encode(Map(places=[Place("Rome")]))
    with pytest.raises(EncodeError, match=r"Map has a Place that is a Address, .* let the field .* Place \| Address"):
        encode(Map(places=[None, Address("Rome", "Via Appia")]))
    assert b"Appia" in Codecs().body(BothPlaces).encode(BothPlaces(places=[Address("Rome", "Via Appia")]))


HERE = __name__.replace(".", r"\.")
WRONG: list[tuple[Any, Any, str]] = [
    (list[Animal], "hunter2", rf"expected list\[{HERE}\.Animal\], got str"),
    (list[Animal], [REX, Place("hunter2")], rf"got list, with {HERE}\.Place at \[1\]"),
    (dict[str, Animal], {"a": "hunter2"}, rf"expected dict\[str, {HERE}\.Animal\], got dict, with str at \['a'\]"),
    (Animal | Place, "hunter2", rf"expected {HERE}\.Animal \| {HERE}\.Place, got str"),
    (int, "hunter2", "expected int, got str"),
    (int | None, "hunter2", r"expected int \| None, got str"),
    (str, b"hunter2", "expected str, got bytes"),
    (
        Annotated[str, Field(max_length=3)],
        "hunter2",
        "expected str, got str, which is not taken there: string_too_long",
    ),
]


@pytest.mark.parametrize(("kind", "value", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_a_value_of_another_type_is_told_by_both_types_and_never_quoted(kind: Any, value: Any, told: str) -> None:
    with pytest.raises(EncodeError, match=f"{told}$") as caught:
        Codecs().body(kind).encode(value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["!!!!", "YWJ", "YWJj", "YQ==", "_-8=", ""])
def test_a_field_of_bytes_that_is_base64_or_is_not(text: str) -> None:
    decode = Codecs().body(wrappers_pb2.BytesValue).decode
    if text == "!!!!":
        with pytest.raises(DecodeError) as caught:
            decode(json.dumps(text).encode())
        assert caught.value.errors[0]["msg"] == "Not base64"
    else:
        assert isinstance(decode(json.dumps(text).encode()).value, bytes)


def photo() -> Any:
    """A message with bytes in each place where they may be."""
    bytes_, message, one, many = 12, 11, 1, 3
    file = descriptor_pb2.FileDescriptorProto(name="values_photo.proto", package="values", syntax="proto3")
    whole = file.message_type.add(name="Photo")
    whole.field.add(name="raw_data", json_name="rawData", number=1, type=bytes_, label=one)
    whole.field.add(name="parts", json_name="parts", number=2, type=bytes_, label=many)
    whole.field.add(name="within", json_name="within", number=3, type=message, label=one, type_name=".values.Photo")
    whole.field.add(name="by_name", json_name="byName", number=4, type=message, label=many, type_name=".values.Photo.E")
    entry = whole.nested_type.add(name="E")
    entry.options.map_entry = True
    entry.field.add(name="key", json_name="key", number=1, type=9, label=one)
    entry.field.add(name="value", json_name="value", number=2, type=bytes_, label=one)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("values.Photo"))


NO_BASE64 = [
    ({"rawData": "not base64!"}, ["rawData"]),
    ({"raw_data": "A"}, ["raw_data"]),
    ({"parts": ["YQ==", "é"]}, ["parts", 1]),
    ({"within": {"within": {"rawData": "?"}}}, ["within", "within", "rawData"]),
    ({"byName": {"a": "YQ", "b": " "}}, ["byName", "b"]),
]


@pytest.mark.parametrize(("form", "at"), NO_BASE64)
def test_bytes_that_are_no_base64_are_a_wrong_request_wherever_they_are(form: Any, at: list[str]) -> None:
    decode = Codecs().body(photo()).decoder("application/json")
    with pytest.raises(DecodeError) as caught:
        decode(json.dumps(form).encode())
    assert [(error["loc"], error["msg"]) for error in caught.value.errors] == [(at, "Not base64")]
    fine = {"rawData": "YQ", "parts": ["YQ=="], "within": {"rawData": "_-8"}, "byName": {"a": "YWJj"}}
    assert decode(json.dumps(fine).encode()).within.raw_data == b"\xff\xef"


class Order(BaseModel):
    price: Price  # type: ignore[name-defined]  # noqa: F821  that is what is tried


class Page(BaseModel):
    orders: list[Order]


@pytest.mark.parametrize("kind", [Order, Page, list[Order], Order | None])
def test_a_model_that_is_not_complete_is_told_by_the_missing_name_and_the_handler(kind: Any) -> None:
    service = Service("shop")

    async def quote(request: Any) -> None: ...

    quote.__annotations__["request"] = kind
    with pytest.raises(UsageError, match=r"^endpoint quote: .* cannot be a message: .* names 'Price', which is not"):
        service.rpc(quote)
    with pytest.raises(UsageError, match=r"^subscriber quote: .* names 'Price'"):
        service.subscribe("shop.quotes")(quote)
