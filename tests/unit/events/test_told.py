"""What the log says of events: a line each while they are few, one traceback a kind, and then how many there were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from eventmicro import Client, Retry, Service
from eventmicro.message import Message
from eventmicro.repeating import AT_FIRST, Repeating

Until = Callable[[Callable[[], bool]], Coroutine[Any, Any, None]]
MANY = 300


def told(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if words in record.getMessage()]


def tracebacks(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.exc_info is not None for record in caplog.records)


async def handled(
    count: int, error: Exception | None, until: Until, body: bytes = b"1", **options: Any
) -> list[tuple[str, int]]:
    service = Service("shop", broker="memory://told")
    seen: list[tuple[str, int]] = []

    @service.subscribe("placed", **options)
    async def bill(event: int) -> None:
        from eventmicro import current_context

        context = current_context()
        assert context is not None
        seen.append((context.id, context.attempt))
        if error is not None:
            raise error

    dead: list[object] = []
    async with service, Client("memory://told") as client:
        await client.broker.subscribe("dead.shop.bill", lambda delivery: dead.append(delivery))
        for _ in range(count):
            await client.broker.publish(Message("placed", body))
        attempts = options["retry"].attempts if "retry" in options else 1
        await until(lambda: len(seen) >= count * attempts if body == b"1" else len(dead) >= count)
        if error is not None and options.get("durable") is not False:
            await until(lambda: len(dead) == count)
    return seen


async def test_an_attempt_that_comes_again_is_a_warning_and_the_last_one_has_the_traceback(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    await handled(1, ConnectionError("the database is away"), until, retry=Retry(attempts=4, backoff=0))
    again = told(caplog, "comes again")
    assert [record.levelname for record in again] == ["WARNING"] * 3
    assert [record.exc_info is not None for record in again] == [True, False, False]  # once per kind of error
    (last,) = told(caplog, "failed, attempt 4 of 4")
    assert last.levelname == "ERROR"
    assert last.exc_info is not None


async def test_an_outage_is_a_few_lines_and_their_number(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    await handled(MANY, ConnectionError("the database is away"), until, retry=Retry(attempts=3, backoff=0))
    assert len(told(caplog, "event on placed failed, attempt")) == 2 * AT_FIRST
    assert tracebacks(caplog) == 1 + AT_FIRST
    (again,) = told(caplog, "more attempts failed and come again")
    assert f"shop.bill: {2 * MANY - AT_FIRST} more" in again.getMessage()
    assert "ConnectionError: the database is away" in again.getMessage()
    (last,) = told(caplog, "more last attempts failed")
    assert f"{MANY - AT_FIRST} more" in last.getMessage()
    assert len(told(caplog, "event on placed went to dead.shop.bill")) == AT_FIRST
    (dead,) = told(caplog, "more events went to dead.shop.bill")
    assert f"{MANY - AT_FIRST} more" in dead.getMessage()


@pytest.mark.parametrize("durable", [True, False])
async def test_bad_bodies_are_a_few_lines_and_their_number(
    durable: bool, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    if durable:
        await handled(MANY, None, until, b"{", durable=True)
    else:
        service = Service("shop", broker="memory://told")

        @service.subscribe("placed", durable=False)
        async def bill(event: int) -> None:
            raise AssertionError("it cannot be read")

        async with service, Client("memory://told") as client:
            for _ in range(MANY):
                await client.broker.publish(Message("placed", b"{"))
    assert len(caplog.records) == AT_FIRST + 1
    assert f"{MANY - AT_FIRST} more events" in caplog.records[-1].getMessage()


async def test_failing_calls_are_a_few_tracebacks_and_their_number(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("shop", broker="memory://told")

    @service.rpc
    async def quote(sku: int) -> int:
        raise ConnectionError("the database is away")

    async with service, Client("memory://told") as client:
        for number in range(30):
            with pytest.raises(Exception, match="500"):
                await client.call("shop.quote", number)
    assert len(told(caplog, "shop.quote failed")) == AT_FIRST
    assert tracebacks(caplog) == AT_FIRST
    (more,) = told(caplog, "more calls went wrong")
    assert f"shop.quote: {30 - AT_FIRST} more" in more.getMessage()
    assert more.service == "shop"  # type: ignore[attr-defined]


async def test_each_line_about_an_event_says_of_which(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    seen = await handled(1, ValueError("no"), until, queue="bills", retry=Retry(attempts=2, backoff=0),
                         dead_letter="dead.shop.bill")  # fmt: skip
    lines = [vars(record) for record in caplog.records]
    assert len(lines) == 3
    for line, attempt in zip(lines, (1, 2, 2), strict=True):
        about = ("service", "handler", "subject", "queue", "event_id", "key", "attempt", "worker")
        assert [line[name] for name in about] == ["shop", "bill", "placed", "bills", seen[0][0], None, attempt, None]


async def test_errors_of_two_kinds_or_places_are_not_one(caplog: pytest.LogCaptureFixture) -> None:
    told_of = Repeating(logging.getLogger("eventmicro.test"), "shop.bill", {})
    errors = []
    for kind in (ValueError, KeyError):
        try:
            raise kind("x")
        except Exception as error:
            errors.append(error)
    try:
        raise ValueError("elsewhere")
    except ValueError as error:
        errors.append(error)
    assert [told_of.traced(error) for error in errors] == [True] * 3
    assert [told_of.traced(error) for error in errors] == [False] * 3


async def test_after_a_while_without_any_it_is_as_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from eventmicro import repeating

    now = 100.0
    monkeypatch.setattr(repeating, "monotonic", lambda: now)
    told_of = Repeating(logging.getLogger("eventmicro.test"), "shop.bill", {})

    def is_counted() -> bool:
        return told_of.counts(("x",), logging.INFO, "things")

    assert [is_counted() for _ in range(AT_FIRST + 1)] == [False] * AT_FIRST + [True]
    told_of._tell()
    assert is_counted()
    told_of._tell()
    now += repeating.EVERY + 1
    assert not is_counted()
    told_of.close()


async def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    from eventmicro import repeating

    told_of = Repeating(logging.getLogger("eventmicro.test"), "shop.bill", {})
    for _ in range(AT_FIRST + 3):
        told_of.counts(("first",), logging.WARNING, "of the first")
    for number in range(repeating.KINDS):
        told_of.counts((number,), logging.WARNING, "others")
    assert len(told_of._said) == repeating.KINDS
    assert [record.getMessage() for record in caplog.records] == ["shop.bill: 3 more of the first"]
    told_of.close()
