"""Logging: one line a message, on every side, with what became of it and without secrets."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import pytest

from eventmicro import Ack, BadRequest, CallTimeout, Client, Service, Topic, UsageError
from eventmicro.context import Context, Side
from eventmicro.message import Delivery
from eventmicro.middlewares import LogMessages
from eventmicro.running.logs import JsonFormatter, TextFormatter
from tests.unit.middlewares.kit import Called, Numbers, at, turns

NAME = "eventmicro.messages"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of each line, without its seconds."""
    found = [record for record in caplog.records if record.name == NAME]
    return [
        (each.levelname, " ".join("T" if word.startswith("0.") else word for word in each.getMessage().split()))
        for each in found
    ]


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, NAME)


OUTCOMES: list[tuple[Any, tuple[str, str]]] = [
    ("answer", ("INFO", "client orders.quote ok T s")),
    (BadRequest("no"), ("WARNING", "client orders.quote error 400 BadRequest T s")),
    (CallTimeout("late"), ("WARNING", "client orders.quote timeout 408 CallTimeout T s")),
    (KeyError("secret"), ("ERROR", "client orders.quote error 500 KeyError T s")),
]


@pytest.mark.parametrize(("outcome", "line"), OUTCOMES, ids=lambda value: type(value).__name__)
async def test_each_message_is_one_line(caplog: pytest.LogCaptureFixture, outcome: Any, line: tuple[str, str]) -> None:
    with suppress(Exception):
        await LogMessages()("body", at(), Called(outcome))
    assert lines(caplog) == [line]


async def test_one_that_exits_is_one_too(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(message: Any, context: Context) -> None:
        raise SystemExit(3)

    with suppress(SystemExit):
        await LogMessages()("body", at(), leave)
    assert lines(caplog) == [("ERROR", "client orders.quote error 500 SystemExit T s")]


async def test_a_cancelled_one_is_one_too(caplog: pytest.LogCaptureFixture) -> None:
    called = Called()
    called.gate.clear()
    call = asyncio.create_task(LogMessages()("body", at(), called))
    await turns()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert lines(caplog) == [("WARNING", "client orders.quote cancelled 499 CancelledError T s")]


async def test_the_record_has_it_as_attributes(caplog: pytest.LogCaptureFixture) -> None:
    context = at("subscriber", metadata={"Traceparent": "00-1", "Authorization": "Bearer secret"}, attempt=3)
    await LogMessages()("body", context, Called())
    (record,) = caplog.records
    said: Any = record
    assert (said.side, said.service, said.endpoint, said.topic) == ("subscriber", "orders", "quote", "orders.quote")
    assert (said.outcome, said.code, said.error, said.attempt) == ("ok", 200, "", 3)
    assert said.headers == {"traceparent": "00-1"}
    assert said.seconds >= 0
    assert record.getMessage().endswith("s traceparent=00-1 attempt 3")


async def test_neither_bodies_nor_other_headers_are_logged_unless_they_are_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = at(metadata={"Authorization": "Bearer secret", "Tenant": "acme\nforged line"})
    await LogMessages()("secret", context, Called("secret"))
    assert "secret" not in caplog.text
    await LogMessages(headers=["Tenant"], bodies=True)("x" * 999, context, Called())
    line = caplog.records[-1].getMessage()
    assert "Tenant=acme forged line body='xxx" in line
    assert len(line) < 400


async def test_level_and_logger_are_the_users(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mine")
    await LogMessages("mine", level=logging.DEBUG)("x", at(), Called())
    assert caplog.records == []
    await LogMessages(logging.getLogger("mine"))("x", at(), Called())
    assert [record.name for record in caplog.records] == ["mine"]


@pytest.mark.parametrize("error", [None, BadRequest("no")])
async def test_a_stream_is_logged_when_it_has_ended(caplog: pytest.LogCaptureFixture, error: Exception | None) -> None:
    stream = await LogMessages()("x", at(), Called(Numbers(2, error)))
    assert lines(caplog) == []
    with suppress(BadRequest):
        assert [number async for number in stream] == [1, 0]
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize(
    ("side", "line"),
    [
        ("subscriber", ("INFO", "subscriber orders.quote ok T s")),
        ("endpoint", ("ERROR", "endpoint orders.quote error 500 Ack T s")),  # it is answered with 500
    ],
)
async def test_an_event_that_is_dealt_with_is_no_error(
    caplog: pytest.LogCaptureFixture, side: str, line: tuple[str, str]
) -> None:
    with pytest.raises(Ack):
        await LogMessages()("x", at(side), Called(Ack("dealt with")))
    assert lines(caplog) == [line]


async def test_on_all_four_sides(caplog: pytest.LogCaptureFixture, until: Any) -> None:
    url, topic = "memory://logs", Topic("orders.placed", int)
    service = Service("orders", broker=url, middleware=[LogMessages()])
    seen: list[int] = []

    @service.rpc
    async def quote() -> int:
        await service.publish(topic, 7)
        return 7

    @service.subscribe(topic)
    async def bill(event: int) -> None:
        seen.append(event)

    async with service, Client(url, middleware=[LogMessages()]) as client:
        await client.call("orders.quote", None, int)
        await until(lambda: len(lines(caplog)) == 4)
    assert sorted(line for _, line in lines(caplog)) == [
        "client orders.quote ok T s",
        "endpoint orders.quote ok T s",
        "publisher orders.placed ok T s",
        "subscriber orders.placed ok T s",
    ]


async def test_of_what_goes_well_a_share_is_logged_and_of_errors_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolls = iter([0.005, 0.02, 0.5, 0.009])
    monkeypatch.setattr("eventmicro.middlewares.logs.random", lambda: next(rolls))
    sampled = LogMessages(sample=0.01)
    for _ in range(4):
        await sampled("x", at(), Called())
    assert len(lines(caplog)) == 2
    with suppress(BadRequest):
        await sampled("x", at(), Called(BadRequest("no")))
    assert lines(caplog)[2:] == [("WARNING", "client orders.quote error 400 BadRequest T s")]
    await LogMessages(sample=0, slower_than=1e-9)("x", at(), Called())  # what is slow is logged whatever its share
    assert lines(caplog)[3:] == [("INFO", "client orders.quote ok T s slow")]


async def test_only_what_is_slow_is_logged_and_errors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.4, 1.0, 1.5, 2.0, 2.1])
    monkeypatch.setattr("eventmicro.middlewares.logs.time.perf_counter", lambda: next(clock))
    slow = LogMessages(slower_than=0.5)
    await slow("x", at(), Called())
    await slow("x", at(), Called())
    with suppress(KeyError):
        await slow("x", at(), Called(KeyError("x")))
    assert lines(caplog) == [
        ("INFO", "client orders.quote ok T s slow"),
        ("ERROR", "client orders.quote error 500 KeyError T s"),
    ]


async def test_a_line_has_the_fields_of_its_own_message_in_text_and_in_json(
    capsys: pytest.CaptureFixture[str], until: Any
) -> None:
    class Keyed(Delivery):
        key = "k-7"

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    context = Context(Side.SUBSCRIBER, "shop", "bill", "orders.placed", {"Traceparent": trace}, attempt=2)
    context.delivery = Keyed("orders.placed", id="e-1")
    logger = logging.getLogger(NAME)
    shown = logging.StreamHandler()
    logger.addHandler(shown)
    try:
        for formatter in (JsonFormatter(), TextFormatter()):
            shown.setFormatter(formatter)
            await LogMessages(logger)("secret", context, Called())
    finally:
        logger.removeHandler(shown)
    form, text = capsys.readouterr().err.splitlines()
    record = json.loads(form)
    said = {name: record[name] for name in ("service", "handler", "subject", "attempt", "key", "event_id", "side")}
    assert said == {
        "service": "shop",
        "handler": "bill",
        "subject": "orders.placed",
        "attempt": 2,
        "key": "k-7",
        "event_id": "e-1",
        "side": "subscriber",
    }
    assert (record["trace_id"], record["span_id"]) == (trace[3:35], trace[36:52])
    assert f"key=k-7 traceparent={trace} attempt 2" in text
    assert "secret" not in form + text


async def test_a_call_is_logged_with_what_is_called_and_not_with_the_handler_that_calls_it(
    caplog: pytest.LogCaptureFixture, until: Any
) -> None:
    url = "memory://logs-nested"
    service = Service("outer", broker=url, middleware=[LogMessages()])

    @service.rpc
    async def inner() -> None: ...

    @service.rpc
    async def ask() -> None:
        await service.call("outer.inner", None, None)
        await service.publish("orders.placed", 1, key="k", id="i")

    async with service:
        await service.call("outer.ask", None, None)
        await service.publish("orders.paid", 1)
    fields: list[Any] = [record for record in caplog.records if record.name == NAME]
    found = {(said.side, said.subject, said.service, said.handler, said.key, said.event_id) for said in fields}
    assert ("client", "outer.inner", "outer", "inner", None, None) in found
    assert ("publisher", "orders.placed", "outer", "ask", "k", "i") in found
    assert ("publisher", "orders.paid", None, None, None, None) in found  # outside of any handler


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"sample": 2}, "sample=2: write a share"),
        ({"sample": True}, "sample=True"),
        ({"slower_than": -1}, "slower_than=-1"),
        ({"slower_than": "1"}, "slower_than='1'"),
        ({"logger": 7}, "logger=7"),
        ({"level": "INFO"}, "level='INFO'"),
        ({"headers": "Tenant"}, "headers='Tenant': write a list"),
        ({"bodies": "yes"}, "bodies='yes'"),
    ],
)
def test_what_is_none_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LogMessages(**words)
