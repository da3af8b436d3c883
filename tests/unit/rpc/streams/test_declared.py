"""How the handlers of streams are declared, and the words of every refusal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from eventmicro import Context, Service
from eventmicro.errors import SignatureError, UsageError
from eventmicro.rpc.declare import declare_endpoint
from tests.unit.rpc.streams.kit import Number


async def server(request: Number, context: Context) -> AsyncIterator[Number]:
    yield request


async def without_request() -> AsyncGenerator[Number, None]:
    yield Number()


async def client(requests: AsyncIterator[Number]) -> int:
    return 0


async def client_of_none(requests: AsyncIterable[bytes]) -> None: ...


async def both(requests: AsyncIterator[Number], context: Context) -> AsyncIterator[str]:
    yield ""


async def neither(request: Number) -> list[Number]:
    return [request]


@pytest.mark.parametrize(
    ("handler", "stream", "request_type", "reply_type"),
    [
        (server, "server", Number, Number),
        (without_request, "server", None, Number),
        (client, "client", Number, int),
        (client_of_none, "client", bytes, type(None)),
        (both, "bidirectional", Number, str),
        (neither, "", Number, list[Number]),
    ],
)
def test_the_signature_says_which_kind_of_stream_it_is(
    handler: Callable[..., Any], stream: str, request_type: Any, reply_type: Any
) -> None:
    declared = declare_endpoint(handler)
    assert declared.stream == stream
    if request_type is not None:
        assert declared.request == request_type
    assert declared.reply == reply_type


async def yields_and_says_nothing(request: Number):  # type: ignore[no-untyped-def]
    yield request


async def yields_and_says_another(request: Number) -> Number:  # type: ignore[misc]
    yield request


async def yields_a_plain_iterator(request: Number) -> Iterator[Number]:  # type: ignore[misc]
    yield request


async def says_so_and_does_not_yield(request: Number) -> AsyncIterator[Number]:
    return server(request, None)  # type: ignore[arg-type]


async def of_what(request: Number) -> AsyncIterator:  # type: ignore[type-arg]
    yield request


async def reads_what(requests: AsyncIterator) -> int:  # type: ignore[type-arg]
    return 0


async def reads_a_plain_iterator(requests: Iterator[Number]) -> int:
    return 0


REFUSED: list[tuple[Callable[..., Any], str]] = [
    (yields_and_says_nothing, r"say what it yields: `-> AsyncIterator\[YourModel\]`"),
    (yields_and_says_another, r"it yields, so write `-> AsyncIterator\[YourModel\]`"),
    (yields_a_plain_iterator, r"a stream is an AsyncIterator"),
    (says_so_and_does_not_yield, "it returns an AsyncIterator and does not yield"),
    (of_what, r"say of what it is a stream: `AsyncIterator\[YourModel\]`"),
    (reads_what, r"say of what it is a stream: `AsyncIterator\[YourModel\]`"),
    (reads_a_plain_iterator, r"a stream is an AsyncIterator"),
]


@pytest.mark.parametrize(("handler", "why"), REFUSED, ids=[handler.__name__ for handler, _ in REFUSED])
def test_a_wrong_signature_is_refused_when_it_is_declared(handler: Callable[..., Any], why: str) -> None:
    with pytest.raises(SignatureError, match=why) as refused:
        Service("numbers").rpc(handler)
    assert handler.__name__ in str(refused.value)


def test_messages_that_cannot_travel_are_refused_when_they_are_declared() -> None:
    class Odd:
        pass

    async def odd() -> AsyncIterator[Odd]:
        yield Odd()

    odd.__annotations__["return"] = AsyncIterator[Odd]
    with pytest.raises(UsageError, match="endpoint odd: Odd cannot be a message"):
        Service("numbers").rpc(odd)


def test_a_subscriber_neither_yields_nor_reads_a_stream() -> None:
    async def yields(event: Number) -> AsyncIterator[Number]:
        yield event

    with pytest.raises(SignatureError, match="it yields; a handler returns one value"):
        Service("numbers").subscribe("numbers.seen")(yields)  # type: ignore[type-var]
