"""codecs: each ready-made one, the choice among them, and what they refuse."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs import Codecs
from eventmicro.codecs.json import JsonCodec
from eventmicro.codecs.protobuf import ProtobufCodec, ProtobufJsonCodec, is_protobuf
from eventmicro.codecs.raw import RawCodec
from eventmicro.errors import DecodeError, EncodeError, UnsupportedMediaType, UsageError
from eventmicro.wire import BSON, CBOR, JSON, MSGPACK, OCTET_STREAM, PROTOBUF


class Item(BaseModel):
    sku: str
    count: int = 1


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str


class BigItem(Item):
    weight: float = 0.0


class Node(BaseModel):
    child: Node | None = None


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    name: str


def protobuf_message() -> Any:
    """A message class as `protoc` would generate it, made at run time."""
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    item = file.message_type.add(name="Item")
    kinds = descriptor_pb2.FieldDescriptorProto
    item.field.add(name="sku", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    item.field.add(name="unit_count", number=2, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    item.field.add(name="part", number=3, type=kinds.TYPE_MESSAGE, type_name=".shop.Item", label=kinds.LABEL_OPTIONAL)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Item"))


ProtoItem = protobuf_message()

JSON_VALUES: list[tuple[Any, Any, bytes]] = [
    (Item, Item(sku="a"), b'{"sku":"a","count":1}'),
    (Point, Point(1, 2), b'{"x":1,"y":2}'),
    (Row, {"name": "a"}, b'{"name":"a"}'),
    (list[Item], [Item(sku="a", count=2)], b'[{"sku":"a","count":2}]'),
    (dict[str, int], {"a": 1}, b'{"a":1}'),
    (Item | None, None, b"null"),
    (Item | int, 7, b"7"),
    (Literal["a", "b"], "b", b'"b"'),
    (Annotated[int, Field(gt=3)], 4, b"4"),
    (str, "größer", '"größer"'.encode()),
    (int, 7, b"7"),
    (float, 0.5, b"0.5"),
    (bool, True, b"true"),
    (Any, {"a": [1, None]}, b'{"a":[1,null]}'),
]


@pytest.mark.parametrize(("kind", "value", "body"), JSON_VALUES, ids=[str(k)[:40] for k, _, _ in JSON_VALUES])
def test_json_takes_whatever_pydantic_knows(kind: Any, value: Any, body: bytes) -> None:
    made = Codecs().body(kind)
    assert made.content_type == JSON
    assert made.encode(value) == body
    assert made.decode(body) == value


WRONG_VALUES: list[Any] = [
    (Item, Point(1)),  # another record
    (Item, {"sku": "a"}),  # a dict is no Item
    (Item, None),
    (BigItem, Item(sku="a")),  # a base class has less
    (Point, (1, 2)),
    (list[Item], [{"sku": "a"}]),
    (list[int], ["7"]),  # no conversion on the way out
    (list[int], (7,)),
    (dict[str, int], {"a": "7"}),
    (int, "7"),
    (int, True),
    (str, b"a"),
    (Item | None, 7),
    (Literal["a"], "b"),
    (Annotated[int, Field(gt=3)], "4"),
    (bytes, "text"),
    (bytes, None),
    (None, 7),
    (ProtoItem, Item(sku="a")),
    (ProtoItem, None),
]


@pytest.mark.parametrize(("kind", "value"), WRONG_VALUES)
def test_a_value_of_another_type_is_refused_before_it_is_sent(kind: Any, value: Any) -> None:
    with pytest.raises(EncodeError):
        Codecs().body(kind).encode(value)


def test_an_object_of_a_subclass_travels_with_all_its_fields() -> None:
    written = json.loads(Codecs().body(Item).encode(BigItem(sku="a", weight=2.0)))
    assert written == {"sku": "a", "count": 1, "weight": 2.0}


def test_a_model_whose_field_was_set_to_another_type_is_refused() -> None:
    with pytest.raises(EncodeError):
        Codecs().body(Item).encode(Item.model_construct(sku="a", count="many"))


@pytest.mark.parametrize("content_type", [JSON, MSGPACK, CBOR, BSON])
@pytest.mark.parametrize("wrong", [{"card": "4111"}, ["4111, input_type=int])\n  PydanticSerialization"]], ids=type)
def test_which_field_is_of_another_type_is_told_without_its_value(content_type: str, wrong: Any) -> None:
    encode = Codecs().body(Item).encoder(content_type)
    assert encode is not None
    item = Item.model_construct(sku=wrong, count="4111")
    with pytest.raises(EncodeError) as refused:
        encode(item)
    assert str(refused.value).endswith(f": its field 'sku' is of another type: {type(wrong).__name__}")
    assert "4111" not in "".join(traceback.format_exception(refused.value))


def test_a_dict_in_the_place_of_a_model_within_is_told_without_its_value() -> None:
    with pytest.raises(EncodeError, match=r"as JSON: what is in it is of another type: dict$"):
        Codecs().body(list[Item]).encode([{"sku": "4111"}])


def test_a_value_that_contains_itself_is_refused() -> None:
    node = Node()
    node.child = node
    with pytest.raises(EncodeError, match="Node cannot be written as JSON"):
        Codecs().body(Node).encode(node)


WRONG_BODIES: list[tuple[Any, bytes, list[tuple[list[Any], str]]]] = [
    (Item, b"{}", [(["sku"], "missing")]),
    (Item, b'{"sku": 5, "count": "x"}', [(["sku"], "string_type"), (["count"], "int_parsing")]),
    (list[Item], b'[{"sku": "a"}, {}]', [([1, "sku"], "missing")]),
    (Strict, b'{"sku": "a", "x": 1}', [(["x"], "extra_forbidden")]),
    (Item, b"", [([], "json_invalid")]),
    (Item, b"{", [([], "json_invalid")]),
    (Item, b"\xff", [([], "json_invalid")]),
    (Item, b"[" * 10_000, [([], "json_invalid")]),
    (Item, b"null", [([], "model_type")]),
    (int, b"9" * 5_000, [([], "json_invalid")]),
    (int, b'"' + b"9" * 5_000 + b'"', [([], "int_parsing_size")]),
    (int, b"1e999", [([], "finite_number")]),
]


@pytest.mark.parametrize(
    ("kind", "body", "wrong"), WRONG_BODIES, ids=[f"{k.__name__}-{b[:30]!r}" for k, b, _ in WRONG_BODIES]
)
def test_a_wrong_body_is_told_field_by_field(kind: Any, body: bytes, wrong: list[tuple[list[Any], str]]) -> None:
    with pytest.raises(DecodeError, match="not a valid") as caught:
        Codecs().body(kind).decode(body)
    assert [(e["loc"], e["type"]) for e in caught.value.errors] == wrong
    for entry in caught.value.errors:
        assert set(entry) == {"loc", "msg", "type"}


SECRETS = [
    (Item, b'{"sku": {"hunter2": 1}, "count": "hunter2"}'),
    (int, b'"hunter2"'),
    (Item, b'{"sku": hunter2}'),
    (ProtoItem, b'{"sku": {"hunter2": 1}}'),
    (ProtoItem, b'{"unitCount": "hunter2"}'),
    (ProtoItem, b'{"hunter2": 1}'),
]


WRONG_FIELDS = [
    (b'{"unitCount": "x"}', ["unitCount"], "Not a value of this field"),
    (b'{"part": {"part": {"sku": 1}}}', ["part", "part", "sku"], "Not a value of this field"),
    (b'{"skuu": "a"}', [], "A field that it does not have; it has sku, unitCount, part"),
    (b'{"part": {"skuu": "a"}}', ["part"], "A field that it does not have; it has sku, unitCount, part"),
]


@pytest.mark.parametrize(("body", "loc", "message"), WRONG_FIELDS)
def test_a_wrong_field_of_protobufs_json_is_named(body: bytes, loc: list[str], message: str) -> None:
    with pytest.raises(DecodeError, match=r"^not a valid Item in protobuf's JSON mapping$") as caught:
        Codecs().body(ProtoItem).decoder(JSON)(body)
    assert [(error["loc"], error["msg"]) for error in caught.value.errors] == [(loc, message)]


@pytest.mark.parametrize(("kind", "body"), SECRETS)
def test_what_is_told_of_a_wrong_body_does_not_repeat_it(kind: Any, body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        Codecs().body(kind).decoder(JSON)(body)
    assert "hunter2" not in f"{caught.value} {caught.value.errors}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_body_with_very_many_wrong_fields_is_told_by_count() -> None:
    decode = Codecs().body(list[int]).decode
    with pytest.raises(DecodeError) as fifty:
        decode(json.dumps(["x"] * 50).encode())
    assert len(fifty.value.errors) == 50
    with pytest.raises(DecodeError, match="51 errors") as more:
        decode(json.dumps(["x"] * 51).encode())
    assert more.value.errors == ()


def test_raw_carries_bytes_as_they_are_and_none_as_nothing() -> None:
    raw, none = Codecs().body(bytes), Codecs().body(None)
    assert raw.content_type == none.content_type == OCTET_STREAM
    assert raw.decode(raw.encode(b"\x00\xff")) == b"\x00\xff"
    assert raw.encode(bytearray(b"a")) == raw.encode(memoryview(b"a")) == b"a"
    assert none.encode(None) == b""
    none.decode(b"")
    none.decode(b"null")  # how other languages write it
    with pytest.raises(DecodeError, match="2 bytes where none are expected"):
        none.decode(b"{}")
    assert Codecs().body(type(None)).encode(None) == b""


def test_bytes_are_taken_whatever_content_type_a_message_names() -> None:
    assert Codecs().body(bytes).decoder("image/png")(b"\x89PNG") == b"\x89PNG"


def test_protobuf_travels_in_its_own_format_and_on_request_as_json() -> None:
    body = Codecs().body(ProtoItem)
    item = ProtoItem(sku="a", unit_count=2)
    assert body.content_type == PROTOBUF
    assert body.encode(item) == item.SerializeToString() == b"\x0a\x01a\x10\x02"
    assert body.decoder(PROTOBUF)(b"\x0a\x01a\x10\x02") == item
    as_json = body.encoder(JSON)
    assert as_json is not None
    assert json.loads(as_json(item)) == {"sku": "a", "unitCount": 2}
    assert body.decoder(JSON)(b'{"sku":"a","unit_count":2}') == item


def test_protobuf_is_named_on_the_wire_and_what_is_not_named_is_json() -> None:
    body = Codecs().body(ProtoItem)
    assert body.announced
    assert body.decode(b'{"sku":"a"}') == ProtoItem(sku="a")
    assert json.loads(body.answer(ProtoItem(sku="a"))) == {"sku": "a"}
    assert [Codecs().body(kind).announced for kind in (Item, bytes, None)] == [False] * 3


WRONG_PROTOBUF = [
    (PROTOBUF, b"\x0a"),  # ends within a field
    (PROTOBUF, b"\xff" * 20),
    (PROTOBUF, b"\x0a\x02\xff\xfe"),  # a string that is no UTF-8
    (JSON, b""),
    (JSON, b"5"),
    (JSON, b"null"),
    (JSON, b"\xff"),
    (JSON, b'{"unitCount": 1e99}'),
    (JSON, b'{"unitCount": ' + b"9" * 5_000 + b"}"),
    (JSON, b'{"part":' * 5_000),
    (JSON, b'{"part":' * 500 + b"{}" + b"}" * 500),
    (JSON, b"[" * 100_000),
]


@pytest.mark.parametrize(("content_type", "body"), WRONG_PROTOBUF, ids=[f"{c}-{b[:20]!r}" for c, b in WRONG_PROTOBUF])
def test_a_wrong_protobuf_body_is_a_decode_error_and_nothing_else(content_type: str, body: bytes) -> None:
    with pytest.raises(DecodeError, match="not a valid Item"):
        Codecs().body(ProtoItem).decoder(content_type)(body)


def test_only_generated_classes_are_protobuf() -> None:
    assert is_protobuf(ProtoItem)
    assert not is_protobuf(Item)
    assert not is_protobuf(ProtoItem())
    assert not is_protobuf(list[int])


DEFAULTS = [
    (Item, JSON),
    (ProtoItem, PROTOBUF),
    (bytes, OCTET_STREAM),
    (None, OCTET_STREAM),
    (type(None), OCTET_STREAM),
]


@pytest.mark.parametrize(("kind", "content_type"), DEFAULTS)
def test_the_type_chooses_the_content_type(kind: Any, content_type: str) -> None:
    assert Codecs().body(kind).content_type == content_type


def test_a_content_type_in_which_the_type_does_not_travel_is_refused_with_those_in_which_it_does() -> None:
    body = Codecs().body(ProtoItem)
    with pytest.raises(UnsupportedMediaType, match="'text/xml' is not taken here; taken: application/protobuf, applic"):
        body.decoder("text/xml")
    assert body.encoder("text/xml") is None
    with pytest.raises(UnsupportedMediaType) as caught:
        body.decoder("x" * 10_000)
    assert len(caught.value.detail) < 250


def test_a_type_is_compiled_once_and_one_that_cannot_be_hashed_each_time() -> None:
    codecs = Codecs()
    assert codecs.body(Item) is codecs.body(Item)
    unhashable: Any = Annotated[int, ["not", "hashable"]]
    assert codecs.body(unhashable).decode(b"7") == 7
    assert codecs.body(unhashable) is not codecs.body(unhashable)


class Opaque:
    """Nothing pydantic knows."""


@pytest.mark.parametrize("kind", [Opaque, list[Opaque], 7])
def test_a_type_that_cannot_be_a_message_is_a_usage_error(kind: Any) -> None:
    with pytest.raises(UsageError, match="cannot be a message"):
        Codecs().body(kind)


class Shouting:
    """A codec of a user's own: text in capitals."""

    content_type = "text/shout"

    def handles(self, kind: Any) -> bool:
        return kind is str

    def encoder(self, kind: Any) -> Encoder:
        return lambda value: value.upper().encode()

    def decoder(self, kind: Any) -> Decoder:
        return lambda body: body.decode().lower()


def test_a_codec_of_ones_own_goes_first_and_the_ready_made_ones_stay() -> None:
    body = Codecs([Shouting()]).body(str)
    assert body.content_type == "text/shout"
    assert body.encode("hey") == b"HEY"
    assert body.decoder(JSON)(b'"hey"') == "hey"
    assert Codecs([Shouting()]).body(int).content_type == JSON


def test_the_ready_made_codecs_say_what_they_handle() -> None:
    assert [c().handles(bytes) for c in (RawCodec, ProtobufCodec, ProtobufJsonCodec, JsonCodec)] == [
        True,
        False,
        False,
        False,
    ]
    assert [c().handles(ProtoItem) for c in (RawCodec, ProtobufCodec, ProtobufJsonCodec)] == [False, True, True]
