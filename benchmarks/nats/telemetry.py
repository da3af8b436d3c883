"""eventmicro with OpenTelemetry: not set up, a hundredth of all calls and events traced, and all of them."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.nats.eventmicro import EventMicro
from eventmicro.telemetry.tracing import Tracing


class Nowhere(SpanExporter):
    """Where the spans go: what exporting costs is another's."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(Nowhere()))
    return made


class Off(EventMicro):
    """The middleware without an SDK."""

    middleware = (Tracing(),)


class Sampled(EventMicro):
    """A hundredth is traced."""

    middleware = (Tracing(sample=0.01, provider=provider()),)


class Traced(EventMicro):
    """All is traced."""

    middleware = (Tracing(provider=provider()),)
