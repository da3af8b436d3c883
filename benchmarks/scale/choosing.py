"""What discovery costs: a choice among very many nodes, the figures in which each message is counted, and a registry
that knows very many services.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import aclosing
from typing import Any, cast

from benchmarks.load import Result
from benchmarks.scale.resident import resident
from eventmicro.discovery.cache import View
from eventmicro.discovery.strategies import STRATEGIES, make_selector
from eventmicro.handlers.statistics import Statistics
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import Change, EndpointRecord, NodeRecord, Registry, ServiceRecord
from eventmicro.selector import Choice

# How many nodes each service has whose registry is measured.
NODES = 10
# How many choices are timed at once.
CHOICES = 1_000
# How many countings are.
COUNTS = 10_000
SCHEMA = {"type": "object", "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer"}}}


def record(service: str, node: str) -> ServiceRecord:
    """What a node with three endpoints registers."""
    endpoints = [EndpointRecord(name=name, request=SCHEMA, reply=SCHEMA) for name in ("quote", "place", "cancel")]
    address = f"{service}.$node.{node}"
    return ServiceRecord(
        name=service, version="1.0.0", endpoints=endpoints, nodes=[NodeRecord(id=node, address=address)]
    )


async def choose(number: int, seconds: float) -> Result:
    """The microseconds of CPU time of a choice among so many nodes, by each selector; and the bytes of a node."""
    gc.collect()
    before = resident()
    view = View("orders", "memory://")
    for node in range(number):
        view.apply(Change("create", record("orders", f"node-{node}")))
    nodes = view.nodes()
    bytes_each = (resident() - before) / number
    return {
        "choice_us": {name: _time_choices(name, nodes, seconds) for name in STRATEGIES},
        "bytes_each": bytes_each,
    }


def _time_choices(name: str, nodes: Any, seconds: float) -> float:
    select = make_selector(name)
    choices = [Choice("orders", "quote", f"customer-{number}") for number in range(CHOICES)]
    best, end = float("inf"), time.perf_counter() + seconds / len(STRATEGIES)
    while best == float("inf") or time.perf_counter() < end:
        started, done = time.process_time(), 0
        for choice in choices:
            select(nodes, choice)
            done += 1
            if done >= 10 and time.perf_counter() > end:
                break
        best = min(best, (time.process_time() - started) / done * 1e6)
    return best


async def count(number: int, seconds: float) -> Result:
    """The microseconds of CPU time that counting takes of each of so many messages that were handled together."""
    statistics = Statistics()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.process_time()
        for _ in range(COUNTS):
            statistics.handled(number, 0.0003)
        best = min(best, (time.process_time() - started) / (COUNTS * number) * 1e6)
    return {"counting_us": best}


async def register(url: str, number: int) -> Result:
    """So many services with ten nodes each: how long it takes to register, get, list and watch them, in memory and in a
    bucket of JetStream.
    """
    from eventmicro_nats.registry import NatsRegistry

    registries: dict[str, Registry] = {
        "memory": MemoryRegistry("memory://many"),
        "nats": NatsRegistry(url.replace("jetstream://", "nats://")),
    }
    return {name: await _registry(registry, number) for name, registry in registries.items()}


async def _registry(registry: Registry, number: int) -> dict[str, float]:
    await registry.connect()
    try:
        records = [record(f"service-{service}", f"node-{node}") for service in range(number) for node in range(NODES)]
        register_us = await _time(len(records), _all(registry, records))
        get_us = await _time(100, _get(registry, number))
        list_us = await _time(len(records), registry.list_services())
        watch_us = await _time(len(records), _watch(registry, len(records)))
        return {"register_us": register_us, "get_us": get_us, "list_us": list_us, "watch_us": watch_us}
    finally:
        await registry.close()


async def _time(number: int, work: Any) -> float:
    """The microseconds that each of so many took."""
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) / number * 1e6


async def _all(registry: Registry, records: list[ServiceRecord]) -> None:
    for begin in range(0, len(records), 100):
        await asyncio.gather(*(registry.register(each, ttl=600) for each in records[begin : begin + 100]))


async def _get(registry: Registry, number: int) -> None:
    for turn in range(100):
        found = await registry.get_service(f"service-{turn * 7 % number}")
        assert len(found[0].nodes) == NODES


async def _watch(registry: Registry, number: int) -> None:
    seen = 0
    async with aclosing(cast("Any", registry.watch())) as changes:
        async for change in changes:
            seen += change.action == "create"
            if change.action == "synced":
                assert seen >= number
                return
