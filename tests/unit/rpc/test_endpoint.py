"""server: every request gets exactly one outcome, and nothing of the inside leaves the service but by the log."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, model_validator

from eventmicro import Client, Depends, MemoryBroker, Service
from eventmicro.codecs import Codecs
from eventmicro.context import Context
from eventmicro.errors import (
    BadRequest,
    CallTimeout,
    InternalError,
    NotFound,
    ServiceError,
    Unavailable,
    UnsupportedMediaType,
)
from eventmicro.message import Delivery, Message
from eventmicro.rpc.endpoint import REMEMBERED, Endpoint, RunningCalls

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Order(BaseModel):
    sku: str
    count: int = 1


class Price(BaseModel):
    total: float = 0.0


service = Service("shop", broker="memory://server", stop_timeout=0.05)


@service.rpc
async def quote(request: Order) -> Price:
    return Price(total=request.count)


@service.rpc
async def leaks(request: Order) -> Price:
    password = "hunter2"
    raise KeyError(password)


@service.rpc
async def missing(request: Order) -> Price:
    raise NotFound(f"no {request.sku}", errors=[{"loc": ["sku"], "msg": "unknown"}])


@service.rpc
async def teapot(request: Order) -> Price:
    raise ServiceError("short and stout", code=418, id="kitchen", retryable=True)


@service.rpc
async def wrong_reply(request: Order) -> Price:
    return "hunter2"  # type: ignore[return-value]


@service.rpc
async def huge_reply(request: Order) -> bytes:
    return b"x" * 2_000_000


@service.rpc
async def cancels_itself(request: Order) -> Price:
    raise asyncio.CancelledError


@service.rpc
async def cancels_itself_later(request: Order) -> Price:
    await asyncio.sleep(0)
    raise asyncio.CancelledError


@service.rpc(timeout=0.01)
async def slow(request: Order) -> Price:
    await asyncio.Event().wait()
    return Price()


@service.rpc
async def forever(request: Order) -> Price:
    await asyncio.Event().wait()
    return Price()


@service.rpc
async def nested_group(request: Order) -> Price:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaks(request))
    return Price()


@service.rpc
async def nothing() -> None:
    return None


@service.rpc
async def late_read(context: Context) -> float | None:
    return context.remaining()


OUTCOMES: list[tuple[str, type[ServiceError], int, str, str]] = [
    # endpoint, what its caller catches, code, id, detail
    ("missing", NotFound, 404, "shop.missing", "no a"),
    ("teapot", ServiceError, 418, "kitchen", "short and stout"),
    ("leaks", InternalError, 500, "shop.leaks", "the endpoint failed; the log of its service says why"),
    ("nested_group", InternalError, 500, "shop.nested_group", "the endpoint failed; the log of its service says why"),
    ("wrong_reply", InternalError, 500, "shop.wrong_reply", "the endpoint failed; the log of its service says why"),
    ("huge_reply", InternalError, 500, "shop.huge_reply", "the reply is too large for the broker"),
    ("cancels_itself", InternalError, 500, "shop.cancels_itself", "the handler was cancelled"),
    ("cancels_itself_later", InternalError, 500, "shop.cancels_itself_later", "the handler was cancelled"),
    ("slow", CallTimeout, 408, "shop.slow", "not finished within the endpoint's own timeout of 0.01 s"),
]


@pytest.mark.parametrize(("name", "kind", "code", "id", "detail"), OUTCOMES, ids=[o[0] for o in OUTCOMES])
async def test_every_way_to_fail_is_one_typed_error_at_the_caller(
    name: str, kind: type[ServiceError], code: int, id: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with service, Client("memory://server") as client:
        with pytest.raises(ServiceError) as caught:
            await client.call(f"shop.{name}", Order(sku="a"), Price)
        error = caught.value
        assert (type(error), error.code, error.id, error.detail) == (kind, code, id, detail)
        assert "hunter2" not in f"{error} {error.errors} {error.__cause__} {error.__context__}"
        assert await client.call("shop.quote", Order(sku="a"), Price) == Price(total=1)


class OwnEnd(BaseException):
    """An error beside the tree of Exception, as Rust's panics are."""


class Panics(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def panic(cls, value: Any) -> Any:
        if value is None:
            return value["count"]  # when it is declared, where nobody is to hear of it
        raise OwnEnd("hunter2")


def panic() -> int:
    raise OwnEnd("hunter2")


@pytest.mark.parametrize("error", [OwnEnd("hunter2"), BaseExceptionGroup("", [OwnEnd("hunter2")]), SystemExit(3)])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
async def test_a_handler_that_raises_what_is_no_exception_answers(error: BaseException, waits: bool) -> None:
    odd = Service("odd", broker="memory://server")

    @odd.rpc
    async def end() -> None:
        if waits:
            await asyncio.sleep(0)
        raise error

    @odd.rpc
    async def reads(request: Panics) -> None: ...

    @odd.rpc
    async def depends(number: Annotated[int, Depends(panic)]) -> None: ...

    async with odd, Client("memory://server") as client:
        for name in ("end", "reads", "depends"):
            with pytest.raises(InternalError) as caught:
                await client.call(f"odd.{name}", {})
            assert caught.value.detail == "the endpoint failed; the log of its service says why"


async def test_the_end_of_the_program_is_passed_on_when_its_call_is_answered() -> None:
    async def interrupted(request: Any, context: Context) -> None:
        raise KeyboardInterrupt

    async with MemoryBroker("memory://server") as broker:
        plain = Plain(broker)
        await plain.open()
        endpoint = Endpoint(
            "odd",
            "end",
            interrupted,
            None,
            Codecs().body(None),
            broker=broker,
            calls=RunningCalls(),
            concurrency=1,
            timeout=None,
            state=None,
        )
        with pytest.raises(KeyboardInterrupt):
            await endpoint._serve(Delivery("odd.end", b"", None, "mine.1"), None)
        await asyncio.sleep(0)
        assert [(reply.headers or {})["Nats-Service-Error-Code"] for reply in plain.replies] == ["500"]


async def test_what_made_a_handler_fail_is_in_the_log_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with service, Client("memory://server") as client:
        with pytest.raises(InternalError):
            await client.call("shop.leaks", Order(sku="a"), Price)
    assert "shop.leaks failed" in caplog.text
    assert "KeyError: 'hunter2'" in caplog.text


@service.rpc
async def wrong_item(request: Order) -> AsyncIterator[int]:
    yield request.count
    yield "hunter2"  # type: ignore[misc]


async def test_a_reply_that_is_of_another_type_is_in_the_log_as_that_without_our_own_frames(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with service, Client("memory://server") as client:
        with pytest.raises(InternalError):
            await client.call("shop.wrong_reply", Order(sku="a"), Price)
        with pytest.raises(InternalError, match="the log of its service says why"):
            _ = [item async for item in client.stream("shop.wrong_item", Order(sku="a"), int)]
    told = [(record.message.splitlines()[0], record.exc_info) for record in caplog.records]
    start = "its reply, a value of type str, cannot be sent as"
    assert told == [
        (f"shop.wrong_reply: {start} Price: expected Price, got str", None),
        (f"shop.wrong_item: {start} int: expected int, got str", None),
    ]


@service.rpc
async def unawaited(request: Order) -> Price:
    return service.call("shop.quote", request, Price)  # type: ignore[return-value]


@service.rpc
async def unawaited_task(request: Order) -> Price:
    return asyncio.ensure_future(service.call("shop.quote", request, Price))  # type: ignore[return-value]


@pytest.mark.filterwarnings("error")
async def test_a_reply_that_nobody_has_awaited_is_told_with_the_mend(caplog: pytest.LogCaptureFixture) -> None:
    async with service, Client("memory://server") as client:
        for name in ("unawaited", "unawaited_task"):
            with pytest.raises(InternalError):
                await client.call(f"shop.{name}", Order(sku="a"), Price)
        gc.collect()
    mend = "which nobody has awaited: write `return await ...`"
    assert [record.message.splitlines()[0] for record in caplog.records] == [
        f"shop.unawaited: its handler returned a coroutine, that of CallsEndpoints.call, {mend}",
        "shop.unawaited_task: its handler returned a Task that nobody has awaited: write `return await ...`",
    ]


async def test_an_error_meant_for_the_caller_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with service, Client("memory://server") as client:
        for name in ("missing", "teapot"):
            with pytest.raises(ServiceError):
                await client.call(f"shop.{name}", Order(sku="a"), Price)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_callers_error_has_the_handlers_errors_and_retryable() -> None:
    async with service, Client("memory://server") as client:
        with pytest.raises(NotFound) as missing_one:
            await client.call("shop.missing", Order(sku="a"), Price)
        assert missing_one.value.errors == [{"loc": ["sku"], "msg": "unknown"}]
        with pytest.raises(ServiceError) as tea:
            await client.call("shop.teapot", Order(sku="a"), Price)
        assert tea.value.retryable


BAD_REQUESTS: list[tuple[Any, list[tuple[list[Any], str]]]] = [
    ({}, [(["sku"], "missing")]),
    ({"sku": 1, "count": "x"}, [(["sku"], "string_type"), (["count"], "int_parsing")]),
    ([], [([], "model_type")]),
    (None, [([], "json_invalid")]),
    (b"no json", [([], "json_invalid")]),
]


@pytest.mark.parametrize(("request_", "wrong"), BAD_REQUESTS, ids=[repr(r)[:20] for r, _ in BAD_REQUESTS])
async def test_a_wrong_request_is_answered_with_the_wrong_fields(
    request_: Any, wrong: list[tuple[list[Any], str]]
) -> None:
    async with service, Client("memory://server") as client:
        with pytest.raises(BadRequest, match="the request is not a valid Order") as caught:
            await client.call("shop.quote", request_, Price)
        assert [(entry["loc"], entry["type"]) for entry in caught.value.errors] == wrong


async def test_an_unknown_content_type_is_answered_with_415() -> None:
    async with service, Client("memory://server") as client:
        with pytest.raises(UnsupportedMediaType, match="'image/png' is not taken here; taken: application/json"):
            await client.call("shop.quote", b"\x89PNG", Price, metadata={"Content-Type": "image/png; q=1"})


async def test_an_endpoint_that_takes_nothing_takes_whatever_is_sent() -> None:
    async with service, Client("memory://server") as client:
        await client.call("shop.nothing")
        await client.call("shop.nothing", Order(sku="a"))
        await client.call("shop.nothing", b"\xff", metadata={"Content-Type": "text/xml"})


class Plain:
    """A foreign client: a broker connection with a reply inbox of its own."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.replies: list[Delivery] = []

    async def open(self) -> None:
        await self.broker.subscribe("mine.>", self.replies.append)

    async def send(self, endpoint: str, body: bytes = b'{"sku":"a"}', reply: str = "mine.1") -> None:
        await self.broker.publish(Message(f"shop.{endpoint}", body, None, reply))


async def test_a_foreign_client_without_a_budget_is_answered_and_its_handler_has_no_deadline(until: Until) -> None:
    async with service, MemoryBroker("memory://server") as broker:
        plain = Plain(broker)
        await plain.open()
        await plain.send("late_read")
        await until(lambda: plain.replies)
        assert plain.replies == [Delivery("mine.1", b"null")]


async def test_the_endpoints_own_timeout_holds_for_a_foreign_client_too(until: Until) -> None:
    async with service, MemoryBroker("memory://server") as broker:
        plain = Plain(broker)
        await plain.open()
        await plain.send("slow")
        await until(lambda: plain.replies)
        assert plain.replies[0].headers is not None
        assert plain.replies[0].headers["Nats-Service-Error-Code"] == "408"


async def test_a_request_without_a_reply_subject_runs_and_is_answered_to_nobody(until: Until) -> None:
    async with service, MemoryBroker("memory://server") as broker:
        plain = Plain(broker)
        await plain.open()
        for name in ("quote", "leaks", "slow", "wrong_reply", "huge_reply"):
            await plain.send(name, reply="")
        await plain.send("quote", reply="mine.end")
        await until(lambda: plain.replies)
        await asyncio.sleep(0.02)
        assert [reply.subject for reply in plain.replies] == ["mine.end"]


async def test_two_requests_with_the_same_reply_subject_are_both_answered(until: Until) -> None:
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with service, MemoryBroker("memory://server") as broker:
        plain = Plain(broker)
        await plain.open()
        await plain.send("slow")
        await plain.send("slow")
        await until(lambda: len(plain.replies) == 2 or problems)
    assert len(plain.replies) == 2
    assert problems == []


async def test_an_empty_cancel_does_not_hide_a_request_without_a_reply_subject(until: Until) -> None:
    seen: list[int] = []
    silent = Service("silent", broker="memory://server")

    @silent.rpc
    async def take() -> None:
        seen.append(1)

    async with silent, MemoryBroker("memory://server") as broker:
        await broker.publish(Message("silent.$cancel", b""))
        await asyncio.sleep(0)
        await broker.publish(Message("silent.take"))
        await broker.publish(Message("silent.take"))
        await until(lambda: seen)
        await asyncio.sleep(0)
    assert len(seen) == 2


async def test_a_stop_answers_the_calls_it_cuts_off(until: Until) -> None:
    async with Client("memory://server") as client:
        await service.start()
        calls = [asyncio.create_task(client.call("shop.forever", Order(sku="a"), Price)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await service.stop()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, InternalError)
        assert outcome.detail == "the service stopped before the call was finished"
        assert not outcome.retryable


async def test_a_stop_lets_calls_finish_that_can() -> None:
    gate = asyncio.Event()
    patient = Service("patient", broker="memory://server")

    @patient.rpc
    async def wait(request: Order) -> Price:
        await gate.wait()
        return Price(total=7)

    async with Client("memory://server") as client:
        await patient.start()
        calls = [asyncio.create_task(client.call("patient.wait", Order(sku="a"), Price)) for _ in range(5)]
        while len(patient._node._making.calls) < 5:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        stopping = asyncio.create_task(patient.stop())
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*calls) == [Price(total=7)] * 5
        await stopping
        with pytest.raises(Unavailable, match="nobody serves"):
            await client.call("patient.wait", Order(sku="a"), Price)


async def test_an_error_that_json_cannot_hold_is_still_an_answer() -> None:
    odd = Service("odd", broker="memory://server")

    @odd.rpc
    async def raises() -> None:
        raise NotFound(LookupError("x"), errors=[{"loc": [], "what": object}])  # type: ignore[arg-type]

    async with odd, Client("memory://server") as client:
        with pytest.raises(NotFound, match="x"):
            await client.call("odd.raises")


async def test_a_detail_with_line_breaks_arrives_whole_and_breaks_no_header() -> None:
    odd = Service("odd", broker="memory://server")

    @odd.rpc
    async def raises() -> None:
        raise NotFound("first\r\nEvil: header\nlast größer")

    async with odd, Client("memory://server") as client:
        with pytest.raises(NotFound) as caught:
            await client.call("odd.raises")
        assert caught.value.detail == "first\r\nEvil: header\nlast größer"


def test_cancellations_of_calls_that_never_come_are_remembered_up_to_a_bound() -> None:
    calls = RunningCalls()
    for number in range(REMEMBERED + 10):
        calls.receive_cancel(Delivery("shop.$cancel", b"inbox.%d" % number))
    assert len(calls._cancelled) == REMEMBERED
    assert not calls.was_cancelled("inbox.9")
    assert calls.was_cancelled("inbox.10")
    assert not calls.was_cancelled("inbox.10")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"x" * 1_000_000, b"\x00"], ids=["empty", "bytes", "long", "nul"])
async def test_nonsense_on_the_cancel_subject_harms_nobody(body: bytes) -> None:
    async with service, MemoryBroker("memory://server") as broker, Client(broker) as client:
        await broker.publish(Message("shop.$cancel", body))
        assert await client.call("shop.quote", Order(sku="a"), Price) == Price(total=1)
        assert len(service._node._making.calls._cancelled) <= 1  # type: ignore[union-attr]


class Counted(BaseModel):
    count: int


async def test_a_reply_says_what_its_handler_returned_though_the_next_one_changes_it() -> None:
    """As a service does that returns what it keeps; calls that come together are handled one right after the other."""
    counter, kept = Service("counter", broker="memory://server"), Counted(count=0)

    @counter.rpc
    async def count() -> Counted:
        kept.count += 1
        return kept

    async with counter, Client("memory://server") as client:
        await client.call("counter.count", None, Counted)
        replies = await asyncio.gather(*(client.call("counter.count", None, Counted) for _ in range(5)))
    assert [reply.count for reply in replies] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("request_", ["Monday", b"Monday", b"5", b"{Monday", b'"{}"'])
async def test_a_text_is_taken_with_and_without_the_quotes_of_json(request_: Any) -> None:
    days = Service("days", broker="memory://server")

    @days.rpc
    async def close(day: str) -> str:
        return f"closed on {day}"

    async with days, Client("memory://server") as client:
        said = request_ if isinstance(request_, str) else request_.decode().strip('"')
        assert await client.call("days.close", request_, str) == f"closed on {said}"


@pytest.mark.parametrize("headers", [None, {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}])
@pytest.mark.parametrize("request_", [{"day": "Monday"}, b'\n {"day": "Monday"}'])
async def test_fields_are_no_text_where_the_one_parameter_is_the_whole_body(
    request_: Any, headers: dict[str, str] | None
) -> None:
    days = Service("days", broker="memory://server")

    @days.rpc
    async def close(day: str) -> str:
        return f"closed on {day}"

    async with days, Client("memory://server") as client:
        with pytest.raises(BadRequest, match=r'the request is no text but an object: .* whole body; send "text"'):
            await client.call("days.close", request_, str, metadata=headers or {})
