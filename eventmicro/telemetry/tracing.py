"""Traces of calls and events, by OpenTelemetry, over processes by the headers that its propagators write.

Spans are named and described after https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/ and
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from contextvars import Token
from functools import lru_cache, partial
from random import random
from typing import Any, NamedTuple

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer, TracerProvider

from eventmicro.checks import check_kind
from eventmicro.context import Context, Received, Side, find_context
from eventmicro.errors import ServiceError, Settlement, UsageError
from eventmicro.fields import failed_in
from eventmicro.forwarding import TRACEPARENT, TRACESTATE
from eventmicro.message import Delivery
from eventmicro.middleware import Handler
from eventmicro.middlewares.watched import GIVEN_UP, Ended, Watched, failure, is_stream
from eventmicro.telemetry.attributes import (
    CALLS,
    Attributes,
    Few,
    describe,
    describe_broker,
    describe_call,
    describe_end,
    describe_place,
    sayable,
    status_code,
)
from eventmicro.wire import without

NAME = "eventmicro"
KINDS = {
    Side.CLIENT: SpanKind.CLIENT,
    Side.ENDPOINT: SpanKind.SERVER,
    Side.PUBLISHER: SpanKind.PRODUCER,
    Side.SUBSCRIBER: SpanKind.CONSUMER,
}
COMES_IN = (Side.ENDPOINT, Side.SUBSCRIBER)
# Of how many failed attempts it is remembered which span was theirs.
REMEMBERED = 1_000
# How many names of spans there may be before they are named by what is done alone: tools group by them.
NAMES = 1_000


class Tracing:
    """A span for each call, on both of its sides, for each event that is published, and for each that is handled.

    Traces go on where the headers of a message say so, and begin where they say nothing. Where OpenTelemetry's SDK is
    not set up when a client or a service starts, nothing is done. Put it first: what stands before it is outside of the
    spans.

    Args:
        sample: which share of what begins here is traced, from 0 to 1. Less than 1 is far cheaper than a sampler of the
            SDK, as the rest gets neither a span nor a header; a service that it calls may then begin a trace itself.
            What a handler calls and publishes is traced as the handler is, so that no trace begins amidst it.
            What comes with a trace goes on with it, sampled or not, as that says.
        provider: what makes the spans; default: what OpenTelemetry has been given.

    Raises:
        UsageError: one of these is none.
    """

    __eventmicro_sides__ = frozenset(Side)

    def __init__(self, *, sample: float = 1.0, provider: TracerProvider | None = None) -> None:
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
            raise UsageError(f"sample={sample!r}: write a share of what begins here, from 0 to 1")
        check_kind("provider", provider, TracerProvider | None, "a TracerProvider")
        self._sample = sample
        self._provider = provider
        self._attempts = Attempts()
        self._names = Few("names of spans", NAMES)
        self._wanted = False
        self._has_handlers = False

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        """As a middleware that nobody has made ready; what its broker is then is not known."""
        return await self.around(context.side, call_next, "")(message, context)

    def around(self, side: Side, inner: Handler, url: str) -> Handler:
        """The handler with spans around it; without an SDK the handler itself."""
        provider = self._provider or trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
            return inner
        spans = Spans(provider.get_tracer(NAME), side, url, inner, self._attempts, self._names)
        if self._sample == 1:
            return spans.run
        self._has_handlers = self._has_handlers or side in COMES_IN
        return self._coming_in(spans, inner) if side in COMES_IN else self._going_out(spans, inner)

    def passes(self) -> bool:
        """Whether it leaves alone what is about to be called or published: asked before anything is made for it."""
        is_told = self._has_handlers and find_context() is not None  # of a handler it was asked when its message came
        if (is_told or random() >= self._sample) and not (  # noqa: S311  no secret
            (here := otel.get_current()) and is_traced(here)
        ):
            self._wanted = False  # as where what was wanted before was refused on its way
            return True
        self._wanted = True  # on its way it is not asked again
        return False

    def _coming_in(self, spans: Spans, inner: Handler) -> Handler:
        """Traces what comes with a trace, and its share of the rest."""
        sample, run, origin_of = self._sample, spans.run, spans.origin_of

        def handle(message: Any, context: Context) -> Awaitable[Any]:
            if type(context) is Received and not context.came.headers:  # as nearly all are: soon told
                is_traced, origin = False, None
            else:
                origin = origin_of(context)
                is_traced = origin.is_traced
            if is_traced or random() < sample:  # noqa: S311  no secret
                return run(message, context, origin)
            return inner(message, context)

        return handle

    def _going_out(self, spans: Spans, inner: Handler) -> Handler:
        """Traces what is sent within a trace, and its share of the rest."""

        def handle(message: Any, context: Context) -> Awaitable[Any]:
            if not self._wanted and self.passes():
                return inner(message, context)
            self._wanted = False
            return spans.run(message, context)

        return handle


def is_traced(here: otel.Context) -> bool:
    """Whether there is a trace here that may go on."""
    return trace.get_current_span(here) is not trace.INVALID_SPAN


class Origin(NamedTuple):
    """Where a message comes from.

    parent: what is around it, with what its headers have brought.
    batch: of a batch, to which span each of its messages belongs; an invalid one where it says nothing.
    is_traced: whether it has said to which trace it belongs.
    """

    parent: otel.Context
    batch: Sequence[SpanContext]
    is_traced: bool


class Spans:
    """Makes the spans of one side of a client or service, around what it handles.

    Args:
        url: the broker's, without passwords; empty: it is not known.
        inner: what is handled within.
        attempts: the spans of what has failed before.
        names: those that spans have.
    """

    def __init__(self, tracer: Tracer, side: Side, url: str, inner: Handler, attempts: Attempts, names: Few) -> None:
        self._tracer = tracer
        self._kind = KINDS[side]
        self._is_call = side in CALLS
        self._comes_in = side in COMES_IN
        self._is_event = side is Side.SUBSCRIBER
        self._always = always = describe_broker(side, url)
        self._system = always.get("messaging.system")
        self._names = names
        self._inner = inner
        self._attempts = attempts
        self._about_call = lru_cache(NAMES)(lambda service, endpoint: describe_call(service, endpoint) | always)

    def origin_of(self, context: Context) -> Origin:
        """Where a message that came comes from."""
        here = otel.get_current()
        if context.is_batch:
            deliveries: list[Delivery] = context.delivery
            batch = [trace_of(each.headers or {}) for each in deliveries]
            return Origin(here, batch, any(each.is_valid for each in batch))
        if not context.metadata:
            return Origin(here, (), False)
        parent = brought(context.metadata, here)
        if parent is here:
            return Origin(here, (), False)
        span = trace.get_current_span(parent)
        return Origin(parent, (), span.get_span_context().is_valid and span is not trace.get_current_span(here))

    async def run(self, message: Any, context: Context, origin: Origin | None = None) -> Any:
        """Handle it within a span of its own, which is the current one meanwhile."""
        if self._comes_in:
            origin = origin or self.origin_of(context)
            parent, batch = origin.parent, origin.batch
        else:
            parent, batch = otel.get_current(), ()
        span = self._start(context, parent, batch)
        inside = trace.set_span_in_context(span, parent)
        before = otel.attach(inside)
        try:
            if not self._comes_in:
                _forget_trace(context.metadata)
                inject(context.metadata)
            reply = await self._inner(message, context)
        except BaseException as error:
            self._ended(span, context, failure(error, context))
            raise
        finally:
            _leave(inside, before)
        if is_stream(reply.__class__):
            ended = partial(self._ended, span, context)
            return Spanned(reply, ended, inside) if self._comes_in else Watched(reply, ended)
        self._ended(span, context, None)
        return reply

    def _start(self, context: Context, parent: otel.Context, batch: Sequence[SpanContext]) -> Span:
        if self._is_call:
            about: Attributes = self._about_call(context.service, context.endpoint)
            return self._tracer.start_span(str(about["rpc.method"]), parent, self._kind, about)
        about = describe(context) | self._always | describe_place(context, self._system)
        links = [Link(each) for each in batch if each.is_valid]
        if self._is_event and (earlier := self._attempts.of(context)) is not None:
            links.append(Link(earlier, {"eventmicro.link": "earlier attempt"}))
        if len(batch) > 1:
            about["messaging.batch.message_count"] = len(batch)
        return self._tracer.start_span(self._name(about), parent, self._kind, about, links)

    def _name(self, about: Attributes) -> str:
        operation = about["messaging.operation.name"]
        name = f"{operation} {about.get('messaging.destination.template') or about['messaging.destination.name']}"
        return name if self._names.knows(name) else str(operation)

    def _ended(self, span: Span, context: Context, error: BaseException | None) -> None:
        if self._is_call:
            span.set_attribute("rpc.response.status_code", status_code(error))
        if self._is_event:
            self._attempts.ended(context, span.get_span_context() if error is not None else None)
        if error is not None and not isinstance(error, Settlement):
            span.set_attributes(describe_end(error))
            if isinstance(error, ServiceError) and error.attempts > 1:
                span.set_attribute("eventmicro.attempts", error.attempts)
            is_answer = self._comes_in and isinstance(error, ServiceError) and not error.is_failure
            if not is_answer:
                told = sayable(str(error)[:200]) if isinstance(error, ServiceError) else None
                span.set_status(Status(StatusCode.ERROR, told))
            if self._comes_in and not isinstance(error, (ServiceError, *GIVEN_UP)):
                span.record_exception(error)
        if error is not None and self._comes_in:
            ids = span.get_span_context()
            failed_in(context, ids.trace_id, ids.span_id)
        span.end()


class Spanned(Watched):
    """What a handler yields: each of its steps is within the span, so that what it calls there belongs to that."""

    def __init__(self, stream: Any, ended: Ended, inside: otel.Context) -> None:
        super().__init__(stream, ended)
        self._inside = inside

    async def __anext__(self) -> Any:
        before = otel.attach(self._inside)
        try:
            return await super().__anext__()
        finally:
            inside, self._inside = self._inside, otel.get_current()  # a span of the handler's own may be open
            _leave(inside, before)

    async def aclose(self) -> None:
        before = otel.attach(self._inside)
        try:
            await super().aclose()
        finally:
            _leave(self._inside, before)


def _leave(inside: otel.Context, before: Token[otel.Context]) -> None:
    """Make what was the current context the current one again, unless it is the garbage collector that ends this,
    amidst something else.
    """
    if sys.exc_info()[0] is not GeneratorExit or otel.get_current() is inside:
        otel.detach(before)


class Attempts:
    """The spans of attempts that have failed in this process, so that the next one of an event can link to them."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, SpanContext] = OrderedDict()

    def of(self, context: Context) -> SpanContext | None:
        """The one before; None: it is the first, or another process has had it."""
        return self._failed.get(context.id) if context.attempt > 1 else None

    def ended(self, context: Context, failed: SpanContext | None) -> None:
        """An attempt has ended."""
        if failed is None:
            if self._failed:
                self._failed.pop(context.id, None)
        elif context.id:
            self._failed[context.id] = failed
            if len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)


class Headers(Getter[Mapping[str, Any]]):
    """Reads headers that are in small letters, as propagators ask for them."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return None if value is None else [str(value)]

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


HEADERS = Headers()


def trace_of(headers: Mapping[str, str]) -> SpanContext:
    """The span to which headers say that a message belongs; an invalid one where they say nothing."""
    return trace.get_current_span(brought(headers, otel.Context())).get_span_context()


def brought(headers: Mapping[str, str], here: otel.Context) -> otel.Context:
    """A context with what the headers of a message have brought, whose names peers write in any case."""
    return extract({name.lower(): value for name, value in headers.items()}, here, HEADERS)


def _forget_trace(headers: dict[str, str]) -> None:
    """Take out to which trace the message that is handled belongs: it may have gone on by itself."""
    if headers:
        for name in (TRACEPARENT, TRACESTATE):
            without(headers, name)
