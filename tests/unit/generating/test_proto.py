"""A contract as a `.proto` file: protoc takes it, and gives back what the contract was made from."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from pydantic import AwareDatetime, BaseModel, Field

from eventmicro import Contract, UsageError, rpc
from eventmicro.generating.proto import write_proto
from eventmicro.generating.protoc import generate
from tests.unit.generating.kit import descriptors, importable, write

pytest.importorskip("grpc_tools")

MESSAGES = """
syntax = "proto3";
package back_shop.v1;
import "google/protobuf/timestamp.proto";
message Quote { message Part { string sku = 1; } repeated Part parts = 1; google.protobuf.Timestamp at = 2; }
message Watch { optional string sku = 1; }
"""
SERVICE = """syntax = "proto3";

package back_shop.v1;

import "back_shop/v1/messages.proto";
import "eventmicro_schemas/v1/options.proto";
import "google/protobuf/empty.proto";

// What the shop answers to.
//
// In two parts.
service Quotes {
  option (eventmicro.v1.service) = {name: "back-quotes" version: "1.2.0"};

  // A quote,
  //   in detail,
  // and in words.
  rpc Quote(.back_shop.v1.Watch) returns (.back_shop.v1.Quote) {
    option (eventmicro.v1.method) = {timeout: 2.5};
    option idempotency_level = IDEMPOTENT;
  }

  rpc GetParts(.back_shop.v1.Watch) returns (stream .back_shop.v1.Quote.Part);

  rpc Total(stream .back_shop.v1.Quote.Part) returns (.back_shop.v1.Quote) {
    option (eventmicro.v1.method) = {name: "sum-up"};
  }

  rpc Talk(stream .back_shop.v1.Watch) returns (stream .back_shop.v1.Watch);

  rpc Ping(.google.protobuf.Empty) returns (.google.protobuf.Empty);
}
"""


def test_a_proto_file_comes_back_as_it_was_by_way_of_its_contract(tmp_path: Path) -> None:
    files = write(tmp_path, {"back_shop/v1/messages.proto": MESSAGES, "back_shop/v1/quotes.proto": SERVICE})
    before = descriptors(tmp_path, "back_shop/v1/quotes.proto")
    generate(files, tmp_path / "out", [tmp_path])
    with importable(tmp_path / "out", "back_shop.v1.quotes_contracts") as (contracts,):
        text = write_proto(contracts.Quotes)
    assert text == SERVICE
    files[1].write_text(text)
    assert descriptors(tmp_path, "back_shop/v1/quotes.proto") == before


class Color(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark_blue"


class Light(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 7


class Node(BaseModel):
    """A node.

    Of a tree.
    """

    name: str = Field(description="what it\nis called", max_length=10)
    children: list[Node] = []
    parent: Node | None = None


class Orders(BaseModel):
    """Named as the contract below."""

    id: uuid.UUID
    at: dt.datetime
    aware: AwareDatetime | None = None
    day: dt.date
    price: decimal.Decimal
    raw: bytes
    ok: bool = False
    ratio: Annotated[float, Field(gt=0)]
    count: int | None = None
    color: Color = Color.RED
    light: Light | None = None
    level: Level
    levels: list[Level] = []
    tree: Node
    nodes: dict[str, Node]
    numbers: tuple[int, ...]
    seen: set[str]
    anything: Any = None
    extra: dict[str, Any] = {}
    word: Literal["a", "b"] = "a"
    klass: str = Field(alias="class")
    two_words: str


class Kinds(Contract, Protocol, service="kinds", version="2.0.0"):
    """All kinds."""

    @rpc(timeout=2.0, idempotent=True)
    async def all_kinds(self, request: Orders) -> Node: ...
    @rpc(name="no-op")
    async def ping(self) -> None: ...
    def watch(self, request: str) -> AsyncIterator[int]: ...
    async def total(self, items: AsyncIterator[bytes]) -> float: ...
    def talk(self, lines: AsyncIterator[Node]) -> AsyncIterator[Orders]: ...


KINDS = """syntax = "proto3";

package kinds;

import "eventmicro_schemas/v1/options.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

// All kinds.
service Kinds {
  option (eventmicro.v1.service) = {version: "2.0.0"};

  rpc AllKinds(.kinds.Orders) returns (.kinds.Node) {
    option (eventmicro.v1.method) = {timeout: 2.0};
    option idempotency_level = IDEMPOTENT;
  }

  rpc Ping(.google.protobuf.Empty) returns (.google.protobuf.Empty) {
    option (eventmicro.v1.method) = {name: "no-op"};
  }

  rpc Watch(.google.protobuf.StringValue) returns (stream .google.protobuf.Int64Value);

  rpc Total(stream .google.protobuf.BytesValue) returns (.google.protobuf.DoubleValue);

  rpc Talk(stream .kinds.Node) returns (stream .kinds.Orders);
}

// Named as the contract below.
message Orders {
  string id = 1;
  .google.protobuf.Timestamp at = 2;
  .google.protobuf.Timestamp aware = 3;
  string day = 4;
  string price = 5;
  bytes raw = 6;
  optional bool ok = 7;
  double ratio = 8;
  optional int64 count = 9;
  optional .kinds.Color color = 10;
  optional .kinds.LightScope.Light light = 11;
  .kinds.Level level = 12;
  repeated .kinds.Level levels = 13;
  .kinds.Node tree = 14;
  map<string, .kinds.Node> nodes = 15;
  repeated int64 numbers = 16;
  repeated string seen = 17;
  .google.protobuf.Value anything = 18;
  .google.protobuf.Struct extra = 19;
  optional string word = 20;
  string klass = 21 [json_name = "class"];
  string two_words = 22 [json_name = "two_words"];
}

enum Color {
  COLOR_UNSPECIFIED = 0;
  red = 1;
  dark_blue = 2;
}

message LightScope {
  enum Light {
    LIGHT_UNSPECIFIED = 0;
    red = 1;
    green = 2;
  }
}

enum Level {
  LEVEL_UNSPECIFIED = 0;
  LEVEL_LOW = 1;
  LEVEL_HIGH = 7;
}

// A node.
//
// Of a tree.
message Node {
  // what it
  // is called
  string name = 1;
  repeated .kinds.Node children = 2;
  .kinds.Node parent = 3;
}
"""


def test_models_become_messages_field_by_field() -> None:
    assert write_proto(Kinds) == KINDS


def test_protoc_takes_it_and_its_messages_read_the_json_of_the_models(tmp_path: Path) -> None:
    write(tmp_path, {"kinds.proto": write_proto(Kinds)})
    pool = DescriptorPool()
    for file in descriptors(tmp_path, "kinds.proto").values():
        pool.Add(file)  # type: ignore[no-untyped-call, unused-ignore]
    orders = message_factory.GetMessageClass(pool.FindMessageTypeByName("kinds.Orders"))
    model = Orders.model_validate(
        {"class": "c", "id": uuid.UUID(int=7), "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "day": dt.date(2026, 1, 2)}
        | {"price": "1.50", "raw": b"aGk=", "ratio": 0.5, "level": Level.HIGH, "tree": Node(name="n"), "two_words": "w"}
        | {
            "nodes": {"a": Node(name="a")},
            "numbers": (1, 2),
            "seen": {"x"},
            "color": Color.DARK_BLUE,
            "extra": {"k": 1},
        }
    )
    text = model.model_dump_json(by_alias=True, exclude_none=True)
    message = json_format.Parse(text, orders(), descriptor_pool=pool)
    back = json_format.MessageToJson(message, descriptor_pool=pool, use_integers_for_enums=True).replace(
        '"color": 2', '"color": "dark_blue"'
    )
    assert Orders.model_validate_json(back) == model


def test_the_contract_of_the_file_promises_the_same(tmp_path: Path) -> None:
    generate(write(tmp_path, {"kinds.proto": write_proto(Kinds)}), tmp_path, [tmp_path])
    with importable(tmp_path, "kinds_contracts") as (contracts,):
        again = write_proto(contracts.Kinds)
    assert again.split("\n\n")[1] == "package kinds;"
    assert [line for line in again.splitlines() if "rpc " in line] == [
        line for line in KINDS.splitlines() if "rpc " in line
    ]


class Nested(BaseModel):
    rows: list[list[int]]


class NoneOrMany(BaseModel):
    rows: list[int] | None


class MapOfLists(BaseModel):
    rows: dict[str, list[int]]


class FloatKeys(BaseModel):
    rows: dict[float, int]


class Either(BaseModel):
    value: int | str


class Pair(BaseModel):
    pair: tuple[int, str]


class Spaced(enum.Enum):
    DARK = "dark blue"


class HasSpaced(BaseModel):
    color: Spaced


class Complex(BaseModel):
    number: complex


REFUSED: dict[Any, str] = {
    Nested: "Nested.rows: a .proto file has no lists of list[int]; put it into a model",
    NoneOrMany: "NoneOrMany.rows: a .proto file does not tell None from an empty list[int]; leave one out",
    MapOfLists: "MapOfLists.rows: a .proto file has no maps from str to list[int]; put it into a model",
    FloatKeys: "FloatKeys.rows: a .proto file has no maps from float to int; put it into a model",
    Either: "Either.value: int | str has no counterpart in a .proto file",
    Pair: "Pair.pair: tuple[int, str] has no counterpart in a .proto file",
    HasSpaced: "Spaced.DARK: 'dark blue' has no counterpart in a .proto file, whose enums have names of letters, "
    "digits and `_`",
    Complex: "Complex.number: complex has no counterpart in a .proto file",
    list[int]: "Refused.ask, what it takes: list[int] is no message; put it into a model",
    Color: "Refused.ask, what it takes: Color is no message; put it into a model",
}


@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_what_has_no_counterpart_is_refused_with_the_name_of_the_field(kind: Any) -> None:
    class Refused(Contract, Protocol):
        async def ask(self, request: Any) -> None: ...

    Refused.ask.__annotations__["request"] = kind
    with pytest.raises(UsageError) as refused:
        write_proto(Refused)
    assert str(refused.value) == REFUSED[kind]


def test_a_package_is_taken_or_refused() -> None:
    assert "\npackage my.shop;\n" in write_proto(Kinds, "my.shop")
    assert " .my.shop.Node " in write_proto(Kinds, "my.shop")
    assert "package" not in write_proto(Kinds, "")
    with pytest.raises(UsageError, match="package 'a-b': write names with dots between"):
        write_proto(Kinds, "a-b")
    with pytest.raises(UsageError, match="is no contract"):
        write_proto(Orders)
