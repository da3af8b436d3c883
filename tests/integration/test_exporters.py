"""OpenTelemetry's own exporters, by OTLP over HTTP, to a collector that takes all, is away, refuses or hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from eventmicro import Service, Topic
from eventmicro.telemetry.metering import Metering
from eventmicro.telemetry.tracing import Tracing

Mood = Literal["takes", "refuses", "hangs"]
PLACED = Topic("orders.placed", int)
WAITING, BATCH = 16, 8  # spans that the SDK may hold, and sends together
ROUNDS = 40


class Collector:
    """A collector of traces and metrics that may refuse them, or take a request and answer when it is let."""

    def __init__(self) -> None:
        self.mood: Mood = "takes"
        self.asked = threading.Semaphore(0)
        self.let = threading.Event()
        self.spans: list[Span] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Asked(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.release()
                if collector.mood == "hangs":
                    collector.let.wait(30)
                elif collector.mood == "takes":
                    collector.take(self.path, body)
                self.send_response(503 if collector.mood == "refuses" else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/metrics":
            self.metrics.append(ExportMetricsServiceRequest.FromString(body))
            return
        for traces in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({each.key: each.value.string_value for each in traces.resource.attributes})
            self.spans += [span for scope in traces.scope_spans for span in scope.spans]

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """It is away from then on: nobody listens where it was."""
        self.let.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    collector.start()
    yield collector
    collector.end()


class Telemetry:
    """The SDK, as a program sets it up, with bounds that a test can reach."""

    def __init__(self, url: str, waiting: int) -> None:
        resource = Resource({"service.name": "shop"})
        self.traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{url}/v1/traces", timeout=0.5)
        self.traces.add_span_processor(BatchSpanProcessor(exporter, waiting, 1, max_export_batch_size=BATCH))
        self.reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics", timeout=0.5), 20)
        self.metrics = MeterProvider([self.reader], resource, shutdown_on_exit=False)

    @property
    def middleware(self) -> list[Any]:
        return [Tracing(provider=self.traces), Metering(provider=self.metrics)]

    def end(self) -> None:
        self.traces.shutdown()
        self.metrics.shutdown()


async def work(telemetry: Telemetry, name: str) -> int:
    """Calls and events of a service that starts and stops; how many events were handled."""
    service, handled = Service("shop", broker=f"memory://{name}", middleware=telemetry.middleware), list[int]()

    @service.rpc
    async def double(number: int) -> int:
        await service.publish(PLACED, number)
        return 2 * number

    @service.subscribe(PLACED, concurrency=ROUNDS)
    async def bill(number: int) -> None:
        handled.append(number)

    async with service:
        for number in range(ROUNDS):
            assert await service.call("shop.double", number, int) == 2 * number
    return len(handled)


async def test_what_is_taken_is_what_was_done(collector: Collector) -> None:
    telemetry = Telemetry(collector.url, 4 * ROUNDS)
    assert await work(telemetry, "taken") == ROUNDS
    telemetry.end()
    assert collector.resources[0]["service.name"] == "shop"
    by_id = {span.span_id: span for span in collector.spans}
    kinds = {(span.name, Span.SpanKind.Name(span.kind)) for span in collector.spans}
    assert kinds == {
        ("shop/double", "SPAN_KIND_CLIENT"),
        ("shop/double", "SPAN_KIND_SERVER"),
        ("publish orders.placed", "SPAN_KIND_PRODUCER"),
        ("process orders.placed", "SPAN_KIND_CONSUMER"),
    }
    assert len(by_id) == len(collector.spans) == 4 * ROUNDS
    for span in collector.spans:  # process, publish, server, client
        if span.kind == Span.SPAN_KIND_CONSUMER:
            above = by_id[by_id[by_id[span.parent_span_id].parent_span_id].parent_span_id]
            assert (above.kind, above.parent_span_id) == (Span.SPAN_KIND_CLIENT, b"")
            assert above.trace_id == span.trace_id
    assert counted(collector.metrics[-1]) == {
        "rpc.client.call.duration": ("s", ROUNDS),
        "rpc.server.call.duration": ("s", ROUNDS),
        "messaging.client.operation.duration": ("s", ROUNDS),
        "messaging.client.sent.messages": ("{message}", ROUNDS),
        "messaging.process.duration": ("s", ROUNDS),
        "messaging.client.consumed.messages": ("{message}", ROUNDS),
    }


def counted(request: ExportMetricsServiceRequest) -> dict[str, tuple[str, int]]:
    """How many were measured under each name, with the unit."""
    found: dict[str, tuple[str, int]] = {}
    for metric in (
        metric for told in request.resource_metrics for each in told.scope_metrics for metric in each.metrics
    ):
        points = [*metric.histogram.data_points, *metric.sum.data_points]
        number = sum(each.count if metric.HasField("histogram") else each.as_int for each in points)
        found[metric.name] = (metric.unit, number)
    return found


@pytest.mark.parametrize("trouble", ["away", "refuses", "hangs"])
async def test_a_collector_in_trouble_holds_up_neither_work_nor_stop_and_what_waits_for_it_is_bounded(
    trouble: Any, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    if trouble == "away":
        collector.end()
    else:
        collector.mood = trouble
    telemetry = Telemetry(collector.url, WAITING)
    assert await work(telemetry, trouble) == ROUNDS
    if trouble == "hangs":
        assert collector.asked.acquire(timeout=10)  # it has been asked, and has answered nobody until here
        assert not collector.let.is_set()
    assert collector.spans == []
    collector.mood = "takes"
    collector.let.set()
    telemetry.end()
    assert len(collector.spans) <= WAITING + BATCH  # of 160: those that wait, and the batch on its way
    ours = [each for each in caplog.records if each.name.startswith("eventmicro") and each.levelno >= logging.WARNING]
    assert ours == []
