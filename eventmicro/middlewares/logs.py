"""Structured logging: one line a message, with what becomes of it; never with a secret."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from functools import partial
from random import random
from typing import Any

from eventmicro.checks import check_count, check_kind, check_seconds, check_several, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import CallTimeout, ServiceError, UsageError
from eventmicro.fields import FIELDS, of_message
from eventmicro.forwarding import TRACEPARENT
from eventmicro.middleware import Handler
from eventmicro.middlewares.watched import GIVEN_UP, watch
from eventmicro.wire import header, header_line, one_line

HEADERS = (TRACEPARENT, "Request-Id")
# The longest body and the longest header that a line shows, in characters.
LONGEST = 200


@names_words
class LogMessages:
    """Logs a line for each message when it has ended: `endpoint orders.quote ok 0.0021 s`, with the same as attributes
    of the record: `side`, `service`, `endpoint`, `topic`, `outcome`, `code`, `error`, `seconds`, `attempt`, `headers`;
    and with those of `LogFields`: `handler`, `subject`, `key`, `event_id`, `trace_id`, `span_id`. A topic whose
    keys are names or e-mail addresses has these in the log.

    Args:
        logger: where to; a logger or its name.
        level: at which level what went well is logged; an error is a WARNING, and an ERROR where it has no code, or 500
            and more.
        sample: which share of what went well is logged, from 0 to 1; default: all, or with `slower_than` none. Errors
            are logged in any case.
        slower_than: what took at least so many seconds is logged, too, as slow.
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
        sample: float | None = None,
        slower_than: float | None = None,
        headers: Iterable[str] = HEADERS,
        bodies: bool = False,
    ) -> None:
        check_kind("logger", logger, logging.Logger | str, "logging.getLogger('calls'), or its name")
        check_count("level", level)
        check_kind("bodies", bodies, bool, "True or False")
        if slower_than is not None:
            check_seconds("slower_than", slower_than)
        self._log = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._sample = _share(sample, otherwise=1.0 if slower_than is None else 0.0)
        self._slow = math.inf if slower_than is None else slower_than
        self._headers = check_several("headers", headers, "'Request-Id'")
        self._bodies = bodies

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        ended = partial(self._ended, message, context, time.perf_counter())
        return await watch(call_next, message, context, ended)

    def _ended(self, message: Any, context: Context, started: float, error: BaseException | None) -> None:
        seconds = time.perf_counter() - started
        level = self._level if error is None else _level(error)
        if not self._log.isEnabledFor(level) or (error is None and not self._wants(seconds)):
            return
        fields = self._fields(message, context, seconds, error)
        self._log.log(level, "%s", " ".join(self._words(context, fields)), extra=fields)

    def _wants(self, seconds: float) -> bool:
        """Whether what went well is logged."""
        return seconds >= self._slow or self._sample >= 1 or random() < self._sample  # noqa: S311  no secret

    def _words(self, context: Context, fields: dict[str, Any]) -> Iterator[str]:
        yield str(fields["side"])
        yield one_line(context.topic, LONGEST)
        yield str(fields["outcome"])
        if fields["error"]:
            yield f"{fields['code']} {one_line(fields['error'], LONGEST)}"
        yield f"{fields['seconds']:.6f} s"
        if fields["seconds"] >= self._slow:
            yield "slow"
        if fields["key"]:
            yield f"key={one_line(fields['key'], LONGEST)}"
        yield from (f"{name}={value}" for name, value in fields["headers"].items())
        if fields["trace_id"] and not any(name.lower() == TRACEPARENT for name in fields["headers"]):
            yield f"trace_id={fields['trace_id']}"
        if self._bodies:
            yield f"body={fields['body']}"
        if context.attempt > 1:
            yield f"attempt {context.attempt}"

    def _fields(self, message: Any, context: Context, seconds: float, error: BaseException | None) -> dict[str, Any]:
        fields: dict[str, Any] = {
            **dict.fromkeys(FIELDS),
            **of_message(context),
            "side": context.side.value,
            "endpoint": context.endpoint,
            "topic": context.topic,
            "outcome": _outcome(error),
            "code": _code(error),
            "error": "" if error is None else type(error).__name__,
            "seconds": seconds,
        }
        said = {name: header(context.metadata, name) for name in self._headers}
        fields["headers"] = {name: header_line(value, LONGEST) for name, value in said.items() if value is not None}
        if self._bodies:
            fields["body"] = header_line(repr(message), LONGEST)
        return fields


def _share(sample: float | None, otherwise: float) -> float:
    if sample is None:
        return otherwise
    if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
        raise UsageError(f"sample={sample!r}: write a share of what goes well, from 0 to 1")
    return sample


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, GIVEN_UP):
        return "cancelled"
    return "timeout" if isinstance(error, CallTimeout) else "error"


def _code(error: BaseException | None) -> int:
    """The status code; what is no ServiceError is answered as 500."""
    if error is None:
        return 200
    if isinstance(error, GIVEN_UP):
        return 499
    return error.code if isinstance(error, ServiceError) else 500


def _level(error: BaseException) -> int:
    return logging.ERROR if _code(error) >= 500 else logging.WARNING
