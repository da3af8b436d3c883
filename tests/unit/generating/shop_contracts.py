"""The contract of gen-shop 1.2.0, written by `eventmicro generate client gen-shop`: do not edit."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

from eventmicro import Contract, rpc
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer


class Color(StrEnum):
    """What it looks like."""

    red = "red"
    dark_blue = "dark blue"
    class_ = "class"


class Level(IntEnum):
    value_1 = 1
    value_7 = 7


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: UUID
    at: dt.datetime
    day: dt.date = Field(default_factory=lambda: TypeAdapter(dt.date).validate_python("2026-01-02"))
    span: dt.timedelta
    price: Decimal
    maybe: Decimal | None = None
    raw: bytes
    color: Color = Color.red
    level: Level
    tree: Node
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    nodes: dict[str, list[Node]] = {}
    pair: tuple[int, str]
    seen: set[int] = Field(default_factory=lambda: TypeAdapter(set[int]).validate_python([]))
    anything: Any
    either: str | int | None = None
    word: Literal["a", 3]
    class_: str = Field(validation_alias="class", serialization_alias="class")
    a_b: int = Field(validation_alias="a-b", serialization_alias="a-b", ge=1)
    schema_: str = Field(validation_alias="schema", serialization_alias="schema")
    made: int | None = None
    nested: dict[str, Any] = {"a": [1, None]}

    @model_serializer(mode="wrap")
    def leave_out_what_is_not_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = handler(self)
        unset = {"made"}
        return {k: v for k, v in given.items() if v is not None or k not in unset}


class Node(BaseModel):
    """A node.

    Of a "tree".
    """

    name: str = Field(max_length=10, pattern="^[a-z]+$", description='called "so"')
    children: list[Node] = []
    parent: Node | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    bark: float = Field(gt=0)


class Node2(BaseModel):
    weight: float


class GenShop(Contract, Protocol, service="gen-shop", version="1.2.0"):
    @rpc(name="no-op")
    async def no_op(self) -> None: ...

    @rpc(timeout=3.0, idempotent=True)
    async def quote(self, request: Order) -> Order: ...

    async def roots(self, request: str) -> list[Node]: ...

    def talk(self, requests: AsyncIterator[Cat]) -> AsyncIterator[Cat]: ...

    async def total(self, requests: AsyncIterator[Cat]) -> int: ...

    def watch(self, request: Node) -> AsyncIterator[Node]: ...

    async def weigh(self, request: Node2) -> list[float]: ...
