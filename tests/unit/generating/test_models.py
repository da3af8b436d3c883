"""Models that are written from a JSON Schema have that schema again."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from types import ModuleType
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter

from eventmicro.generating.models import Models
from eventmicro.running.recording import schema_of


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "x"


class Words(enum.Enum):
    NAME = "name"
    MRO = "mro"
    FIRST = "1st"
    NOTHING = ""
    UNDER = "_"
    UPPER = "upper"
    KEYWORD = "class"


class Leaf(BaseModel):
    x: int


class Tree(BaseModel):
    """A tree."""

    model_config = ConfigDict(extra="allow")

    left: Tree | None = None
    others: list[Tree] = []
    by_name: dict[str, dict[str, Tree]] = {}
    leaf: Leaf


class Kinds(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mixed: Mixed = Mixed.ONE
    words: Words | None = Words.FIRST
    limited: Annotated[int, Field(ge=1, le=5, multiple_of=2)] = 2
    text: Annotated[str, Field(pattern="^[a-z]+$", min_length=1, max_length=3)] = "ab"
    many: Annotated[list[int], Field(min_length=1, max_length=3)] = [1]
    maybe: Annotated[float, Field(gt=0, lt=1)] | None = None
    either: int | str | None = 3
    pair: tuple[int, str]
    seen: set[int]
    true: Literal[True] = True
    at: dt.datetime
    day: dt.date
    moment: dt.time
    span: dt.timedelta
    id: uuid.UUID
    raw: bytes
    rows: list[list[int]] = [[1], []]
    tree: Tree


class Names(BaseModel):
    """Names that Python, pydantic or the module itself has already."""

    json_: int = Field(alias="json")
    int_: int = Field(alias="int")
    config: int = Field(alias="model_config")
    dt_: int = Field(alias="dt")
    field: int = Field(alias="Field")
    leaf_: int = Field(alias="Leaf")
    leaf: Leaf
    under: int = Field(alias="_x")
    first: int = Field(alias="1a")
    dashed: int = Field(alias="a-b")
    dotted: int = Field(alias="a.b")
    foreign: int = Field(alias="größe")
    raised: int = Field(alias="a²")
    party: int = Field(alias="🎉")
    itself: int = Field(alias="self")
    quote: int = Field(alias='"')


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


@dataclass
class Point:
    x: int
    y: str = "a"


class Rows(RootModel[list[Leaf]]):
    pass


SHAPES: list[Any] = [
    Tree,
    Kinds,
    Names,
    Owner,
    Point,
    list[Owner],
    dict[str, Point],
    Tree | Point,
    tuple[int, Leaf],
]


def written(schema: dict[str, Any]) -> Any:
    """The type that is written for a schema, imported."""
    models = Models()
    annotation = models.annotation(schema)
    module = ModuleType("written_models")
    source = "\n\n".join(["from __future__ import annotations", *sorted(models.imports), *models.written()])
    exec(source, vars(module))
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel:
            value.model_rebuild(_types_namespace=vars(module))
    return eval(annotation, vars(module))


@pytest.mark.parametrize("mode", ["validation", "serialization"])
@pytest.mark.parametrize("kind", SHAPES, ids=str)
def test_the_schema_comes_back_as_it_was(kind: Any, mode: Literal["validation", "serialization"]) -> None:
    schema = TypeAdapter(kind).json_schema(mode=mode)
    assert TypeAdapter(written(schema)).json_schema(mode=mode) == schema


def test_a_root_model_is_what_it_holds() -> None:
    assert Models().annotation(TypeAdapter(Rows).json_schema()) == "list[Leaf]"


def test_values_go_both_ways_by_the_names_that_the_service_has() -> None:
    body = TypeAdapter(Names).dump_json(
        Names.model_validate(
            {field.alias or name: 1 for name, field in Names.model_fields.items()} | {"leaf": {"x": 1}}
        ),
        by_alias=True,
    )
    kind = written(TypeAdapter(Names).json_schema())
    assert kind.model_validate_json(body).model_dump_json(by_alias=True).encode() == body


class Hue(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Painted(msgspec.Struct):
    at: dt.datetime
    price: Decimal
    hue: Hue
    dried: dt.time | None = None


class Shown(BaseModel):
    hue: Hue


def test_a_struct_keeps_its_types_and_shares_its_enum_with_a_model() -> None:
    models, (painted, shown) = Models(), [schema_of(kind, "validation") for kind in (Painted, Shown)]
    assert painted is not None
    assert shown is not None
    assert [models.annotation(painted), models.annotation(shown)] == ["Painted", "Shown"]
    assert sorted(models.classes) == ["Hue", "Painted", "Shown"]
    assert models.classes["Painted"].splitlines()[1:] == [
        "    at: dt.datetime",
        "    price: Decimal",
        "    hue: Hue",
        "    dried: dt.time | None = None",
    ]
    assert models.classes["Shown"].splitlines()[1:] == ["    hue: Hue"]
