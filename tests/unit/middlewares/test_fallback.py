"""The fallback: what it stands in for, and with what."""

from __future__ import annotations

from typing import Any

import pytest

from eventmicro import (
    BadRequest,
    CallTimeout,
    Client,
    Disconnected,
    InternalError,
    NotFound,
    Service,
    TooManyRequests,
    Unavailable,
    UsageError,
)
from eventmicro.errors import EncodeError
from eventmicro.middlewares import Fallback, only
from tests.unit.middlewares.kit import Called, at

ERRORS: list[tuple[Exception, bool]] = [
    (Unavailable("x"), True),
    (CallTimeout("x"), True),
    (TooManyRequests("x"), True),
    (InternalError("x"), True),
    (Disconnected(), True),
    (KeyError(), True),
    (BadRequest("x"), False),
    (NotFound("x"), False),
    (EncodeError(), False),
    (UsageError("x"), False),
]


@pytest.mark.parametrize(("error", "stands_in"), ERRORS, ids=lambda value: type(value).__name__)
async def test_it_stands_in_where_there_is_no_answer(error: Exception, stands_in: bool) -> None:
    if stands_in:
        assert await Fallback("instead")(None, at(), Called(error)) == "instead"
    else:
        with pytest.raises(type(error)):
            await Fallback("instead")(None, at(), Called(error))
    assert await Fallback("instead")(None, at(), Called()) == "answer"


async def test_it_may_be_a_function_plain_or_async_and_may_raise() -> None:
    def plain(request: Any, context: Any, error: Exception) -> str:
        return f"{request} {context.endpoint} {type(error).__name__}"

    async def awaited(request: Any, context: Any, error: Exception) -> str:
        raise NotFound("nothing either")

    called = Called(Unavailable("x"))
    assert await Fallback(plain)("tea", at(), called) == "tea quote Unavailable"
    with pytest.raises(NotFound):
        await Fallback(awaited)("tea", at(), called)


@pytest.mark.parametrize("on", [NotFound, (NotFound, KeyError), lambda error: error.code == 404])
async def test_the_user_may_say_for_what(on: Any) -> None:
    assert await Fallback(None, on=on)("tea", at(), Called(NotFound("x"))) is None
    with pytest.raises(Unavailable):
        await Fallback(None, on=on)("tea", at(), Called(Unavailable("x")))


def test_what_is_no_kind_of_error_is_refused() -> None:
    with pytest.raises(UsageError, match="on='all': write an exception class"):
        Fallback(None, on="all")  # type: ignore[arg-type]


async def test_a_client_has_one_for_each_endpoint() -> None:
    around = [
        only(Fallback("none"), "orders.*"),
        only(Fallback(0), "orders.count"),
    ]  # inner first
    async with Client("memory://fallback", middleware=around) as client:
        assert await client.call("orders.count", None, int) == 0
        assert await client.call("orders.quote", None, str) == "none"
        with pytest.raises(Unavailable):
            await client.call("stock.count", None, int)


async def test_around_an_endpoint_it_answers_for_the_handler() -> None:
    service = Service("orders", broker="memory://fallback")

    @service.rpc(middleware=[Fallback(7)])
    async def count() -> int:
        raise ZeroDivisionError

    async with service, Client("memory://fallback") as client:
        assert await client.call("orders.count", None, int) == 7
