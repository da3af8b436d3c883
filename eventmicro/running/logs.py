"""Log set-up: where a service is run by eventmicro, and nobody has set up logging already.

What the application has set up itself stays: handlers of the root logger, and its level.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from types import TracebackType

from eventmicro.errors import UsageError
from eventmicro.fields import FIELDS, LogFields, set_process
from eventmicro.sources import said_text
from eventmicro.wire import one_line

LEVEL_VARIABLE = "EVENTMICRO_LOG_LEVEL"
FORMAT_VARIABLE = "EVENTMICRO_LOG_FORMAT"
LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")


# The longest line of text, in characters, and what stands before those that belong to the one above.
LONGEST = 16_384
INDENT = "  "

# What each record has by itself; all else is `extra=`, or what filters have put there.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def set_up(level: str = "info", format: str = "text", worker: int | None = None, service: str | None = None) -> None:
    """Send the logs of this process to stderr.

    Args:
        level: the least important level that is shown: debug, info, warning, error or critical.
        format: "text" for people, "json" for one JSON object a line.
        worker: the number of this process among several, which its lines then say.
        service: what this process runs, of several that each run another one; lines for machines say it.

    Raises:
        UsageError: there is no such level or format.
    """
    if level.lower() not in LEVELS:
        raise UsageError(f"log level {level!r}: write {', '.join(LEVELS)}")
    if format.lower() not in FORMATS:
        raise UsageError(f"log format {format!r}: write {' or '.join(FORMATS)}")
    set_process(service, worker)
    as_json = format.lower() == "json"
    handler = logging.StreamHandler()
    handler.addFilter(LogFields())
    handler.setFormatter(JsonFormatter(worker, is_one_of_several=bool(service)) if as_json else TextFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if as_json:
        sys.excepthook = _log_uncaught


def is_set_up() -> bool:
    """Whether the program has set up its logs itself."""
    return logging.getLogger().hasHandlers()


def set_up_unless_done(
    level: str, format: str, worker: int | None = None, service: str | None = None, *, is_asked: bool = True
) -> None:
    """The same where the program has not set up its logs itself, whose level stays where none is asked for.

    Raises:
        UsageError: as `set_up`.
    """
    if is_set_up():
        set_process(service, worker)
        return
    root = logging.getLogger()
    own = root.level
    set_up(level, format, worker, service)
    if own != logging.WARNING and not is_asked:  # which is Python's own
        root.setLevel(own)


def set_up_by_environment() -> None:
    """The same, by EVENTMICRO_LOG_LEVEL and EVENTMICRO_LOG_FORMAT, unless the program has set up its logs itself.

    Raises:
        UsageError: one of the two says what does not exist.
    """
    level = said_text("log_level")
    set_up_unless_done(level or "info", said_text("log_format") or "text", is_asked=level is not None)


def below_its_first(text: str) -> str:
    """A text whose further lines stand below its first one, and none of which steers a terminal."""
    first, *more = text.split("\n")
    return "\n".join(one_line(line, LONGEST) for line in (first, *(INDENT + line for line in more)))


class TextFormatter(logging.Formatter):
    """`2026-05-09 12:30:01.250 WARNING eventmicro.running.node: orders.quote: 2 cut off after 10 s`, in local time.

    What the application says by `extra=` follows its message, as `order_id=7`; what ours say is in their words already.
    Each record begins at the margin, and nothing else that belongs to it, as a traceback: whatever is in a name or in
    an error that a peer has caused, it makes no other record. Nor does it move a terminal's cursor.
    """

    default_msec_format = "%s.%03d"

    def __init__(self, worker: int | None = None) -> None:
        who = "" if worker is None else f"worker {worker} "
        super().__init__(f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return below_its_first(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  it is Python's name
        line = super().formatMessage(record)
        if record.name.startswith("eventmicro"):
            return line.replace("\n", "\\n")  # one line a fact
        return line + "".join(f" {name}={value}" for name, value in _extra(record).items() if name not in FIELDS)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message; worker and exception if there are.

    Between them stands what is said by `extra=`, and of which message the line is about; nothing that is None. One of
    several processes says its `pid`, too.
    """

    def __init__(self, worker: int | None = None, *, is_one_of_several: bool = False) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}
        self._says_pid = is_one_of_several or worker is not None

    def format(self, record: logging.LogRecord) -> str:
        form: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._worker,
            **({"pid": record.process} if self._says_pid else {}),
        }
        for name, value in _extra(record).items():
            if name != "worker" or not self._worker:
                form[name if name not in form else f"extra.{name}"] = value
        if record.exc_info:
            form["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            form["stack"] = self.formatStack(record.stack_info)
        return _to_json(form)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    """What a record has beside what each has."""
    return {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}


def _to_json(form: dict[str, object]) -> str:
    try:
        return json.dumps(form, default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, or a value within itself
        return json.dumps({name: str(value) for name, value in form.items()})


def _utc(seconds: float) -> str:
    whole, micros = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{micros:06d}Z"


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("eventmicro").critical("uncaught exception", exc_info=(kind, error, traceback))
