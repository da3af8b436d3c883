"""Fields: what a line of the log is about, as attributes of its record, for formatters and filters of any kind."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from eventmicro.context import Context, Side, find_context
from eventmicro.message import Delivery
from eventmicro.wire import header

# What each line about an event has, the first two also any other one of a service.
FIELDS = ("service", "worker", "handler", "subject", "queue", "event_id", "key", "attempt", "trace_id", "span_id")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

# Which process this is, of several that one run keeps.
_service: str | None = None
_worker: int | None = None
# The span in which a message failed: what is said of that is said when the span has ended.
_failed: ContextVar[tuple[Context, dict[str, str]] | None] = ContextVar("eventmicro_failed", default=None)


def set_process(service: str | None, worker: int | None) -> None:
    """Say which of several processes this one is, for all further lines: of which service, and its number."""
    global _service, _worker
    _service, _worker = service, worker


def failed_in(context: Context, trace_id: int, span_id: int) -> None:
    """Say in which span a message has failed, for the lines that are said of it from now on."""
    _failed.set((context, _ids(trace_id, span_id)))


def of_handler(name: str, queue: str | None = None) -> dict[str, Any]:
    """The fields of a line that is about a handler, `orders.bill`."""
    service, _, handler = name.partition(".")
    return {"service": service, "worker": _worker, "handler": handler, "queue": queue}


def of_event(about: Mapping[str, Any], delivery: Delivery) -> dict[str, Any]:
    """The fields of a line that is about an event, beside those of its handler."""
    return {
        **about,
        "subject": delivery.subject,
        "event_id": delivery.id,
        "key": delivery.key,
        "attempt": delivery.attempt,
        **_trace(delivery.headers),
        **_failed_span_of(delivery),
    }


def of_message(context: Context) -> dict[str, Any]:
    """The fields of a line that is about a message, on any side; of what is published, those of whose handler does."""
    of = getattr(context, "message", None) or context.delivery  # what is published, or what came
    within = find_context() if context.side is Side.PUBLISHER else context
    return {
        "service": _service if within is None else within.service,
        "worker": _worker,
        "handler": None if within is None else within.endpoint,
        "subject": context.topic,
        "attempt": context.attempt,
        "event_id": context.id or getattr(of, "id", None),
        "key": getattr(of, "key", None),
        **_trace(context.metadata),
        **_span(),
        **_failed_span(context),
    }


class LogFields(logging.Filter):
    """Gives each record the fields that ours have: `service`, `worker`, `handler`, `subject`, `queue`, `event_id`,
    `key`, `attempt`, `trace_id` and `span_id`; within a handler those of its message, and None where there is nothing
    to say. The trace is that of OpenTelemetry's span, or else the one to which the message says that it belongs.

        handler.addFilter(LogFields())
        handler.setFormatter(logging.Formatter("%(levelname)s %(service)s %(event_id)s %(message)s"))

    So a line of yours that a handler logs says of which event it is, too, and none lacks what a formatter asks for.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete a record; all pass."""
        fields = vars(record)
        if not all(name in fields for name in FIELDS):
            for name, value in _at_hand().items():
                fields.setdefault(name, value)
        return True


def _at_hand() -> dict[str, Any]:
    """The fields of the message that is being handled; None each where there is none."""
    found: dict[str, Any] = dict.fromkeys(FIELDS)
    found |= {"service": _service, "worker": _worker}
    context = find_context()
    return found | (_span() if context is None else of_message(context))


def _trace(headers: Mapping[str, str] | None) -> dict[str, str]:
    """To which trace a message says that it belongs, after https://www.w3.org/TR/trace-context/; nothing where it does
    not say.
    """
    found = _TRACE.match(header(headers, "traceparent") or "")
    return {} if found is None else {"trace_id": found[1], "span_id": found[2]}


def _span() -> dict[str, str]:
    """The span that is current here, where the program has loaded OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span().get_span_context()
    return _ids(span.trace_id, span.span_id) if span.is_valid else {}


def _failed_span(context: Context | None) -> dict[str, str]:
    """The span in which the message of a context has failed."""
    found = _failed.get()
    return {} if found is None or found[0] is not context else found[1]


def _failed_span_of(delivery: Delivery) -> dict[str, str]:
    """The span in which an event has failed, alone or with others."""
    found = _failed.get()
    if found is None:
        return {}
    context, ids = found
    deliveries = context.delivery if context.is_batch else [context.delivery]
    return ids if any(each is delivery for each in deliveries) else {}


def _ids(trace_id: int, span_id: int) -> dict[str, str]:
    return {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
