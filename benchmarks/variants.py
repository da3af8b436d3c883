"""What is measured, by name. A rival's module is imported only in the processes in which it runs."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

RPC = {
    "raw": "benchmarks.nats.raw:Raw",
    "faststream": "benchmarks.nats.faststream:FastStream",
    "eventmicro": "benchmarks.nats.eventmicro:EventMicro",
    "eventmicro+mw+di": "benchmarks.nats.eventmicro:WithMiddleware",
    "eventmicro+trace": "benchmarks.nats.eventmicro:WithTrace",
    "eventmicro+stub": "benchmarks.nats.eventmicro:WithStub",
    "eventmicro+resilient": "benchmarks.nats.eventmicro:Resilient",
    "eventmicro+directed": "benchmarks.nats.eventmicro:Directed",
    "eventmicro-registry": "benchmarks.nats.eventmicro:Unregistered",
    "eventmicro+otel-off": "benchmarks.nats.telemetry:Off",
    "eventmicro+otel-1%": "benchmarks.nats.telemetry:Sampled",
    "eventmicro+otel": "benchmarks.nats.telemetry:Traced",
    "eventmicro+msgpack": "benchmarks.nats.content_types:Msgpack",
    "eventmicro+struct": "benchmarks.nats.content_types:Structs",
    "eventmicro+struct+msgpack": "benchmarks.nats.content_types:MsgpackStructs",
    "eventmicro+protobuf": "benchmarks.nats.content_types:Protobuf",
}
# With OpenTelemetry.
TELEMETRY = ("eventmicro+otel-off", "eventmicro+otel-1%", "eventmicro+otel")
# With other messages than pydantic's JSON.
MESSAGES = ("eventmicro+msgpack", "eventmicro+struct", "eventmicro+struct+msgpack", "eventmicro+protobuf")
CALLS_ONLY = (
    "eventmicro+trace",
    "eventmicro+stub",
    "eventmicro+resilient",
    "eventmicro+directed",
    "eventmicro-registry",
    *MESSAGES,
)
# What runs on uvloop in place of asyncio's own event loop.
UVLOOP = "+uvloop"
RPC |= {name + UVLOOP: RPC[name] for name in ("raw", "eventmicro")}
EVENTS = {name: path for name, path in RPC.items() if name not in CALLS_ONLY}
# In one process, over memory://; there is no rival beside it.
MEMORY = "eventmicro memory"

DURABLE = {
    broker: {
        "raw": f"benchmarks.{broker}.raw:Raw",
        "faststream": f"benchmarks.{broker}.faststream:FastStream",
        "eventmicro": f"benchmarks.durable:{ours}",
    }
    for broker, ours in (("jetstream", "WithStream"), ("rabbitmq", "WithPrefetch"), ("kafka", "EventMicro"))
}
# Who fills the backlog of all rivals, where that tells what reading it costs: Kafka keeps batches as they were sent.
FILLER = {"kafka": "raw"}
# How many events a backlog has for each second that a run is to take; what raw clients work off, roughly.
BACKLOG = {"jetstream": 30_000, "rabbitmq": 8_000, "kafka": 100_000}

BROKERS = ("nats", *DURABLE)
VARIANTS = (*RPC, MEMORY)


def load(broker: str, variant: str) -> Any:
    """The peer of a variant: a Peer on nats, on all others a DurablePeer."""
    paths = RPC if broker == "nats" else DURABLE[broker]
    module, _, name = paths[variant.removesuffix(" memory")].partition(":")
    return getattr(import_module(module), name)()


def missing() -> dict[str, str]:
    """The variants that cannot run here, and why."""
    lacking = {"faststream": ("faststream", "orjson"), "raw" + UVLOOP: ("uvloop",), "eventmicro" + UVLOOP: ("uvloop",)}
    lacking |= dict.fromkeys(TELEMETRY, ("opentelemetry.sdk",))
    lacking |= dict.fromkeys(MESSAGES, ("msgspec", "google"))
    needed = {name: [each for each in packages if find_spec(each) is None] for name, packages in lacking.items()}
    return {name: f"pip install {' '.join(packages)}" for name, packages in needed.items() if packages}


def loop_factory(variant: str) -> Callable[[], AbstractEventLoop] | None:
    """What makes the event loop that a variant runs on; None: asyncio's own."""
    if not variant.endswith(UVLOOP):
        return None
    factory: Callable[[], AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory
