"""eventmicro with OpenTelemetry: not set up, a hundredth of all calls and events traced, and all of them."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.nats.eventmicro import EventMicro
from eventmicro.telemetry.tracing import Tracing


class Nowhere(SpanExporter):
    """Where the spans go: what exporting costs is another's."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


class Off(EventMicro):
    """The middleware without an SDK."""

    middleware = (Tracing(),)


class Sampled(EventMicro):
    """A hundredth is traced, from end to end: whoever sends decides which, and whoever takes it goes on with that."""

    middleware = (Tracing(sample=0.01, provider=provider()),)
    takes_with = (Tracing(sample=0, provider=provider()),)


class Traced(EventMicro):
    """All is traced."""

    middleware = (Tracing(provider=provider()),)
