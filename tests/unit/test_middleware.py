"""middleware: one signature, four sides, the first outermost."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, Service, Topic
from eventmicro.context import Context, Side
from eventmicro.errors import Forbidden, NotFound, UsageError
from eventmicro.middleware import Handler, Middleware, compose, sides


class Number(BaseModel):
    value: int = 0


TOPIC = Topic("numbers.seen", Number)


async def echo(message: Any, context: Context) -> Any:
    return message


def logged(log: list[str], name: str) -> Middleware:
    async def middleware(message: Any, context: Context, call_next: Handler) -> Any:
        log.append(f"{name} in")
        try:
            return await call_next(message, context)
        finally:
            log.append(f"{name} out")

    return middleware


async def test_the_first_is_the_outermost() -> None:
    log: list[str] = []
    handler = compose([logged(log, "a"), logged(log, "b"), logged(log, "c")], Side.ENDPOINT, echo)
    assert await handler(1, Context(Side.ENDPOINT)) == 1
    assert log == ["a in", "b in", "c in", "c out", "b out", "a out"]


def test_without_middleware_the_handler_itself_is_left() -> None:
    assert compose([], Side.ENDPOINT, echo) is echo
    assert compose([sides("client")(logged([], "a"))], Side.ENDPOINT, echo) is echo


@pytest.mark.parametrize("side", list(Side))
async def test_sides_lets_a_middleware_run_on_the_named_sides_only(side: Side) -> None:
    log: list[str] = []
    chain = [
        logged(log, "all"),
        sides("endpoint", Side.SUBSCRIBER)(logged(log, "in")),
        sides("client", "publisher")(logged(log, "out")),
    ]
    await compose(chain, side, echo)(1, Context(side))
    other = "in" if side in (Side.ENDPOINT, Side.SUBSCRIBER) else "out"
    assert log == ["all in", f"{other} in", f"{other} out", "all out"]


def test_a_side_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="server"):
        sides("server")


async def test_it_may_change_the_message_and_the_result_answer_itself_or_raise() -> None:
    async def add_one(message: int, context: Context, call_next: Handler) -> Any:
        return await call_next(message + 1, context) * 10

    async def answer(message: int, context: Context, call_next: Handler) -> Any:
        return "mine"

    async def refuse(message: int, context: Context, call_next: Handler) -> Any:
        raise Forbidden("not you")

    async def forgive(message: int, context: Context, call_next: Handler) -> Any:
        try:
            return await call_next(message, context)
        except Forbidden as error:
            return error.detail

    context = Context(Side.ENDPOINT)
    assert await compose([add_one], Side.ENDPOINT, echo)(1, context) == 20
    assert await compose([answer, add_one], Side.ENDPOINT, echo)(1, context) == "mine"
    assert await compose([forgive, refuse], Side.ENDPOINT, echo)(1, context) == "not you"
    with pytest.raises(Forbidden):
        await compose([refuse], Side.ENDPOINT, echo)(1, context)


async def test_an_object_with_an_async_call_is_a_middleware_too() -> None:
    class Doubled:
        async def __call__(self, message: int, context: Context, call_next: Handler) -> Any:
            return await call_next(message * 2, context)

    assert await compose([sides("endpoint")(Doubled())], Side.ENDPOINT, echo)(4, Context(Side.ENDPOINT)) == 8


async def test_a_message_passes_all_four_sides_in_order(until: Any) -> None:
    log: list[str] = []

    async def note(message: Any, context: Context, call_next: Handler) -> Any:
        log.append(f"{context.side} {context.service or '-'} {context.endpoint or '-'} {context.topic}")
        return await call_next(message, context)

    service = Service("numbers", broker="memory://", middleware=[note])
    seen: list[Number] = []

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        seen.append(event)

    @service.rpc
    async def square(request: Number) -> Number:
        await service.publish(TOPIC, request)
        return Number(value=request.value**2)

    async with service, Client("memory://", middleware=[note]) as client:
        assert await client.call("numbers.square", Number(value=3), Number) == Number(value=9)
        await until(lambda: seen)
    assert log == [
        "client numbers square numbers.square",
        "endpoint numbers square numbers.square",
        "publisher - - numbers.seen",
        "subscriber numbers see numbers.seen",
    ]


async def test_what_a_client_middleware_puts_into_the_metadata_reaches_the_handler() -> None:
    async def sign(message: Any, context: Context, call_next: Handler) -> Any:
        context.metadata["X-User"] = "ann"
        return await call_next(message, context)

    service = Service("numbers", broker="memory://")

    @service.rpc
    async def who(context: Context) -> str:
        return context.metadata["X-User"]

    async with service, Client("memory://", middleware=[sign]) as client:
        assert await client.call("numbers.who", None, str) == "ann"


async def test_the_services_middleware_is_around_that_of_the_endpoint_and_dependencies_are_inside_both() -> None:
    log: list[str] = []
    service = Service("numbers", broker="memory://", middleware=[logged(log, "service")])

    @service.rpc(middleware=[logged(log, "endpoint")])
    async def find(request: Number) -> Number:
        log.append("handler")
        raise NotFound("none")

    async with service, Client("memory://") as client:
        with pytest.raises(NotFound):
            await client.call("numbers.find", Number(), Number)
    assert log == ["service in", "endpoint in", "handler", "endpoint out", "service out"]


async def test_a_client_middleware_that_answers_itself_sends_nothing() -> None:
    async def cached(message: Any, context: Context, call_next: Handler) -> Any:
        return Number(value=7)

    async with Client("memory://", middleware=[sides("client")(cached)]) as client:
        assert await client.call("nobody.there", Number(), Number) == Number(value=7)
