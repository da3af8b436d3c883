"""What services have done, as Prometheus reads it: its text format, version 0.0.4, written when somebody asks for it.

https://prometheus.io/docs/instrumenting/exposition_formats/, and for names and units
https://prometheus.io/docs/practices/naming/. It is written by hand, as it is little, and the client library takes
three times as long for a thousand endpoints as a scrape may; what that library has of the program's own metrics is put
behind it, where the program has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from eventmicro.discovery.report import HandlerStatistics, NodeStatistics, QueueFigures
from eventmicro.handlers.statistics import BOUNDS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What Prometheus writes for the last bucket, which we call `more`.
_BOUNDS = (*BOUNDS[:-1], "+Inf")

Samples = Callable[[str, Any, str], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, what it is, and what is to be said of it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Samples
    """The lines of one handler, service or broker; gets the name, its figures and its labels."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names that its samples have."""
        if self.kind == "histogram":
            return f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count"
        return (self.name,)


def _count(count: Callable[[Any], float | None]) -> Samples:
    def samples(name: str, figures: Any, labels: str) -> Iterator[str]:
        if (number := count(figures)) is not None:
            yield f"{name}{{{labels}}} {number}\n"

    return samples


def _of_queue(count: Callable[[QueueFigures], float | None]) -> Samples:
    def samples(name: str, figures: HandlerStatistics, labels: str) -> Iterator[str]:
        queue = figures.queue
        if queue is not None and (number := count(queue)) is not None:
            yield f'{name}{{{labels},queue="{_escape(queue.name)}"}} {number}\n'

    return samples


def _dead_letters(name: str, figures: HandlerStatistics, labels: str) -> Iterator[str]:
    """Those that stand, be they waiting or, looked at by somebody, unsettled."""
    queue = figures.letters
    if queue is not None and queue.waiting is not None:
        yield f'{name}{{{labels},queue="{_escape(queue.name)}"}} {queue.waiting + (queue.unsettled or 0)}\n'


def _by_code(name: str, figures: HandlerStatistics, labels: str) -> Iterator[str]:
    for code, count in sorted(figures.errors.items()):
        yield f'{name}{{{labels},code="{code}"}} {count}\n'


def _histogram(name: str, figures: HandlerStatistics, labels: str) -> Iterator[str]:
    counts = list(accumulate(figures.latency.get(bound, 0) for bound in BOUNDS))
    for bound, count in zip(_BOUNDS, counts, strict=True):
        yield f'{name}_bucket{{{labels},le="{bound}"}} {count}\n'
    yield f"{name}_sum{{{labels}}} {figures.seconds}\n{name}_count{{{labels}}} {counts[-1]}\n"


def _shared(what: str, handled: str) -> tuple[Metric, ...]:
    """What endpoints and subscribers both have."""
    return (
        Metric(
            f"eventmicro_{what}_total",
            "counter",
            f"{handled} handled to their end, whatever became of them.",
            _count(lambda figures: figures.count),
        ),
        Metric(
            f"eventmicro_{what}_failed_total",
            "counter",
            f"{handled} that ended with an error, by its code.",
            _by_code,
        ),
        Metric(
            f"eventmicro_{what}_duration_seconds",
            "histogram",
            f"How long {handled.lower()} took.",
            _histogram,
        ),
        Metric(
            f"eventmicro_{what}_in_flight",
            "gauge",
            f"{handled} that wait for something at this moment.",
            _count(lambda figures: figures.in_flight),
        ),
        Metric(
            f"eventmicro_{what}_dropped_total",
            "counter",
            f"{handled} lost on this side, as they came faster than they were handled.",
            _count(lambda figures: figures.dropped),
        ),
    )


OF_ENDPOINTS = _shared("calls", "Calls")


def _gauge_of_queue(what: str, help: str, count: Callable[[QueueFigures], float | None]) -> Metric:
    return Metric(f"eventmicro_queue_{what}", "gauge", help, _of_queue(count))


OF_SUBSCRIBERS = (
    *_shared("events", "Events"),
    Metric(
        "eventmicro_events_retried_total",
        "counter",
        "Attempts that failed and come again.",
        _count(lambda figures: figures.retried),
    ),
    Metric(
        "eventmicro_events_dead_letters_total",
        "counter",
        "Events that were given up.",
        _count(lambda figures: figures.dead_letters),
    ),
    Metric(
        "eventmicro_events_unsettled",
        "gauge",
        "Events that handlers have left to be settled later.",
        _count(lambda figures: figures.unsettled),
    ),
    _gauge_of_queue("waiting", "Events of a durable queue that no consumer has.", lambda queue: queue.waiting),
    _gauge_of_queue("unsettled", "Events of a durable queue with its consumers.", lambda queue: queue.unsettled),
    _gauge_of_queue("consumers", "How many take the events of a durable queue.", lambda queue: queue.consumers),
    _gauge_of_queue(
        "oldest_timestamp_seconds",
        "When the oldest event of a durable queue was stored.",
        lambda queue: None if queue.oldest is None else queue.oldest.timestamp(),
    ),
    Metric(
        "eventmicro_queue_dead_letters",
        "gauge",
        "Dead letters of a durable queue that are there, under the name of their own.",
        _dead_letters,
    ),
)
OF_SERVICES = (
    Metric(
        "eventmicro_published_total",
        "counter",
        "Events that the broker has taken.",
        _count(lambda figures: figures.published),
    ),
    Metric(
        "eventmicro_publish_failed_total",
        "counter",
        "Events that the broker has not taken.",
        _count(lambda figures: figures.publish_failed),
    ),
    Metric(
        "eventmicro_publish_buffered",
        "gauge",
        "Events that wait in memory for a broker that is away.",
        _count(lambda figures: figures.publish_buffered),
    ),
)
OF_BROKERS = (
    Metric(
        "eventmicro_broker_online",
        "gauge",
        "Whether the connection to a broker stands.",
        _count(lambda figures: int(figures.online)),
    ),
    Metric(
        "eventmicro_broker_reconnects_total",
        "counter",
        "How often a lost connection was made again.",
        _count(lambda figures: figures.reconnects),
    ),
)


def write_metrics(nodes: Iterable[NodeStatistics]) -> str:
    """The figures of these nodes; their labels are `service` and `endpoint`, `subscriber` or `broker`."""
    nodes = list(nodes)
    lines = ["# HELP eventmicro_service_info The services of this process.\n# TYPE eventmicro_service_info gauge\n"]
    for node in nodes:
        about = f'service="{node.service}",version="{_escape(node.version)}",node="{_escape(node.node)}"'
        lines.append(f"eventmicro_service_info{{{about}}} 1\n")
    endpoints = [(f'service="{n.service}",endpoint="{each.name}"', each) for n in nodes for each in n.endpoints]
    subscribers = [(f'service="{n.service}",subscriber="{each.name}"', each) for n in nodes for each in n.subscribers]
    brokers = [(f'service="{n.service}",broker="{_escape(each.url)}"', each) for n in nodes for each in n.brokers]
    services = [(f'service="{n.service}"', n) for n in nodes]
    told: tuple[tuple[Sequence[Metric], Sequence[tuple[str, Any]]], ...] = (
        (OF_ENDPOINTS, endpoints),
        (OF_SUBSCRIBERS, subscribers),
        (OF_SERVICES, services),
        (OF_BROKERS, brokers),
    )
    for metrics, parts in told:
        for metric in metrics:
            lines.append(f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n")
            for labels, figures in parts:
                lines.extend(metric.samples(metric.name, figures, labels))
    return "".join(lines)


def own_metrics() -> str:
    """What the program itself counts by prometheus-client, in its default registry; nothing where it does not."""
    if "prometheus_client" not in sys.modules:
        return ""
    from prometheus_client import REGISTRY, generate_latest

    return generate_latest(REGISTRY).decode()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
