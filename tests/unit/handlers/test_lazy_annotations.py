"""Annotations that are looked up when they are asked for: those of Python 3.14, and before that of the import from
`__future__`. A module may name there what is for type checkers alone, or stands further below.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from eventmicro import Client, Service, SignatureError

LAZY = "" if sys.version_info >= (3, 14) else "from __future__ import annotations"
CODE = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from pydantic import BaseModel
from eventmicro import Contract, Depends, Router, rpc

if TYPE_CHECKING:
    from typing import Protocol as OnlyForCheckers

async def middleware(message: OnlyForCheckers, context: OnlyForCheckers, call_next: OnlyForCheckers) -> OnlyForCheckers:
    return await call_next(message, context)

@asynccontextmanager
async def lifespan(size: OnlyForCheckers = None) -> AsyncIterator[OnlyForCheckers]:
    yield size

async def hook(size: OnlyForCheckers = None) -> OnlyForCheckers: ...

def limit() -> Limit:
    return Limit(most=2)

class Shop:
    @rpc
    async def double(self, order: Order, limit: Limit = Depends(limit)) -> Order:
        return Order(count=min(2 * order.count, limit.most), inside=order)

    @rpc
    async def each(self, order: Order) -> AsyncIterator[Order]:
        yield order

async def for_checkers(order: OnlyForCheckers) -> None: ...

class Limit(BaseModel):
    most: int

class Order(BaseModel):
    count: int = 1
    inside: Order | None = None
"""


@pytest.fixture
def module() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "lazy"}
    exec(compile(f"{LAZY}\n{CODE}", "lazy.py", "exec", dont_inherit=True), names)
    return names


async def test_what_stands_further_below_is_found(module: dict[str, Any]) -> None:
    service, kind = Service("shop", broker="memory://lazy"), module["Order"]
    service.add(module["Shop"]())
    async with service, Client("memory://lazy") as client:
        assert await client.call("shop.double", {"count": 3}, kind) == kind(count=2, inside=kind(count=3))
        assert [each async for each in client.stream("shop.each", {"count": 3}, kind)] == [kind(count=3)]


async def test_what_is_for_type_checkers_alone_hinders_nobody_where_no_type_is_wanted(
    module: dict[str, Any],
) -> None:
    words = {"middleware": [module["middleware"]], "lifespan": module["lifespan"]}
    service = Service("shop", broker="memory://checkers", **words)
    service.before_start(module["hook"])
    service.health_check(module["hook"])

    @service.rpc
    async def ping() -> str:
        return "pong"

    async with service, Client("memory://checkers", middleware=[module["middleware"]]) as client:
        assert await client.call("shop.ping", None, str) == "pong"


def test_where_a_type_is_asked_for_it_is_named(module: dict[str, Any]) -> None:
    with pytest.raises(SignatureError, match="for_checkers: cannot find 'OnlyForCheckers', which an annotation names"):
        Service("shop", broker="memory://").rpc(module["for_checkers"])
