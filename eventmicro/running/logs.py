"""Log set-up: where a service is run by eventmicro, and nobody has set up logging already."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from types import TracebackType

from eventmicro.errors import UsageError

LEVEL_VARIABLE = "EVENTMICRO_LOG_LEVEL"
FORMAT_VARIABLE = "EVENTMICRO_LOG_FORMAT"
LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")


def set_up(level: str = "info", format: str = "text", worker: int | None = None) -> None:
    """Send the logs of this process to stderr.

    Args:
        level: the least important level that is shown: debug, info, warning, error or critical.
        format: "text" for people, "json" for one JSON object a line.
        worker: the number of this process among several, which its lines then say.

    Raises:
        UsageError: there is no such level or format.
    """
    if level.lower() not in LEVELS:
        raise UsageError(f"log level {level!r}: write {', '.join(LEVELS)}")
    if format.lower() not in FORMATS:
        raise UsageError(f"log format {format!r}: write {' or '.join(FORMATS)}")
    as_json = format.lower() == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(worker) if as_json else TextFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if as_json:
        sys.excepthook = _log_uncaught


def set_up_by_environment() -> None:
    """The same, by EVENTMICRO_LOG_LEVEL and EVENTMICRO_LOG_FORMAT, unless the program has set up its logs itself.

    Raises:
        UsageError: one of the two says what does not exist.
    """
    if not logging.getLogger().hasHandlers():
        set_up(os.environ.get(LEVEL_VARIABLE) or "info", os.environ.get(FORMAT_VARIABLE) or "text")


class TextFormatter(logging.Formatter):
    """`2026-05-09 12:30:01.250 WARNING eventmicro.running.node: orders.quote: 2 cut off after 10 s`, in local time."""

    default_msec_format = "%s.%03d"

    def __init__(self, worker: int | None = None) -> None:
        who = "" if worker is None else f"worker {worker} "
        super().__init__(f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message; worker and exception if there are."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        form: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._worker,
        }
        if record.exc_info:
            form["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            form["stack"] = self.formatStack(record.stack_info)
        return json.dumps(form)


def _utc(seconds: float) -> str:
    whole, micros = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{micros:06d}Z"


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("eventmicro").critical("uncaught exception", exc_info=(kind, error, traceback))
