"""NaN and infinity, for which JSON has no number: refused where they would go out as null, taken where they come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, field_serializer, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass
from typing_extensions import TypedDict

from eventmicro import Client, InternalError, MemoryBroker, NotFound, Service
from eventmicro.cli.bodies import check_json
from eventmicro.cli.show import as_json_line, show_reply
from eventmicro.codecs import Codecs
from eventmicro.codecs.finite import finite_check
from eventmicro.errors import EncodeError, ServiceError, UsageError
from eventmicro.message import Delivery

NAN, INF = float("nan"), float("inf")


class Quote(BaseModel):
    total: float
    note: str | None = None


class Basket(BaseModel):
    quotes: list[Quote] = []
    by_name: dict[str, Quote] = {}


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int = 1


class Whatever(BaseModel):
    value: Any = None


class File(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    data: bytes
    size: float | None = None


class Files(BaseModel):
    files: list[File]


class Renamed(BaseModel):
    total: float = Field(serialization_alias="sum")


class Numbers(RootModel[list[float]]):
    pass


class Node(BaseModel):
    value: float = 0.0
    next: Node | None = None


class Computed(BaseModel):
    number: int

    @field_serializer("number")
    def _number(self, number: int) -> float:
        return number / 1 if number else NAN


@dataclass
class Plain:
    total: float
    more: list[float] = field(default_factory=list)


@checked_dataclass
class Checked:
    total: float


class Typed(TypedDict):
    total: float


class Pair(NamedTuple):
    one: float
    two: float


REFUSED: list[tuple[Any, Any, str]] = [
    (Quote, Quote(total=NAN), "total is nan"),
    (Quote, Quote(total=INF, note="x"), "total is inf"),
    (Quote, Quote(total=-INF), "total is -inf"),
    (Basket, Basket(quotes=[Quote(total=1), Quote(total=NAN)]), r"quotes\[1\]\.total is nan"),
    (Basket, Basket(by_name={"a": Quote(total=NAN)}), r"by_name\.a\.total is nan"),
    (Loose, Loose(more=[NAN]), r"more\[0\] is nan"),  # type: ignore[call-arg]
    (Whatever, Whatever(value={"a": {"b": INF}}), r"value\.a\.b is inf"),
    (Whatever, Whatever(value=Quote(total=NAN)), r"value\.total is nan"),
    (Renamed, Renamed(total=NAN), r"sum is nan"),
    (Numbers, Numbers([1.0, NAN]), r"\[1\] is nan"),
    (Node, Node(next=Node(next=Node(value=NAN))), r"next\.next\.value is nan"),
    (Computed, Computed(number=0), r"number is nan"),
    (Plain, Plain(NAN), "total is nan"),
    (Plain, Plain(1.0, [NAN]), r"more\[0\] is nan"),
    (Checked, Checked(INF), "total is inf"),
    (Typed, Typed(total=NAN), "total is nan"),
    (Pair, Pair(1.0, NAN), r"\[1\] is nan"),
    (float, NAN, "float is nan"),
    (list, [1, NAN], r"\[1\] is nan"),
    (dict, {"a": INF}, "a is inf"),
    (list[float], [NAN], r"\[0\] is nan"),
    (dict[str, float], {"a": NAN}, "a is nan"),
    (float | None, NAN, "is nan"),
    (int | float, INF, "is inf"),
    (tuple[float, ...], (NAN,), r"\[0\] is nan"),
    (Annotated[float, Field(ge=0)], INF, "is inf"),
]


@pytest.mark.parametrize(("kind", "value", "wanted"), REFUSED, ids=repr)
def test_what_would_be_null_is_refused_by_its_field(kind: Any, value: Any, wanted: str) -> None:
    with pytest.raises(EncodeError, match=rf"{wanted}.*JSON has no such number.*ser_json_inf_nan"):
        Codecs().body(kind).encode(value)


FINE: list[tuple[Any, Any, bytes]] = [
    (Quote, Quote(total=1.5), b'{"total":1.5,"note":null}'),
    (Whatever, Whatever(value=[None, 1.5, "NaN", "null"]), b'{"value":[null,1.5,"NaN","null"]}'),
    (float | None, None, b"null"),
    (list, [None], b"[null]"),
    (Decimal, Decimal("NaN"), b'"NaN"'),
    (Node, Node(), b'{"value":0.0,"next":null}'),
    (Files, Files(files=[File(data=b"\xff")]), b'{"files":[{"data":"_w==","size":null}]}'),
    (dict[str, Any], {"a": "\x00", "b": None, "c": {1: 2.5}}, b'{"a":"\\u0000","b":null,"c":{"1":2.5}}'),
]


@pytest.mark.parametrize(("kind", "value", "body"), FINE, ids=repr)
def test_null_is_none_and_nothing_else(kind: Any, value: Any, body: bytes) -> None:
    assert Codecs().body(kind).encode(value) == body


@pytest.mark.parametrize(
    ("mode", "body"), [("null", b'{"total":null}'), ("strings", b'{"total":"NaN"}'), ("constants", b'{"total":NaN}')]
)
def test_a_type_may_say_how_it_is_written(mode: Any, body: bytes) -> None:
    class Said(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan=mode)
        total: float

    assert Codecs().body(Said).encode(Said(total=NAN)) == body


@pytest.mark.parametrize("body", [b'{"total":NaN}', b'{"total":"NaN"}', b'{"total":Infinity}', b'{"total":1e999}'])
def test_what_others_send_is_taken_as_it_is(body: bytes) -> None:
    quote = Codecs().body(Quote).decode(body)
    assert not quote.total < 1e308


def test_a_number_that_must_be_finite_says_so() -> None:
    class Price(BaseModel):
        model_config = ConfigDict(allow_inf_nan=False)
        total: float

    with pytest.raises(Exception, match="not a valid Price") as caught:
        Codecs().body(Price).decode(b'{"total":NaN}')
    assert caught.value.errors[0]["loc"] == ["total"]  # type: ignore[attr-defined]


async def test_a_reply_that_has_none_is_an_error_and_no_reply(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("shop", broker=MemoryBroker())

    @service.rpc
    async def quote(number: int) -> Quote:
        return Quote(total=NAN)

    @service.rpc
    async def find(number: int) -> Quote:
        raise NotFound("none", errors=[{"loc": ["a"], "closest": NAN}])

    async with service:
        with pytest.raises(InternalError):
            await service.call("shop.quote", 7, Quote)
        assert "total is nan" in caplog.text
        with pytest.raises(NotFound, match="none") as caught:
            await service.call("shop.find", 7, Quote)
        assert not caught.value.errors
        with pytest.raises(EncodeError, match="total is nan"):
            await service.publish("shop.quoted", Quote(total=NAN))
        with pytest.raises(EncodeError, match="total is inf"):
            await service.call("shop.quote", Quote(total=INF), Quote)


def test_an_errors_body_is_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        ServiceError("x", errors=[{"loc": ["a"], "value": NAN}]).to_json()


def test_a_command_sends_no_literals_and_shows_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for body in (b"NaN", b'{"a":Infinity}', b"[-Infinity]"):
        with pytest.raises(UsageError, match="no JSON"):
            check_json(body)
        assert "base64" in json.loads(as_json_line(Delivery("a", body)))
        show_reply(body)
        assert capfdbinary.readouterr().out == body
    assert "base64" in json.loads(as_json_line(Delivery("a", b"1e999")))


async def test_a_client_refuses_before_anything_is_sent() -> None:
    async with Client(MemoryBroker()) as client:
        for value in (NAN, [INF], {"a": NAN}):
            with pytest.raises(EncodeError, match="JSON has no such number"):
                await client.publish("numbers", value)


class Names(BaseModel):
    """Fields named as parts of pydantic's own schemas are."""

    type: str = "a"
    config: float = 0.0
    default: float = 0.0
    fields: float = 0.0
    none: str | None = None


@pytest.mark.parametrize("name", ["config", "default", "fields"])
def test_whatever_a_field_is_called_it_is_looked_at(name: str) -> None:
    with pytest.raises(EncodeError, match=f"{name} is nan"):
        Codecs().body(Names).encode(Names(**{name: NAN}))  # type: ignore[arg-type]


class Ints(BaseModel):
    number: int = 1
    names: list[str | None] = []
    more: dict[str, int] = {}
    nested: Renamed | None = None


def test_what_holds_no_float_is_not_looked_at() -> None:
    assert finite_check(TypeAdapter(list[str | None]), "x") is None
    assert finite_check(TypeAdapter(dict[str, int | None]), "x") is None

    class Plain(BaseModel):
        number: int
        at: datetime
        note: str | None = None
        price: Decimal = Decimal(1)

        @field_validator("number")
        @classmethod
        def _is_small(cls, number: int) -> int:
            return number

    assert finite_check(TypeAdapter(Plain), "Plain") is None
    assert finite_check(TypeAdapter(Ints), "Ints") is not None
