"""Log set-up: lines for people, lines for programs, and what the program has set up itself stays."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from eventmicro.errors import UsageError
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
