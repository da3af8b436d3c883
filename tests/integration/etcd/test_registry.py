"""A registry in etcd and what happens to its keys, leases, revisions, members and logins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from eventmicro_etcd import EtcdRegistry, gateway
from eventmicro_etcd.gateway import Gateway, encode
from eventmicro_etcd.settings import read_url

from eventmicro.errors import NotFound, Unavailable, UsageError
from tests.certificates import make_certificates
from tests.conftest import Until
from tests.integration.registries import lost_while_it_hangs, record, until_registered, watched
from tests.servers import EtcdServer, FaultProxy
from tests.servers.process import free_port

pytestmark = pytest.mark.timeout_seconds(60)


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


def gateway_of(registry: EtcdRegistry) -> Gateway:
    assert registry._gateway is not None
    return registry._gateway


async def put(registry: EtcdRegistry, key: str, value: bytes) -> None:
    await gateway_of(registry).call("kv/put", {"key": encode(key), "value": encode(value)})


async def delete(registry: EtcdRegistry, key: str) -> None:
    await gateway_of(registry).call("kv/deleterange", {"key": encode(key)})


async def test_garbage_is_left_out_and_told_once(server: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    async with EtcdRegistry(server.url) as registry, watched(registry) as told:
        other = record("9").model_dump_json().encode()
        garbage = {
            "orders/2": b"{",
            "orders/3": b"\xff",
            "orders/4": other,
            "orders": other,
            "orders/a/b": other,
            "": b"",
        }
        for key, value in garbage.items():
            await put(registry, f"eventmicro/registry/{key}", value)
        await put(registry, "eventmicro/registrx/orders/5", record("5").model_dump_json().encode())
        await registry.register(record(), ttl=60)
        while told.nodes != {"1"}:
            await asyncio.sleep(0.01)
        assert [change.action for change in told] == ["synced", "create"]
        for _ in range(3):
            (found,) = await registry.list_services()
            assert [node.id for node in found.nodes] == ["1"]
    assert caplog.text.count("orders/2 is no record") == 1


async def test_connecting_twice_at_once_is_connecting_once(server: EtcdServer) -> None:
    registry = EtcdRegistry(server.url)
    await asyncio.gather(registry.connect(), registry.connect())
    await registry.close()  # what is left open fails the test


async def test_a_lease_that_has_ended_is_made_anew(server: EtcdServer) -> None:
    async with EtcdRegistry(server.url) as registry, watched(registry) as told:
        await registry.register(record(), ttl=60)
        await gateway_of(registry).call("lease/revoke", {"ID": registry._leases["orders", "1"].number})
        await registry.register(record(), ttl=60)
        while told.count("create") < 2:
            await asyncio.sleep(0.01)
        assert [change.action for change in told] == ["synced", "create", "delete", "create"]


async def test_a_key_that_somebody_deletes_comes_back(server: EtcdServer) -> None:
    async with EtcdRegistry(server.url) as registry:
        await registry.register(record(), ttl=60)
        await delete(registry, "eventmicro/registry/orders/1")
        with pytest.raises(NotFound):
            await registry.get_service("orders")
        for _ in range(5):
            await registry.register(record(), ttl=60)
        assert await registry.get_service("orders") == [record()]


async def test_a_renewal_is_one_request(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    call = Gateway.call

    async def count(self: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(path)
        return await call(self, path, body)

    async with EtcdRegistry(server.url) as registry:
        await registry.register(record(), ttl=60)
        monkeypatch.setattr(Gateway, "call", count)
        for _ in range(4):
            await registry.register(record(), ttl=60)
    assert asked == ["lease/keepalive"] * 4


async def test_what_was_compacted_away_while_a_watch_was_cut_is_listed(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "SILENCE", 0.5)
    async with (
        FaultProxy(server.port) as proxy,
        EtcdRegistry(server.url) as one,
        EtcdRegistry(f"etcd://127.0.0.1:{proxy.port}?timeout=1") as other,
        watched(other) as told,
    ):
        await one.register(record("1"), ttl=60)
        await one.register(record("2"), ttl=60)
        while told.nodes != {"1", "2"}:
            await asyncio.sleep(0.01)
        proxy.refuse = True
        proxy.cut()
        while not told.count("lost"):
            await asyncio.sleep(0.01)
        await one.deregister(record("2"))
        await one.register(record("3"), ttl=60)
        listed = await gateway_of(one).call("kv/range", {"key": encode("x")})
        await gateway_of(one).call("kv/compaction", {"revision": listed["header"]["revision"], "physical": True})
        proxy.refuse = False
        while told.nodes != {"1", "3"}:
            await asyncio.sleep(0.01)
        assert [change.action for change in told][3:] == ["lost", "delete", "create", "synced"]


async def test_a_watch_of_a_revision_that_is_compacted_away_looks_again(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EtcdRegistry(server.url) as registry:
        for n in range(5):
            await registry.register(record(str(n)), ttl=60)
        listed = await gateway_of(registry).call("kv/range", {"key": encode("x")})
        await gateway_of(registry).call("kv/compaction", {"revision": listed["header"]["revision"], "physical": True})
        changes = registry._follow(gateway_of(registry), None, 1)
        with pytest.raises(Unavailable, match="compact_revision"):
            await anext(changes)


async def test_what_others_have_compacted_away_beside_a_quiet_registry_is_no_loss(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "SILENCE", 0.3)
    listed = list[str | None]()
    look = EtcdRegistry._list

    async def count(self: EtcdRegistry, gateway: Gateway, name: str | None) -> dict[str, Any]:
        listed.append(name)
        return await look(self, gateway, name)

    async with EtcdRegistry(server.url) as registry:
        await registry.register(record("1"), ttl=60)
        monkeypatch.setattr(EtcdRegistry, "_list", count)
        async with watched(registry) as told:
            for turn in range(2, 4):
                for _ in range(3):
                    await put(registry, "others", b"")
                now = await gateway_of(registry).call("kv/range", {"key": encode("x")})
                compacted = {"revision": now["header"]["revision"], "physical": True}
                await gateway_of(registry).call("kv/compaction", compacted)
                while len(listed) < turn:
                    await asyncio.sleep(0.01)
            await registry.deregister(record("1"))
            await registry.register(record("2"), ttl=60)
            while told.nodes != {"2"}:
                await asyncio.sleep(0.01)
            assert [change.action for change in told] == ["create", "synced", "delete", "create"]


async def test_a_silent_watch_is_made_anew_without_a_word(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "SILENCE", 0.5)
    begun: list[dict[str, Any]] = []
    watch = Gateway.watch

    def count(self: Gateway, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        begun.append(body)
        return watch(self, body)

    monkeypatch.setattr(Gateway, "watch", count)
    async with EtcdRegistry(server.url) as registry, watched(registry) as told:
        for turn in range(1, 4):
            while len(begun) < turn:
                await asyncio.sleep(0.01)
            await registry.register(record(str(turn)), ttl=60)
        while len(told.nodes) < 3:
            await asyncio.sleep(0.01)
        assert [change.action for change in told] == ["synced", *["create"] * 3]


async def test_a_server_that_hangs_is_lost(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "SILENCE", 0.5)
    async with EtcdRegistry(f"{server.url}?timeout=1") as registry, watched(registry) as told:
        await lost_while_it_hangs(registry, told, server)


async def test_of_several_members_one_that_answers_is_taken(server: EtcdServer) -> None:
    for _ in range(4):  # they are taken in any order
        url = f"etcd://127.0.0.1:{free_port()},127.0.0.1:{server.port}"
        async with EtcdRegistry(url) as registry, watched(registry) as told:
            await until_registered(registry, record())
            while told.nodes != {"1"}:
                await asyncio.sleep(0.01)


async def test_a_member_gets_few_calls_at_once(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    post, under_way, most = Gateway._post, 0, 0

    async def count(self: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await post(self, path, body)
        finally:
            under_way -= 1

    monkeypatch.setattr(Gateway, "_post", count)
    async with EtcdRegistry(f"{server.url}?timeout=60") as registry:
        await asyncio.gather(*(registry.register(record(str(n)), ttl=60) for n in range(100)))
    assert most == gateway.AT_ONCE


@pytest.mark.timeout_seconds(180)
async def test_five_hundred_nodes_join_at_once(server: EtcdServer) -> None:
    async with EtcdRegistry(f"{server.url}?timeout=120") as one, watched(one) as told:
        await asyncio.gather(*(one.register(record(str(n)), ttl=60) for n in range(500)))
        while len(told.nodes) < 500:
            await asyncio.sleep(0.01)
        assert told.count("create") == 500
        (found,) = await one.get_service("orders")
        assert len(found.nodes) == 500


async def test_a_login_is_made_once_and_anew_where_its_token_is_refused(server: EtcdServer, until: Until) -> None:
    async with EtcdRegistry(server.url) as registry:
        call = gateway_of(registry).call
        await call("auth/user/add", {"name": "root", "password": "pässword"})
        await call("auth/role/add", {"name": "root"})
        await call("auth/user/grant", {"user": "root", "role": "root"})
        await call("auth/enable", {})
        with pytest.raises(UsageError, match="user"):
            await registry.list_services()
    with pytest.raises(UsageError, match="user or password"):
        await EtcdRegistry(server.url.replace("//", "//root:wrong@")).connect()
    own = EtcdRegistry(server.url.replace("//", "//root:p%C3%A4ssword@"))
    assert "root" not in own.url
    async with own, watched(own) as told:
        await own.register(record(), ttl=60)
        token = gateway_of(own)._token
        await own.register(record(), ttl=60)
        assert gateway_of(own)._token == token
        server.kill()  # it forgets its tokens
        server.start()
        await until_registered(own, record())
        await until(lambda: told.count("synced") > 1)
        assert told.nodes == {"1"}


async def test_a_user_where_none_is_needed_is_no_harm(server: EtcdServer) -> None:
    async with EtcdRegistry(server.url.replace("//", "//ann:secret@")) as registry:
        await registry.register(record(), ttl=60)


async def test_a_record_that_is_too_large_is_refused(server: EtcdServer) -> None:
    async with EtcdRegistry(server.url) as registry:
        with pytest.raises(UsageError, match="too large"):
            await registry.register(record(note="x" * 2_000_000), ttl=60)
        assert await registry.list_services() == []


async def test_over_tls_the_server_is_verified(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    with EtcdServer(certificates=certificates) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with EtcdRegistry(f"{url}?tls_ca={certificates.authority}") as registry, watched(registry) as told:
            await registry.register(record(), ttl=60)
            while told.nodes != {"1"}:
                await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await EtcdRegistry(url).connect()


def test_a_url_says_all_settings() -> None:
    settings = read_url("etcds://ann:s%40crt@a,b:1?prefix=shop&timeout=9")
    assert settings.servers == ("a:2379", "b:1")
    assert (settings.user, settings.password, settings.tls) == ("ann", "s@crt", True)
    assert (settings.prefix, settings.timeout) == ("shop", 9)
    assert settings.address == "etcds://a:2379,b:1"
    assert read_url("etcd://").servers == ("127.0.0.1:2379",)
    for wrong in ("etcd://a/b", "etcd://ann@a", "etcd://a?prefix=/", "etcd://a?what=1", "etcd://a?timeout=-1"):
        with pytest.raises(UsageError):
            read_url(wrong)
