"""Log set-up: lines for people, lines for programs, and what the program has set up itself stays."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from eventmicro import Retry, Service
from eventmicro.context import Context, Side
from eventmicro.errors import ServiceError, UsageError
from eventmicro.events.options import DeliveryOptions
from eventmicro.events.settling import Kept, Live
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.fields import LogFields
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery
from eventmicro.middlewares import LogMessages
from eventmicro.running import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, without handlers, and as it was after the test."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    root.handlers[:] = []
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook
    logging.captureWarnings(False)


def test_a_json_line_has_time_level_logger_message_and_exception(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("INFO", "json")
    logging.getLogger("shop").info("two\nlines and a lone \ud800")
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("shop").exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert list(first) == ["time", "level", "logger", "message"]
    assert first["time"][10] == "T"
    assert first["time"].endswith("Z")
    assert (first["level"], first["logger"], first["message"]) == ("info", "shop", "two\nlines and a lone \ud800")
    assert "KeyError: 'lost'" in second["exception"]


def test_the_lines_of_one_of_several_workers_say_which_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json", worker=2)
    logging.getLogger("shop").info("one")
    logs.set_up("info", "text", worker=2)
    logging.getLogger("shop").info("two %s", "%(x)s")
    form, text = capsys.readouterr().err.splitlines()
    assert json.loads(form)["worker"] == 2
    assert text.endswith("INFO    worker 2 shop: two %(x)s")


def test_the_lines_of_one_of_several_services_say_which_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json", service="orders")
    logging.getLogger("shop").info("one")
    logging.getLogger("shop").info("two", extra={"service": "stock"})
    logs.set_up("info", "json")
    logging.getLogger("shop").info("three")
    one, two, three = map(json.loads, capsys.readouterr().err.splitlines())
    assert (one["service"], one["pid"]) == ("orders", os.getpid())
    assert two["service"] == "stock"
    assert not {"service", "pid", "worker"} & set(three)


def test_an_uncaught_exception_is_a_json_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(format="json")
    sys.excepthook(KeyError, KeyError("lost"), None)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"] == "KeyError: 'lost'"


def test_a_text_line_is_readable_and_the_level_holds_back_what_is_less(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warning")
    logging.getLogger("shop").info("not shown")
    logging.getLogger("shop").warning("low on %s", "tea")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING shop: low on tea")


def test_the_environment_sets_up_logs_only_where_nobody_has(
    monkeypatch: pytest.MonkeyPatch, root: logging.Logger
) -> None:
    monkeypatch.setenv("EVENTMICRO_LOG_LEVEL", "error")
    monkeypatch.setenv("EVENTMICRO_LOG_FORMAT", "json")
    own = logging.NullHandler()
    root.handlers[:] = [own]
    logs.set_up_by_environment()
    assert root.handlers == [own]
    root.handlers[:] = []
    logs.set_up_by_environment()
    assert root.level == logging.ERROR
    assert isinstance(root.handlers[0].formatter, logs.JsonFormatter)


@pytest.mark.parametrize(("level", "format", "words"), [("loud", "text", "log level"), ("info", "xml", "log format")])
def test_a_level_or_format_that_does_not_exist_is_refused(level: str, format: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        logs.set_up(level, format)


def test_what_the_application_says_by_extra_is_shown_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    shop = logging.getLogger("shop")
    logs.set_up("info", "json")
    shop.info("billed", extra={"order_id": 7, "tenant": {"name": "acme"}, "level": "gold", "when": object})
    logs.set_up("info", "text")
    shop.info("billed", extra={"order_id": 7})
    form, text = capsys.readouterr().err.splitlines()
    line = json.loads(form)
    assert (line["order_id"], line["tenant"], line["level"], line["extra.level"]) == (
        7,
        {"name": "acme"},
        "info",
        "gold",
    )
    assert text.endswith("shop: billed order_id=7")


def test_an_extra_that_json_cannot_hold_does_not_lose_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    within: dict[object, object] = {(1, 2): 3}
    logging.getLogger("shop").info("billed", extra={"within": within})
    (form,) = capsys.readouterr().err.splitlines()
    assert json.loads(form)["within"] == "{(1, 2): 3}"


def test_logs_that_the_program_has_set_up_stay_and_so_does_its_level(root: logging.Logger) -> None:
    own = logging.NullHandler()
    root.handlers[:] = [own]
    root.setLevel(logging.ERROR)
    logs.set_up_unless_done("info", "text", is_asked=True)
    assert (root.handlers, root.level) == ([own], logging.ERROR)
    root.handlers[:] = []
    root.setLevel(logging.DEBUG)
    logs.set_up_unless_done("info", "text", is_asked=False)
    assert root.level == logging.DEBUG
    root.handlers[:] = []
    logs.set_up_unless_done("info", "text", is_asked=True)
    assert root.level == logging.INFO


async def test_a_line_within_a_handler_has_the_fields_of_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    service = Service("shop", broker="memory://fields")

    @service.subscribe("placed")
    async def bill(event: int) -> None:
        logging.getLogger("shop").info("billed")

    async with service:
        await service.publish("placed", 1)
    (line,) = [json.loads(each) for each in capsys.readouterr().err.splitlines() if "billed" in each]
    assert (line["service"], line["handler"], line["subject"], line["attempt"]) == ("shop", "bill", "placed", 1)
    assert line["event_id"]
    assert "worker" not in line


def test_a_formatter_may_ask_for_fields_that_a_line_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(LogFields())
    handler.setFormatter(logging.Formatter("%(service)s %(event_id)s %(worker)s %(message)s"))
    logging.basicConfig(handlers=[handler], level="INFO", force=True)
    logging.getLogger("shop").info("open")
    assert capsys.readouterr().err == "None None None open\n"


FORGED = "2026-05-09 12:30:01.250 ERROR shop: forged"
EVIL = f"a\n{FORGED}\r\n{FORGED}\x1b[2J\x9b31m\u2028{FORGED}\u202e"
FORMATTERS = [logs.TextFormatter(), logs.JsonFormatter(), logging.Formatter("%(asctime)s %(message)s %(subject)s")]


@pytest.fixture(params=FORMATTERS, ids=lambda each: each.__class__.__qualname__)
def written(request: pytest.FixtureRequest, root: logging.Logger) -> Iterator[list[str]]:
    """What a formatter makes of each record."""
    texts: list[str] = []

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(self.format(record))

    handler = Shown()
    handler.addFilter(LogFields())
    handler.setFormatter(request.param)
    logger = logging.getLogger("eventmicro")
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


def is_harmless(text: str) -> bool:
    """Whether a record begins no other one, and has no sign that does something on a terminal."""
    begins, *more = text.split("\n")
    own = all(line.startswith(" ") for line in more)
    return own and not begins.startswith(FORGED) and all(sign.isprintable() or sign == "\n" for sign in text)


async def test_neither_a_name_nor_an_error_that_a_peer_makes_up_forges_a_record(written: list[str]) -> None:
    async def handle(event: None, context: Context) -> None:
        raise ValueError(EVIL)

    delivery = Delivery(EVIL, b"{", {"traceparent": EVIL, "Evil": EVIL}, id=EVIL, attempt=2)
    options = DeliveryOptions(queue="bill", retry=Retry(attempts=1), dead_letter=False)
    for settling in (Kept("shop.bill", MemoryBroker(), options), Live("shop.bill")):
        subscriber = Subscriber(Work("shop", "bill", handle, None, None, None, settling), 1)
        for _ in range(6):  # the last of them is counted
            await subscriber.attempt(delivery, None)
        await subscriber.give_up(delivery, EVIL)
        await subscriber.cut_off()
    context = Context(Side.SUBSCRIBER, "shop", "bill", EVIL, {"traceparent": EVIL}, delivery=delivery)
    await LogMessages(bodies=True)(EVIL, context, handler_of(None))
    with pytest.raises(ServiceError):
        await LogMessages()(EVIL, context, handler_of(ServiceError(EVIL, code=500)))
    assert len(written) > 10
    plain = [text for text in written if "Traceback" not in text]  # a foreign formatter shows those as they are
    foreign = any(text.endswith(EVIL) for text in written)
    texts = [text.removesuffix(EVIL) for text in plain] if foreign else written
    assert [text for text in texts if not is_harmless(text)] == []


def handler_of(error: Exception | None) -> Any:
    async def handle(message: Any, context: Context) -> None:
        if error is not None:
            raise error

    return handle


def test_lines_of_the_application_and_tracebacks_are_shown_in_full_below_their_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up("info", "text")
    try:
        raise ValueError(f"first\n{FORGED}")
    except ValueError:
        logging.getLogger("shop").exception("two\nlines")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("ERROR   shop: two")
    assert lines[1:3] == ["  lines", "  Traceback (most recent call last):"]
    assert lines[3].startswith('    File "')  # as Python has it: further in than what it belongs to
    assert lines[4].startswith("      raise ValueError(")
    assert lines[-2:] == ["  ValueError: first", f"  {FORGED}"]
    assert all(line.startswith("  ") for line in lines[1:])
