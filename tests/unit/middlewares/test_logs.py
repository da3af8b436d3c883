"""Logging: one line a message, on every side, with what became of it and without secrets."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest

from eventmicro import BadRequest, CallTimeout, Client, Service, Topic, UsageError
from eventmicro.middlewares import LogMessages
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"logger": 7}, "logger=7"),
        ({"level": "INFO"}, "level='INFO'"),
        ({"headers": "Tenant"}, "headers='Tenant': write a list"),
        ({"bodies": "yes"}, "bodies='yes'"),
    ],
)
def test_what_is_none_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LogMessages(**words)
