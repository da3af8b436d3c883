"""Structured logging: one line a message, with what becomes of it; never with a secret."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from eventmicro.checks import check_count, check_kind, check_several, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import CallTimeout, ServiceError
from eventmicro.middleware import Handler
from eventmicro.middlewares.watched import watch
from eventmicro.wire import header, header_line

HEADERS = ("traceparent", "Request-Id")
# The longest body and the longest header that a line shows, in characters.
LONGEST = 200


@names_words
class LogMessages:
    """Logs a line for each message when it has ended: `endpoint orders.quote ok 0.0021 s`, with the same as attributes
    of the record: `side`, `service`, `endpoint`, `topic`, `outcome`, `code`, `error`, `seconds`, `attempt`, `headers`.

    Args:
        logger: where to; a logger or its name.
        level: at which level what went well is logged; an error is a WARNING, and an ERROR where it has no code, or 500
            and more.
        headers: the headers that are logged, where they are there; no others are.
        bodies: whether the message is logged, too, the first 200 characters of it; it may hold what nobody should read.

    Raises:
        UsageError: one of these is none.
    """

    __eventmicro_sides__ = frozenset(Side)

    def __init__(
        self,
        logger: logging.Logger | str = "eventmicro.messages",
        *,
        level: int = logging.INFO,
        headers: Iterable[str] = HEADERS,
        bodies: bool = False,
    ) -> None:
        check_kind("logger", logger, logging.Logger | str, "logging.getLogger('calls'), or its name")
        check_count("level", level)
        check_kind("bodies", bodies, bool, "True or False")
        self._log = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._headers = check_several("headers", headers, "'Request-Id'")
        self._bodies = bodies

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        ended = partial(self._ended, message, context, time.perf_counter())
        return await watch(call_next, message, context, ended)

    def _ended(self, message: Any, context: Context, started: float, error: BaseException | None) -> None:
        level = self._level if error is None else _level(error)
        if not self._log.isEnabledFor(level):
            return
        fields = self._fields(message, context, time.perf_counter() - started, error)
        words = [str(fields["side"]), str(fields["topic"]), str(fields["outcome"])]
        if error is not None:
            words.append(f"{fields['code']} {fields['error']}")
        words.append(f"{fields['seconds']:.6f} s")
        words += [f"{name}={value}" for name, value in fields["headers"].items()]
        if self._bodies:
            words.append(f"body={fields['body']}")
        if context.attempt > 1:
            words.append(f"attempt {context.attempt}")
        self._log.log(level, "%s", " ".join(words), extra=fields)

    def _fields(self, message: Any, context: Context, seconds: float, error: BaseException | None) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "side": context.side.value,
            "service": context.service,
            "endpoint": context.endpoint,
            "topic": context.topic,
            "outcome": _outcome(error),
            "code": _code(error),
            "error": "" if error is None else type(error).__name__,
            "seconds": seconds,
            "attempt": context.attempt,
        }
        said = {name: header(context.metadata, name) for name in self._headers}
        fields["headers"] = {name: header_line(value, LONGEST) for name, value in said.items() if value is not None}
        if self._bodies:
            fields["body"] = header_line(repr(message), LONGEST)
        return fields


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "timeout" if isinstance(error, CallTimeout) else "error"


def _code(error: BaseException | None) -> int:
    """The status code; what is no ServiceError is answered as 500."""
    if error is None:
        return 200
    if isinstance(error, asyncio.CancelledError):
        return 499
    return error.code if isinstance(error, ServiceError) else 500


def _level(error: BaseException) -> int:
    return logging.ERROR if _code(error) >= 500 else logging.WARNING
