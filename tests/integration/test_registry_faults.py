"""A network that is cut in two and heals, clocks that are set, and very many who join at once, on each registry."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from eventmicro_consul import ConsulRegistry
from eventmicro_etcd import EtcdRegistry, gateway
from eventmicro_mdns import MdnsRegistry
from eventmicro_nats.registry import NatsRegistry

from eventmicro.discovery.cache import ServiceCache
from eventmicro.discovery.registering import Registering
from eventmicro.discovery.registration import Registration
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import Registry
from tests.conftest import Until
from tests.integration.registries import record, watched
from tests.servers import EtcdServer, FaultProxy, NatsServer
from tests.servers.consul_stub import ConsulStub

pytestmark = pytest.mark.timeout_seconds(60)

SERVERS = ["bucket", "asking", "etcd", "consul"]
# So that who is cut off finds out soon.
SOON = {"bucket": "ping_interval=0.3", "asking": "ping_interval=0.3", "etcd": "timeout=1", "consul": "timeout=1&wait=1"}


@dataclass
class Place:
    """A server, and how a registry on it is made: by the way of a port, or straight."""

    port: int
    make: Callable[[int], Registry]


@asynccontextmanager
async def place(kind: str) -> AsyncIterator[Place]:
    if kind == "consul":
        async with ConsulStub() as stub:
            yield Place(stub.port, lambda port: ConsulRegistry(f"consul://127.0.0.1:{port}?{SOON[kind]}"))
    elif kind == "etcd":
        with EtcdServer() as etcd:
            yield Place(etcd.port, lambda port: EtcdRegistry(f"etcd://127.0.0.1:{port}?{SOON[kind]}"))
    else:
        with NatsServer(jetstream=kind == "bucket") as nats:
            yield Place(nats.port, lambda port: NatsRegistry(f"nats://127.0.0.1:{port}?{SOON[kind]}"))


@pytest.mark.parametrize("kind", SERVERS)
async def test_who_is_cut_off_is_forgotten_goes_by_what_was_said_last_and_is_there_again_when_the_network_heals(
    kind: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(gateway, "SILENCE", 0.5)
    how = Registering(ttl=2, interval=0.5)
    async with place(kind) as there, FaultProxy(there.port) as proxy, AsyncExitStack() as stack:
        inside, outside = there.make(proxy.port), there.make(there.port)
        for registry, node in ((inside, "cut-off"), (outside, "other")):
            await registry.connect()
            stack.push_async_callback(registry.close)
            registration = Registration(registry, node, lambda node=node: record(node), how)  # type: ignore[misc]
            await registration.start()
            stack.push_async_callback(registration.stop)
        told = await stack.enter_async_context(watched(outside))
        cache = ServiceCache(inside)
        stack.push_async_callback(cache.close)
        view = await cache.look("orders")
        await until(lambda: told.nodes == {"cut-off", "other"} and view.count == 2)
        proxy.blackhole = True
        await until(lambda: told.nodes == {"other"} and view.stale)
        assert (view.count, told.count("lost")) == (2, 0)
        proxy.blackhole = False
        await until(lambda: told.nodes == {"cut-off", "other"} and not view.stale and view.count == 2)
        assert (told.count("delete"), told.count("lost")) == (1, 0)


@asynccontextmanager
async def connected(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    """A registry of its own, of any kind."""
    async with AsyncExitStack() as stack:
        if kind == "memory":
            registry: Registry = MemoryRegistry(f"memory://{secrets.token_hex(4)}")
        elif kind == "mdns":
            registry = MdnsRegistry(f"{request.getfixturevalue('mdns_url')}?type=_t{secrets.token_hex(5)}._tcp")
        else:
            there = await stack.enter_async_context(place(kind))
            registry = there.make(there.port)
        await registry.connect()
        stack.push_async_callback(registry.close)
        yield registry


@pytest.mark.parametrize("kind", ["memory", *SERVERS, "mdns"])
async def test_a_clock_that_is_set_makes_nobody_come_or_go(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Set on by a day, then back by two: who is kept for long stays, and who is not renewed goes in his time."""
    real = time.time
    async with connected(kind, request) as registry, watched(registry) as told:
        await registry.register(record("long"), ttl=60)
        monkeypatch.setattr(time, "time", lambda: real() + 86400)
        await registry.register(record("short"), ttl=1)
        await until(lambda: told.nodes == {"long", "short"})
        monkeypatch.setattr(time, "time", lambda: real() - 86400)
        await until(lambda: told.nodes == {"long"})
        await registry.register(record("long"), ttl=60)
        assert [change.action for change in told] == ["synced", "create", "create", "delete"]


@pytest.mark.parametrize("kind", ["memory", "asking", "consul", "mdns"])
async def test_five_hundred_nodes_join_at_once(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """That they do so in a bucket and in etcd is beside the other tests of these."""
    monkeypatch.setitem(SOON, "consul", "timeout=30")
    async with connected(kind, request) as registry, watched(registry) as told:
        await asyncio.gather(*(registry.register(record(str(n)), ttl=60) for n in range(500)))
        await until(lambda: len(told.nodes) == 500)
        assert told.count("create") == 500
        (found,) = await registry.get_service("orders")
        assert len(found.nodes) == 500
