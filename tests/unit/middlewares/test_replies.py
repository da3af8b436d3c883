"""Checked replies: what a handler may not return, and what nobody is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

from eventmicro import Client, InternalError, Service
from eventmicro.errors import DecodeError
from eventmicro.middlewares import ValidateReplies
from tests.unit.middlewares.kit import Called, Numbers, at


class Quote(BaseModel):
    total: float = Field(default=1.0, ge=0)
    sku: str = "tea"


class Named(BaseModel):
    a_b: int = Field(default=1, alias="aB")


@dataclass
class Plain:
    number: int


class Odd:
    pass


def changed(**fields: Any) -> Quote:
    quote = Quote()
    for name, value in fields.items():
        setattr(quote, name, value)
    return quote


RIGHT: list[tuple[Any, Any]] = [
    (Quote, Quote(total=2)),
    (Quote | None, None),
    (Named, Named(aB=7)),
    (None, None),
    (bytes, b"x"),
    (list[Quote], [Quote()]),
    (Plain, Plain(1)),
    (dict[str, int], {"a": 1}),
    (Odd, Odd()),
    (Any, Odd()),
]


@pytest.mark.parametrize(("kind", "reply"), RIGHT, ids=lambda value: getattr(value, "__name__", type(value).__name__))
@pytest.mark.parametrize("side", ["endpoint", "client"])
async def test_what_is_right_passes_as_it_is(side: str, kind: Any, reply: Any) -> None:
    check = ValidateReplies()
    for _ in range(2):
        assert await check(None, at(side, reply=kind), Called(lambda: reply)) is reply


WRONG: list[tuple[Any, Any]] = [
    (Quote, changed(total=-1)),
    (Quote, Quote.model_construct(sku=None)),
    (Quote, changed(total=float("nan"))),
    (list[Quote], [Quote(), changed(total=-1)]),
    (Plain, Plain("seven")),  # type: ignore[arg-type]
    (int, "7"),
    (bytes, "text"),
    (Odd, 7),
    (None, 7),
]


@pytest.mark.parametrize(("kind", "reply"), WRONG, ids=lambda value: getattr(value, "__name__", type(value).__name__))
async def test_what_is_wrong_is_500_for_the_caller_and_a_line_in_the_log(
    kind: Any, reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InternalError, match="the endpoint replied what it must not"):
        await ValidateReplies()(None, at("endpoint", reply=kind), Called(lambda: reply))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["orders.quote"]
    with pytest.raises(DecodeError, match=r"the reply of orders\.quote is not of its type"):
        await ValidateReplies()(None, at("client", reply=kind), Called(lambda: reply))


async def test_the_log_names_the_field_and_shows_no_value(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InternalError):
        await ValidateReplies()(
            None, at("endpoint", reply=Quote), Called(lambda: Quote.model_construct(total="hunter2"))
        )
    with pytest.raises(InternalError):
        await ValidateReplies()(None, at("endpoint", reply=Quote), Called(lambda: changed(total=-123456)))
    assert "total: Input should be greater than or equal to 0" in caplog.text
    assert "hunter2" not in caplog.text
    assert "123456" not in caplog.text


async def test_of_a_stream_nothing_is_checked() -> None:
    stream = Numbers(1)
    assert await ValidateReplies()(None, at("endpoint", reply=Quote), Called(lambda: stream)) is stream


async def test_around_an_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("orders", broker="memory://replies", middleware=[ValidateReplies()])
    total = 1.0

    @service.rpc
    async def quote() -> Quote:
        return changed(total=total)

    async with service, Client("memory://replies", middleware=[ValidateReplies()]) as client:
        assert await client.call("orders.quote", None, Quote) == Quote()
        total = -1.0
        with pytest.raises(InternalError):
            await client.call("orders.quote", None, Quote)
    assert "orders.quote: the reply is not of its type (total: " in caplog.text
