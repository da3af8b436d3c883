"""A registry in Consul and what happens to its agent, its index, its checks and what others register."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from eventmicro_consul import ConsulRegistry
from eventmicro_consul.agent import AT_ONCE
from eventmicro_consul.packing import CHUNK, KEY, PARTS, id_of, service_of, unpack
from eventmicro_consul.settings import read_url

from eventmicro import conformance
from eventmicro.errors import Unavailable, UsageError
from eventmicro.registry import EndpointRecord, ServiceRecord
from tests.integration.registries import lost_while_it_hangs, record, until_registered, watched
from tests.servers import ConsulServer
from tests.servers.consul_stub import ConsulStub

pytestmark = pytest.mark.timeout_seconds(60)


def with_schema(size: int) -> ServiceRecord:
    schema = {"type": "object", "description": secrets.token_hex(size // 2)}
    return record().model_copy(update={"endpoints": [EndpointRecord(name="quote", request=schema)]})


@pytest.fixture
def server() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


# -- on a stand-in, everywhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", conformance.registry_cases(), ids=str)
async def test_the_contract_on_the_stand_in(case: conformance.RegistryCase) -> None:
    async with ConsulStub() as stub:
        await case.run(lambda: ConsulRegistry(f"{stub.url}?timeout=30"), ttl=2)


@pytest.mark.parametrize("name", ["orders", None])
async def test_an_index_that_goes_back_is_followed_by_a_query_that_does_not_wait(name: str | None) -> None:
    async with (
        ConsulStub() as stub,
        ConsulRegistry(f"{stub.url}?wait=0.2") as registry,
        watched(registry, name) as told,
    ):
        await registry.register(record("before"), ttl=60)
        while told.nodes != {"before"}:
            await asyncio.sleep(0.01)
        begun = len(stub.asked)
        await stub.forget(index=5)
        while told.nodes:
            await asyncio.sleep(0.01)
        await registry.register(record("after"), ttl=60)
        while told.nodes != {"after"}:
            await asyncio.sleep(0.01)
        assert any(asked.startswith("GET health") and "index=" not in asked for asked in stub.asked[begun:])


async def test_a_heartbeat_is_one_request_and_an_unknown_check_is_registered_again() -> None:
    async with ConsulStub() as stub, ConsulRegistry(stub.url) as registry:
        await registry.register(record(), ttl=60)
        stub.asked.clear()
        await registry.register(record(), ttl=60)
        assert stub.asked == ["PUT agent/check/pass/eventmicro%3Aorders.1"]
        await stub.forget(index=1)
        await registry.register(record(), ttl=60)
        assert await registry.get_service("orders") == [record()]


async def test_an_agent_is_asked_by_few_connections_at_once_and_one_more_for_each_watch() -> None:
    async with ConsulStub() as stub, ConsulRegistry(f"{stub.url}?timeout=30&wait=30") as registry:
        await asyncio.gather(*(registry.register(record(name=f"service-{n}"), ttl=60) for n in range(300)))
        assert len(await registry.list_services()) == 300
        assert stub.most <= AT_ONCE
        async with AsyncExitStack() as stack:
            watches = [watched(registry, f"service-{n}") for n in range(AT_ONCE + 4)]
            told = [await stack.enter_async_context(each) for each in watches][-1]
            await registry.register(record("more", f"service-{AT_ONCE + 3}"), ttl=60)
            while told.nodes != {"1", "more"}:
                await asyncio.sleep(0.01)


async def test_what_does_not_know_what_it_was_told_a_moment_ago_is_away() -> None:
    class Other(ConsulStub):
        async def _register(self, service: dict[str, Any]) -> tuple[int, Any]:
            return 404, "no such page"

    async with Other() as stub, ConsulRegistry(stub.url) as registry:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ does not keep what is registered: no such page"):
            await registry.register(record(), ttl=60)


async def test_a_watch_reads_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ConsulStub() as stub, ConsulRegistry(stub.url) as registry, watched(registry, "orders") as told:
        places, read = list[str](), registry._reader.read

        def count(place: str, text: str | bytes) -> ServiceRecord | None:
            places.append(place)
            return read(place, text)

        monkeypatch.setattr(registry._reader, "read", count)
        for number in range(4):
            await registry.register(record(str(number)), ttl=60)
            while len(told.nodes) <= number:
                await asyncio.sleep(0.01)
        await registry.register(record("1", zone="eu"), ttl=60)
        while not told.count("update"):
            await asyncio.sleep(0.01)
    assert places == ["orders.0", "orders.1", "orders.2", "orders.3", "orders.1"]


async def test_schemas_that_do_not_fit_are_left_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with ConsulStub() as stub, ConsulRegistry(stub.url) as registry:
        for _ in range(3):
            await registry.register(with_schema(100_000), ttl=60)
        (found,) = await registry.get_service("orders")
        assert [(endpoint.name, endpoint.request) for endpoint in found.endpoints] == [("quote", None)]
        with pytest.raises(UsageError, match="too large"):
            await registry.register(record(note=secrets.token_hex(50_000)), ttl=60)
    assert caplog.text.count("without its schemas") == 1


def test_what_is_packed_is_unpacked() -> None:
    for size in (0, 100, 1000, 20_000):
        service, whole = service_of(with_schema(size), 10, 60)
        assert whole
        assert max(map(len, service["Meta"].values())) <= CHUNK
        assert len(service["Meta"]) <= PARTS + 2
        assert ServiceRecord.model_validate_json(unpack(service["Meta"])).name == "orders"
    assert unpack({KEY: "1", f"{KEY}-0": "garbage"}) == b""
    assert unpack({KEY: "1"}) == b""


def test_ids_are_told_apart_also_where_capitals_do_not_count() -> None:
    ids = [id_of(*key) for key in (("orders", "a"), ("Orders", "a"), ("orders", "A"), ("ORDERS", "a"))]
    assert len({each.lower() for each in ids}) == 4


def test_a_url_says_all_settings() -> None:
    settings = read_url("consuls://s%40crt@consul.example?wait=5")
    assert (settings.server, settings.token, settings.tls) == ("consul.example:8501", "s@crt", True)
    assert settings.wait == 5
    assert settings.address == "consuls://consul.example:8501"
    assert read_url("consul://").server == "127.0.0.1:8500"
    for wrong in ("consul://a,b", "consul://a/b", "consul://a?what=1", "consul://a?wait=0"):
        with pytest.raises(UsageError):
            read_url(wrong)


# -- on a real agent -------------------------------------------------------------------------------------------


async def test_services_of_others_and_garbage_are_left_out(
    server: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with ConsulRegistry(server.url) as registry, watched(registry) as told:
        other, _ = service_of(record("9"), 60, 60)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}/v1/", trust_env=False) as client:
            for service in (
                {"Name": "orders", "ID": "foreign", "Meta": {"note": "x"}},
                {"Name": "orders", "ID": "orders.2", "Meta": {KEY: "1", f"{KEY}-0": "garbage"}},
                other | {"ID": "orders.3"},
            ):
                check = {"CheckID": f"eventmicro:{service['ID']}", "TTL": "60s", "Status": "passing"}
                answer = await client.put("agent/service/register", json=service | {"Check": check})
                assert answer.status_code == 200
        await registry.register(record(), ttl=60)
        while told.nodes != {"1"}:
            await asyncio.sleep(0.01)
        for _ in range(3):
            assert await registry.list_services() == [record()]
            assert await registry.get_service("orders") == [record()]
    assert caplog.text.count("orders.2 is no record") == 1


async def test_a_node_that_stood_still_is_there_again_with_its_next_heartbeat(server: ConsulServer) -> None:
    async with ConsulRegistry(server.url) as registry, watched(registry) as told:
        await registry.register(record(), ttl=1)
        while not told.count("delete"):
            await asyncio.sleep(0.01)
        await registry.register(record(), ttl=1)
        while not told.count("delete") > 1:
            await asyncio.sleep(0.01)
        await registry.register(record(zone="eu"), ttl=60)
        while told.count("create") < 3:
            await asyncio.sleep(0.01)
        assert await registry.list_services() == [record(zone="eu")]


async def test_an_agent_that_hangs_is_lost(server: ConsulServer) -> None:
    async with ConsulRegistry(f"{server.url}?wait=1&timeout=1") as registry, watched(registry) as told:
        await lost_while_it_hangs(registry, told, server)


async def test_a_hundred_nodes_join_and_the_agent_starts_anew(server: ConsulServer) -> None:
    async with ConsulRegistry(f"{server.url}?timeout=10") as registry, watched(registry) as told:
        await asyncio.gather(*(registry.register(record(str(n)), ttl=60) for n in range(100)))
        while len(told.nodes) < 100:
            await asyncio.sleep(0.01)
        server.kill()
        server.start()
        await until_registered(registry, record("1"))
        while told.nodes != {"1"}:
            await asyncio.sleep(0.01)


async def test_a_token_is_needed_where_the_agent_has_rules() -> None:
    token = "6d1e5f0a-0000-4000-8000-000000000001"
    rules = {
        "acl": {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": token, "agent": token}}
    }
    with ConsulServer(config=rules) as server:
        async with ConsulRegistry(server.url) as registry:
            with pytest.raises(UsageError, match="403"):
                await registry.register(record(), ttl=60)
        async with ConsulRegistry(server.url.replace("//", f"//{token}@")) as registry:
            assert token not in registry.url
            while True:  # the agent reads its rules a moment after it answers
                try:
                    await registry.register(record(), ttl=60)
                    break
                except UsageError:
                    await asyncio.sleep(0.2)
            while not await registry.list_services():
                await asyncio.sleep(0.01)
