"""How long calls and events take, and how many events there are, as OpenTelemetry's metrics: histograms, in seconds,
and counters.

Events that are published several at once, or in a transaction, are measured until they are written, and counted when
the broker has said what it has of them.

Names after https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/ and
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/. Each measurement costs some microseconds; what
`/metrics` of the health port tells costs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram, MeterProvider

from eventmicro.checks import check_kind
from eventmicro.context import Context, Side
from eventmicro.middleware import Handler
from eventmicro.middlewares.watched import watch
from eventmicro.telemetry.attributes import (
    CALLS,
    OTHER,
    Attributes,
    Few,
    describe,
    describe_broker,
    describe_end,
    status_code,
)
from eventmicro.telemetry.tracing import NAME

NAMES = {
    Side.CLIENT: ("rpc.client.call.duration", "Duration of calls that are made."),
    Side.ENDPOINT: ("rpc.server.call.duration", "Duration of calls that are answered."),
    Side.PUBLISHER: ("messaging.client.operation.duration", "Duration of publishing."),
    Side.SUBSCRIBER: ("messaging.process.duration", "Duration of handling events."),
}
# Events are counted beside, as a batch of them takes its time once.
COUNTS = {
    Side.PUBLISHER: (
        "messaging.client.sent.messages",
        "Events that were sent to the broker, whether it has taken them or not.",
    ),
    Side.SUBSCRIBER: ("messaging.client.consumed.messages", "Events that are handled, each attempt by itself."),
}
# The bounds that the conventions advise, in seconds.
BOUNDS: Sequence[float] = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# What names one message, of which there are too many to be counted each.
TOO_MANY = (
    "messaging.message.id",
    "messaging.message.conversation_id",
    "eventmicro.attempt",
)
# What may have very many values all the same, as peers or a program make them up; how many are told apart.
BOUNDED = {
    "messaging.destination.name": 1_000,
    "messaging.destination.template": 1_000,
    "messaging.consumer.group.name": 1_000,
    "rpc.method": 1_000,
    "rpc.response.status_code": 100,
    "error.type": 100,
}


class Metering:
    """Measures each call on both of its sides, each event that is published, and each that is handled; events are
    counted, too. Where OpenTelemetry's SDK is not set up when a client or a service starts, nothing is done.

    Args:
        provider: what takes the measurements; default: what OpenTelemetry has been given.
        destinations: whether events are told apart by their subject, also where it has neither wildcards nor named
            tokens, by which they are in any case. Leave it False where subjects have ids in them: of a thousand
            values the rest is counted together, as `_OTHER`.

    Raises:
        UsageError: one of these is none.
    """

    __eventmicro_sides__ = frozenset(Side)

    def __init__(self, *, provider: MeterProvider | None = None, destinations: bool = False) -> None:
        check_kind("provider", provider, MeterProvider | None, "a MeterProvider")
        check_kind("destinations", destinations, bool, "True or False")
        self._provider = provider
        self._destinations = destinations
        self._few = {word: Few(f"values of {word}", most) for word, most in BOUNDED.items()}

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        """As a middleware that nobody has made ready; what its broker is then is not known."""
        return await self.around(context.side, call_next, "")(message, context)

    def around(self, side: Side, inner: Handler, url: str) -> Handler:
        """The handler with a measurement around it; without an SDK the handler itself."""
        provider = self._provider or metrics.get_meter_provider()
        if not self._provider and type(provider).__module__.startswith("opentelemetry.metrics"):  # the API's own ones
            return inner
        name, about = NAMES[side]
        meter = provider.get_meter(NAME)
        made = meter.create_histogram(name, "s", about, explicit_bucket_boundaries_advisory=BOUNDS)
        counted = meter.create_counter(COUNTS[side][0], "{message}", COUNTS[side][1]) if side in COUNTS else None
        return partial(self._measured, made, counted, describe_broker(side, url), inner)

    async def _measured(
        self,
        made: Histogram,
        counted: Counter | None,
        always: Attributes,
        inner: Handler,
        message: Any,
        context: Context,
    ) -> Any:
        ended = partial(self._ended, made, counted, always, context, perf_counter())
        return await watch(inner, message, context, ended)

    def _ended(
        self,
        made: Histogram,
        counted: Counter | None,
        always: Attributes,
        context: Context,
        started: float,
        error: BaseException | None,
    ) -> None:
        seconds = perf_counter() - started
        about = self._describe(context, always, error)
        made.record(seconds, about)
        if counted is None:
            return
        together = getattr(context, "together", None)  # with others that are published at once
        if together is None:
            counted.add(len(context.delivery) if context.is_batch else 1, about)
        elif error is None:
            together.tell(getattr(context, "message", None), partial(self._sent, counted, about))

    def _sent(self, counted: Counter, about: Attributes, error: BaseException | None) -> None:
        """Count one of several that were published at once, when the broker has said what it has of them."""
        counted.add(1, about if error is None else self._bounded(about | describe_end(error)))

    def _describe(self, context: Context, always: Attributes, error: BaseException | None) -> Attributes:
        about = describe(context) | always | describe_end(error)
        if context.side in CALLS:
            about["rpc.response.status_code"] = status_code(error)
        elif not self._destinations:
            about.pop("messaging.destination.name")
        for word in TOO_MANY:
            about.pop(word, None)
        return self._bounded(about)

    def _bounded(self, about: Attributes) -> Attributes:
        for word, few in self._few.items():
            if word in about and not few.knows(about[word]):
                about[word] = OTHER
        return about
