"""What a client knows of services: looked up once, kept up to date, used on while the registry is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from eventmicro import Unavailable, UsageError
from eventmicro.discovery import cache as module
from eventmicro.discovery.cache import FILTERED, ServiceCache, View
from eventmicro.discovery.filters import version
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import Change, NodeRecord, ServiceRecord
from eventmicro.selector import Node
from tests.unit.discovery.kit import Steered, record

Until = Callable[[Callable[[], object]], Awaitable[None]]


async def test_there_is_one_look_for_all_who_wait_and_none_after_it() -> None:
    registry = Steered("one look")
    await registry.connect()
    await registry.register(record(), ttl=30)
    cache = ServiceCache(registry)
    views = await asyncio.gather(*(cache.look("orders") for _ in range(50)))
    assert len(set(views)) == 1
    assert registry.watches == 1
    assert [node.id for node in views[0].nodes()] == ["1"]
    assert cache.known("orders") is views[0]
    assert cache.known("payments") is None
    await cache.close()
    assert registry.watches == 0


async def test_a_service_that_nobody_runs_is_known_to_be_empty_and_seen_when_it_comes(until: Until) -> None:
    registry = Steered("empty")
    await registry.connect()
    cache = ServiceCache(registry)
    view = await cache.look("orders")
    assert view.nodes() == ()
    await registry.register(record(), ttl=30)
    await until(view.nodes)
    node = view.nodes()[0]
    await registry.register(record(version="2.0.0"), ttl=30)
    await until(lambda: node.version == "2.0.0")
    assert view.nodes()[0] is node
    await registry.deregister(record())
    await until(lambda: not view.nodes())
    await cache.close()


async def test_a_registry_that_was_never_there_is_told_in_time() -> None:
    registry = Steered("never")
    registry.away = True
    cache = ServiceCache(registry)
    with pytest.raises(Unavailable, match=r"did not say within 0\.05 s who serves 'orders'"):
        await cache.look("orders", 0.05)
    registry.away = False
    await registry.connect()
    module_again = module.AGAIN
    module.AGAIN = 0.01
    try:
        assert (await cache.look("orders", 5.0)).nodes() == ()
    finally:
        module.AGAIN = module_again
    await cache.close()


async def test_what_was_said_last_is_used_and_marked_while_the_registry_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "eventmicro")
    view = View("orders", "memory://")
    for change in (Change("create", record()), Change("synced")):
        view.apply(change)
    assert (view.stale, len(view.nodes())) == (False, 1)
    view.apply(Change("lost"))
    assert (view.stale, len(view.nodes())) == (True, 1)
    view.apply(Change("delete", record()))
    view.apply(Change("synced"))
    assert (view.stale, len(view.nodes())) == (False, 0)


async def test_what_filters_let_through_is_found_once_until_something_changes() -> None:
    view = View("orders", "memory://")
    asked: list[str] = []
    view.apply(Change("create", record("1", "1.0.0")))
    view.apply(Change("create", record("2", "2.0.0")))

    def own(node: object) -> bool:
        asked.append("")
        return True

    for _ in range(10):
        assert [node.id for node in view.nodes((own, version("^2")))] == ["2"]
    assert len(asked) == 2
    view.apply(Change("delete", record("1")))
    assert view.nodes((own, version("^1"))) == []
    for _ in range(3 * FILTERED):
        view.nodes((lambda node: True,))
    assert len(view._filtered) <= FILTERED


async def test_nodes_without_an_address_are_there_and_cannot_be_asked_alone() -> None:
    view = View("orders", "memory://")
    view.apply(Change("create", ServiceRecord(name="orders", nodes=[NodeRecord(id="x")])))
    assert (view.nodes(), view.aloof, view.count) == ((), True, 1)
    view.apply(Change("create", record()))
    assert (len(view.nodes()), view.aloof, view.count) == (1, False, 2)


async def test_services_that_were_not_asked_for_the_longest_are_watched_no_more(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(module, "SERVICES", 10)
    registry = Steered("many")
    await registry.connect()
    cache = ServiceCache(registry)
    for number in range(30):
        await cache.look(f"service-{number}")
    await until(lambda: registry.watches == 10)
    assert cache.known("service-0") is None
    assert cache.known("service-29") is not None
    await cache.close()
    await until(lambda: registry.watches == 0)


class Flaky(Steered):
    """Its watch can be ended from outside, and raises what it is told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.end = asyncio.Event()
        self.fault: Exception | None = None

    async def connect(self) -> None:
        if self.fault is not None:
            raise self.fault
        await super().connect()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        for service in self._connected().roster.all():
            yield Change("create", service)
        yield Change("synced")
        await self.end.wait()
        self.end.clear()
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize("fault", [None, Unavailable("it was closed"), KeyError("an adapter's own")])
async def test_a_watch_that_ends_is_begun_again_and_who_went_meanwhile_is_gone(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN", 0.01)
    registry = Flaky(f"ends {fault}")
    await MemoryRegistry.connect(registry)
    for node in "12":
        await registry.register(record(node), ttl=30)
    cache = ServiceCache(registry)
    view = await cache.look("orders")
    first = view.nodes()[0]
    registry.fault = fault
    registry.end.set()
    await until(lambda: view.stale)
    assert len(view.nodes()) == 2
    await registry.deregister(record("2"))
    registry.fault = None
    await until(lambda: not view.stale and len(view.nodes()) == 1)
    assert view.nodes()[0] is first
    await cache.close()
    told = [r.getMessage() for r in caplog.records if "cannot be watched" in r.getMessage()]
    assert len(told) == isinstance(fault, KeyError)


async def test_what_keeps_a_registry_from_being_connected_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN", 0.01)
    registry = Flaky("wrong")
    registry.fault = UsageError("the bucket was made by others")
    cache = ServiceCache(registry)
    with pytest.raises(Unavailable, match="the bucket was made by others"):
        await cache.look("orders", 0.1)
    registry.fault = None
    assert (await cache.look("orders", 5.0)).nodes() == ()
    await cache.close()
    assert sum("cannot be watched" in r.getMessage() for r in caplog.records) == 1


async def test_who_waits_while_it_is_closed_is_told_so_and_not_cancelled() -> None:
    registry = Steered("closed")
    registry.away = True
    cache = ServiceCache(registry)
    waiting = [asyncio.create_task(cache.look("orders")) for _ in range(2)]
    await asyncio.sleep(0)
    await cache.close()
    for each in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(each, Unavailable)


async def test_a_service_that_is_asked_for_again_and_again_is_not_the_one_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SERVICES", 2)
    cache = ServiceCache(Steered("used"))
    for name in ("orders", "bills"):
        await cache.look(name)
    assert cache.known("orders")
    await cache.look("stock")
    assert cache.known("orders")
    assert not cache.known("bills")
    await cache.close()


def test_a_filter_that_cannot_be_remembered_is_asked_each_time() -> None:
    @dataclass
    class Zone:  # its equality makes it unhashable
        zone: str

        def __call__(self, node: Node) -> bool:
            return node.metadata.get("zone") == self.zone

    async def look() -> None:
        view = View("orders", "memory://")
        view.apply(Change("create", record("1", metadata={"zone": "eu"})))
        view.apply(Change("create", record("2", metadata={"zone": "us"})))
        assert [node.id for node in view.nodes((Zone("us"),))] == ["2"]

    asyncio.run(look())
