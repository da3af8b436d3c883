"""A service with models of many kinds; `shop_contracts.py` is the contract that is written from its record."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from eventmicro import Service


class Color(enum.Enum):
    """What it looks like."""

    RED = "red"
    DARK_BLUE = "dark blue"
    CLASS = "class"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 7


class Node(BaseModel):
    """A node.

    Of a "tree".
    """

    name: str = Field(description='called "so"', max_length=10, pattern="^[a-z]+$")
    children: list[Node] = []
    parent: Node | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    bark: float = Field(gt=0)


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: uuid.UUID
    at: dt.datetime
    day: dt.date = dt.date(2026, 1, 2)
    span: dt.timedelta
    price: decimal.Decimal
    maybe: decimal.Decimal | None = None
    raw: bytes
    color: Color = Color.RED
    level: Level
    tree: Node
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    nodes: dict[str, list[Node]] = {}
    pair: tuple[int, str]
    seen: set[int] = set()
    anything: Any
    either: str | int | None = None
    word: Literal["a", 3]
    klass: str = Field(alias="class")
    dashed: int = Field(alias="a-b", ge=1)
    schema_: str = Field(alias="schema")
    made: int = Field(default_factory=lambda: 4)
    nested: dict[str, Any] = {"a": [1, None]}


class Weight(BaseModel):
    model_config = ConfigDict(title="Node")

    weight: float


TREE = Node(name="root", children=[Node(name="leaf")])


def make_service(broker: str) -> Service:
    service = Service("gen-shop", version="1.2.0", broker=broker)

    @service.rpc(timeout=3.0, idempotent=True)
    async def quote(request: Order) -> Order:
        return request

    @service.rpc(name="no-op")
    async def ping() -> None: ...

    @service.rpc
    async def weigh(request: Weight) -> list[float]:
        return [request.weight]

    @service.rpc
    async def roots(request: str) -> list[Node]:
        return [TREE]

    @service.rpc
    async def watch(request: Node) -> AsyncIterator[Node]:
        yield request

    @service.rpc
    async def total(requests: AsyncIterator[Cat]) -> int:
        return sum([cat.lives async for cat in requests])

    @service.rpc
    async def talk(requests: AsyncIterator[Cat]) -> AsyncIterator[Cat]:
        async for cat in requests:
            yield cat

    return service
