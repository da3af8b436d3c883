"""Settings of single handlers: what is set goes before their code, and what is set for nothing is refused."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from eventmicro import Batch, DeliveryOptions, Retry, Router, Service, UsageError
from eventmicro.configuration.effective import effective, effective_of_handlers
from eventmicro.configuration.known import ENDPOINT, SUBSCRIBER
from eventmicro.rpc.declare import declare_endpoint
from eventmicro.sources import FILE_VARIABLE

Write = Callable[[str], None]


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Has a settings file say this."""

    def write(text: str) -> None:
        (tmp_path / "eventmicro.toml").write_text(text)
        monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "eventmicro.toml"))

    return write


def shop(**words: Any) -> Service:
    """A service with an endpoint and two subscribers."""
    service = Service("shop", **words)

    @service.rpc(concurrency=3)
    async def quote(sku: str) -> int:
        return 7

    @service.subscribe("shop.placed", retry=Retry(attempts=2, backoff=7))
    async def bill(event: str) -> None: ...

    @service.subscribe("shop.paid", name="pack-up")
    async def pack(event: str) -> None: ...

    return service


def test_each_option_of_the_decorators_is_a_setting_but_for_functions_and_objects() -> None:
    takes = set(inspect.signature(declare_endpoint).parameters)
    assert set(ENDPOINT) == takes - {"function", "name", "middleware", "unknown"}
    assert set(SUBSCRIBER) == {field.name for field in fields(DeliveryOptions)} - {"exchange"}


def test_what_is_set_for_a_handler_goes_before_its_code_and_what_holds_for_all(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        "delivery.timeout = 3\n"
        "[services.shop.handlers]\nquote = { timeout = 2, idempotent = true }\n"
        "bill.retry.attempts = 8\npack-up.concurrency = 5\npack-up.timeout = 4\n"
    )
    monkeypatch.setenv("EVENTMICRO_SERVICES__SHOP__HANDLERS__PACK_UP__CONCURRENCY", "6")
    monkeypatch.setenv("EVENTMICRO_SERVICES__SHOP__DELIVERY__RETRY__FACTOR", "4")
    monkeypatch.setenv("EVENTMICRO_SERVICES__SHOP__HANDLERS__PACK_UP__RETRY__ATTEMPTS", "9")
    service = shop()
    quote = service.endpoints["quote"]
    assert (quote.timeout, quote.concurrency, quote.idempotent) == (2, 3, True)
    bill, pack = service.subscribers["bill"].options, service.subscribers["pack-up"].options
    assert (bill.retry, bill.timeout) == (Retry(attempts=8, backoff=7), 3)
    assert (pack.concurrency, pack.timeout, pack.retry) == (6, 4, Retry(attempts=9, factor=4))


def test_handlers_of_routers_and_objects_are_set_by_the_names_that_they_have_in_the_service(write: Write) -> None:
    write("[services.shop.handlers]\nadmin_ban.timeout = 2\nadmin_log.queue = 'logs'\n")
    router = Router(prefix="admin_", timeout=9)

    @router.rpc
    async def ban(user: str) -> None: ...

    @router.subscribe("shop.log")
    async def log(event: str) -> None: ...

    service = Service("shop")
    service.include(router)
    assert service.endpoints["admin_ban"].timeout == 2
    assert service.subscribers["admin_log"].queue == "logs"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "[services.shop.handlers.bil]\nconcurrency = 2",
            "2: service 'shop' has no handler 'bil'; did you mean 'bill'?",
        ),
        (
            "services.shop.handlers.pack_.timeout = 2",
            "1: service 'shop' has no handler 'pack_'; did you mean 'pack-up'?",
        ),
        (
            "services.shop.handlers.zzz.timeout = 2",
            "1: service 'shop' has no handler 'zzz'; it has quote, bill, pack-up",
        ),
        (
            "[services.shop.handlers.bill]\n\nconcurency = 2",
            "3: there is no setting 'concurency'; did you mean 'concurrency'?",
        ),
        (
            "services.shop.handler.bill.concurrency = 2",
            "1: there is no setting 'handler.bill.concurrency'; did you mean 'handlers.bill.concurrency'?",
        ),
        (
            "services.shop.handlers.quote.prefetch = 2",
            "1: shop.quote is an endpoint, which has no option 'prefetch'; there are timeout, concurrency, internal",
        ),
        ("services.shop.handlers.bill.internal = true", "1: shop.bill is a subscriber, which has no option 'internal'"),
        ("services.shop.handlers.bill.concurrency = 'x'", "1: 'x': write a whole number"),
        ("services.shop.handlers.bill.retry.attempts = 0", "1: Retry: attempts=0"),
        ("services.shop.handlers = 3", "1: there is no setting 'handlers'"),
        ("services.shop.handlers.bill = 3", "1: there is no setting 'handlers.bill'"),
    ],
)
def test_what_is_set_for_nothing_or_cannot_be_is_refused_with_its_line(text: str, error: str, write: Write) -> None:
    write(text)
    with pytest.raises(UsageError) as refused:
        shop().check_settings()
    assert str(refused.value).startswith(f"eventmicro.toml:{error}")


def test_in_the_environment_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "EVENTMICRO_SERVICES__SHOP__HANDLERS__BILL__"
    monkeypatch.setenv(f"{name}CONCURENCY", "2")
    with pytest.raises(UsageError, match=f"did you mean '{name}CONCURRENCY'"):
        shop()


@pytest.mark.parametrize("option", ["prefetch = 2", "batch.size = 3"])
def test_what_does_not_go_with_the_code_is_refused_with_both_said(option: str, write: Write) -> None:
    write(f"[services.shop.handlers.bill]\nconcurrency = 9\n{option}")
    with pytest.raises(UsageError, match=r"; some of it is set by eventmicro\.toml:2, eventmicro\.toml:3$"):
        shop()


async def test_a_start_refuses_what_is_set_for_a_handler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    service = shop()
    await service.start("memory://")
    await service.stop()
    monkeypatch.setenv("EVENTMICRO_SERVICES__SHOP__HANDLERS__BIL__CONCURRENCY", "2")
    with pytest.raises(UsageError, match=r"BIL__CONCURRENCY: service 'shop' has no handler 'bil'; did you mean 'bill'"):
        await shop().start("memory://")
    Service("other").check_settings()  # that is for another service


def test_what_holds_for_each_is_told_with_where_it_is_said(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[services.shop]\ndelivery.retry.backoff = 5\n[services.shop.handlers.pack-up]\nretry.attempts = 9\n")
    monkeypatch.setenv("EVENTMICRO_SERVICES__SHOP__HANDLERS__QUOTE__TIMEOUT", "none")
    code: dict[str, Any] = {"delivery": DeliveryOptions(batch=Batch(size=4))}
    service = Service("shop", **code)

    @service.rpc(timeout=3, concurrency=3)
    async def quote(sku: str) -> int:
        return 7

    @service.subscribe("shop.paid", name="pack-up", ack="manual")
    async def pack(events: list[str]) -> None: ...

    rows = list(effective(code, "shop", Service))
    told = {row.name: (row.shown, row.where) for row in effective_of_handlers(service, code, rows)}
    variable = "EVENTMICRO_SERVICES__SHOP__HANDLERS__QUOTE__TIMEOUT"
    assert told["handlers.quote.timeout"] == ("none", variable)
    assert told["handlers.quote.concurrency"] == ("3", "code")
    assert told["handlers.quote.idempotent"] == ("false", "default")
    assert told["handlers.pack-up.retry.attempts"] == ("9", "eventmicro.toml:4")
    assert told["handlers.pack-up.retry.backoff"] == ("5", "eventmicro.toml:2")
    assert told["handlers.pack-up.batch.size"] == ("4", "code")
    assert told["handlers.pack-up.ack"] == ("manual", "code")
    assert told["handlers.pack-up.prefetch"] == ("none", "default")
    assert told["handlers.pack-up.queue"] == ("shop.pack-up", "default")
    assert len(told) == len(ENDPOINT) + len([row for row in rows if row.name.startswith("delivery.")]) + 1
