"""A request that is filled in by its JSON Schema: what is asked, what is refused, what a hostile schema cannot do."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from eventmicro.cli.asking import DEEPEST, Questions


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str = Field(pattern=r"^\d+$")


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


class Size(Enum):
    small = 1
    large = 2


class Line(BaseModel):
    sku: str
    count: int = Field(1, ge=1)


class Order(BaseModel):
    id: int
    lines: list[Line] = Field(min_length=1)
    pay: Card | Cash
    size: Size = Size.small
    gift: bool = False
    note: str | None = None
    extra: dict[str, int] = {}


class Tree(BaseModel):
    name: str
    left: Tree | None = None


def fill_in(schema: dict[str, Any], *answers: str) -> tuple[Any, list[str], list[str]]:
    """The request, the questions, and what was said of the answers; they have to be as many as asked for."""
    left, asked, told = list(answers), [], []  # type: ignore[var-annotated]

    def ask(question: str) -> str:
        asked.append(question)
        if not left:
            raise EOFError
        return left.pop(0)

    value = Questions(schema, ask, told.append).request()
    assert left == []
    return value, asked, told


def schema_of(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def test_a_nested_request_is_asked_field_by_field() -> None:
    value, asked, told = fill_in(
        schema_of(Order), "7", "y", "tea", "", "y", "salt", "3", "n", "Card", "12", "2", "y", "", '{"a": 1}'
    )
    assert value == {
        "id": 7,
        "lines": [{"sku": "tea"}, {"sku": "salt", "count": 3}],
        "pay": {"kind": "card", "number": "12"},
        "size": 2,
        "gift": True,
        "extra": {"a": 1},
    }
    assert Order.model_validate(value).lines[1].count == 3
    assert told == []
    assert asked[:4] == ["id (integer): ", "lines[0]: one more? [y/N] ", "lines[0].sku (string): ", asked[3]]
    assert "default 1" in asked[3]
    assert "size (1 | 2, default 1): " in asked
    assert "pay (Card | Cash): " in asked


def test_what_does_not_validate_is_asked_for_again() -> None:
    value, _, told = fill_in(
        schema_of(Order),
        "x",
        "1.5",
        "1",
        "",
        "y",
        "a",
        "0",
        "2",
        "n",
        "Gold",
        "Card",
        "x",
        "1",
        "3",
        "1",
        "?",
        "n",
        "",
        "",
    )
    assert value == {
        "id": 1,
        "lines": [{"sku": "a", "count": 2}],
        "pay": {"kind": "card", "number": "1"},
        "size": 1,
        "gift": False,
    }
    assert len(told) == 8
    assert "lines: [] should be non-empty" in told
    assert "write one of Card, Cash" in told


@pytest.mark.parametrize(
    ("kind", "answers", "value"),
    [
        (int, ["7"], 7),
        (str, ["7"], "7"),
        (int | str, ["7"], 7),
        (int | str, ["seven"], "seven"),
        (list[int], ["1", "2", ""], [1, 2]),
        (dict[str, int], ['{"a": 1}'], {"a": 1}),
        (Any, ["[1]"], [1]),
        (Any, ["text"], "text"),
        (Literal["a", "b"], ["c", "b"], "b"),
        (Literal["a"], [], "a"),
        (float | None, ["1.5"], 1.5),
        (Annotated[str, Field(min_length=2)], ["", "a", "ab"], "ab"),
        (Tree, ["a", "y", "b", "n"], {"name": "a", "left": {"name": "b"}}),
    ],
    ids=str,
)
def test_each_kind_of_value(kind: Any, answers: list[str], value: Any) -> None:
    assert fill_in(schema_of(kind), *answers)[0] == value


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/fetched"}}, "required": ["a"]},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "required": ["a"],
            "$defs": {"A": {"$ref": "#/$defs/A"}},
        },
        {"type": "object", "properties": {"a": {"type": "strange"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": 1, "b": {"pattern": "("}}, "required": ["b"], "$defs": 7},
        {"type": "object", "properties": {"a": {}}, "required": 5},
    ],
    ids=["elsewhere", "itself", "no-type", "no-schema", "no-list"],
)
def test_a_schema_that_means_nothing_takes_any_value(schema: dict[str, Any]) -> None:
    assert list(fill_in(schema, '"x"')[0].values()) in (["x"], ['"x"'])


def test_a_schema_without_an_end_is_json_from_some_depth_on() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}, "required": ["next"]}
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        raise EOFError

    with pytest.raises(EOFError):
        Questions({"$ref": "#/$defs/Node", "$defs": {"Node": node}}, ask, asked.append).request()
    assert asked == [".".join(["next"] * (DEEPEST + 1)) + " (JSON): "]


def test_a_hostile_name_steers_no_terminal() -> None:
    schema = {"type": "object", "properties": {"a\x1b[31m\nb": {"type": "string", "description": "\x9b\r\n"}}}
    _, asked, _ = fill_in(schema, "x")
    assert asked == ["a\\u001b[31m\\nb (string, \\u009b\\r\\n, may be empty): "]
