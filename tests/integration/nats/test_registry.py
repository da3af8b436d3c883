"""A registry over NATS and what happens to its bucket, its server, its rights and its connection."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import nats
import pytest
from eventmicro_nats import NatsBroker
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.registry import NatsRegistry, asking, feed
from eventmicro_nats.registry.bucket import Bucket
from eventmicro_nats.registry.line import Line
from nats.js.api import KeyValueConfig
from nats.micro import add_service
from nats.micro.service import EndpointConfig, ServiceConfig

from eventmicro import heard
from eventmicro.errors import NotFound, Unavailable, UsageError
from eventmicro.plugins import open_registry
from eventmicro.registry import HasRegistry, NodeRecord
from eventmicro.service import Service
from tests.conftest import Until
from tests.integration.registries import lost_while_it_hangs, record, until_registered, watched
from tests.servers import FaultProxy, NatsServer
from tests.servers.nats_cluster import NatsCluster
from tests.servers.process import free_port
from tests.told import messages_in, until_told

pytestmark = pytest.mark.timeout_seconds(60)


@pytest.fixture
def server() -> Any:
    with NatsServer(jetstream=True) as server:
        yield server


# -- the bucket ------------------------------------------------------------------------------------------------


async def test_a_bucket_of_others_that_can_keep_it_is_used_and_not_changed(server: NatsServer) -> None:
    client = await nats.connect(server.url)
    config = KeyValueConfig("shop", limit_marker_ttl=60, ttl=3600)
    await client.jetstream().create_key_value(config)
    before = (await client.jetstream().stream_info("KV_shop")).config
    async with NatsRegistry(f"{server.url}?registry_bucket=shop") as registry, watched(registry) as told:
        await registry.register(record(), ttl=1)
        await registry.register(record("2"), ttl=60)
        while told.nodes != {"2"} or not told.count("delete"):
            await asyncio.sleep(0.01)
    assert (await client.jetstream().stream_info("KV_shop")).config == before
    await client.close()


@pytest.mark.parametrize(
    ("config", "lacks"),
    [
        (KeyValueConfig("shop"), "subject_delete_marker_ttl"),
        (KeyValueConfig("shop", history=5, limit_marker_ttl=60), "max_msgs_per_subject=1"),
    ],
)
async def test_a_bucket_that_cannot_keep_it_is_refused(server: NatsServer, config: KeyValueConfig, lacks: str) -> None:
    client = await nats.connect(server.url)
    await client.jetstream().create_key_value(config)
    registry = NatsRegistry(f"{server.url}?registry_bucket=shop")
    with pytest.raises(UsageError, match=lacks):
        await registry.connect()
    await client.close()


async def test_a_bucket_that_others_make_anew_says_what_it_lacks_and_is_used_again_when_it_is_mended(
    server: NatsServer,
) -> None:
    client = await nats.connect(server.url)
    streams = client.jetstream()
    async with NatsRegistry(f"{server.url}?registry_bucket=shop") as registry:
        await registry.register(record(), ttl=60)
        await streams.delete_stream("KV_shop")
        await streams.add_stream(name="KV_shop", subjects=["$KV.shop.>"], max_msgs_per_subject=1)
        with pytest.raises(UsageError, match=r"shop was made by others .* lacks .*: set registry_bucket to"):
            await registry.register(record(), ttl=60)
        await streams.delete_stream("KV_shop")
        await registry.register(record(), ttl=60)
        assert await registry.get_service("orders") == [record()]
    await client.close()


async def test_garbage_in_the_bucket_is_left_out_and_told_once(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with NatsRegistry(server.url) as registry:
        await registry.register(record(), ttl=60)
        client = await nats.connect(server.url)
        other = record("9").model_dump_json().encode()
        for key, body in (
            ("orders.2", b"{"),
            ("orders.3", b"\xff"),
            ("orders.4", other),
            ("orders", b"1"),
            ("a.b.c", b"1"),
        ):
            await client.jetstream().publish(f"$KV.eventmicro_registry.{key}", body)
        for _ in range(3):
            (found,) = await registry.list_services()
            assert [node.id for node in found.nodes] == ["1"]
        await client.close()
    assert caplog.text.count("orders.2") == 1
    assert caplog.text.count("is no record") == 2


async def test_a_bucket_that_is_purged_keeps_who_is_renewed_and_loses_who_is_not(server: NatsServer) -> None:
    async with NatsRegistry(server.url) as registry, watched(registry) as told:
        await registry.register(record("dead"), ttl=1)
        await registry.register(record("alive"), ttl=1)
        client = await nats.connect(server.url)
        await client.jetstream().purge_stream("KV_eventmicro_registry")
        while told.nodes != {"alive"}:
            await registry.register(record("alive"), ttl=1)
            await asyncio.sleep(0.1)
        assert [c.action for c in told] == ["synced", "create", "create", "delete"]
        await client.close()


async def test_a_bucket_that_is_deleted_is_made_anew(server: NatsServer) -> None:
    async with NatsRegistry(server.url) as registry, watched(registry) as told:
        await registry.register(record("dead"), ttl=60)
        await registry.register(record("alive"), ttl=60)
        client = await nats.connect(server.url)
        await client.jetstream().delete_stream("KV_eventmicro_registry")
        while told.nodes != {"alive"} or told.count("synced") < 2:
            await registry.register(record("alive"), ttl=60)
            await asyncio.sleep(0.1)
        assert told.count("lost") == told.count("synced") - 1
        (found,) = await registry.get_service("orders")
        assert [node.id for node in found.nodes] == ["alive"]
        await client.close()


async def test_five_hundred_nodes_join_at_once(server: NatsServer) -> None:
    async with NatsRegistry(server.url) as one, NatsRegistry(server.url) as other, watched(other) as told:
        await asyncio.gather(*(one.register(record(str(n)), ttl=60) for n in range(500)))
        while len(told.nodes) < 500:
            await asyncio.sleep(0.01)
        assert told.count("create") == 500
        (found,) = await other.get_service("orders")
        assert len(found.nodes) == 500


async def test_consumers_of_looks_are_taken_away(server: NatsServer) -> None:
    async with NatsRegistry(server.url) as registry:
        for _ in range(20):
            await registry.list_services()
        client = await nats.connect(server.url)
        while (await client.jetstream().stream_info("KV_eventmicro_registry")).state.consumer_count:
            await asyncio.sleep(0.05)
        await client.close()


async def test_a_record_that_is_too_large_is_refused(server: NatsServer) -> None:
    async with NatsRegistry(server.url) as registry:
        with pytest.raises(UsageError, match="too large"):
            await registry.register(record(note="x" * 2_000_000), ttl=60)


# -- the connection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jetstream", [True, False])
async def test_a_watch_goes_on_after_a_cut(jetstream: bool) -> None:
    with NatsServer(jetstream=jetstream) as server:
        async with (
            FaultProxy(server.port) as proxy,
            NatsRegistry(server.url) as one,
            NatsRegistry(f"nats://127.0.0.1:{proxy.port}") as other,
            watched(other) as told,
        ):
            await one.register(record("1"), ttl=60)
            await one.register(record("2"), ttl=60)
            while told.nodes != {"1", "2"}:
                await asyncio.sleep(0.01)
            proxy.cut()
            while told.count("synced") < 2:
                await asyncio.sleep(0.01)
            await one.deregister(record("2"))
            await one.register(record("3"), ttl=60)
            while told.nodes != {"1", "3"}:
                await asyncio.sleep(0.01)
            assert told.count("create") == 3
            assert told.count("lost") == 1


@pytest.mark.parametrize("jetstream", [True, False])
async def test_looks_that_were_cut_leave_no_subscription(jetstream: bool) -> None:
    with NatsServer(jetstream=jetstream) as server:
        async with (
            FaultProxy(server.port) as proxy,
            NatsRegistry(f"nats://127.0.0.1:{proxy.port}") as registry,
            watched(registry) as told,
        ):
            before = len(registry._broker._connected_driver().subscriptions)
            for turn in range(2, 5):
                proxy.cut()
                while told.count("synced") < turn:
                    await asyncio.sleep(0.01)
            assert len(registry._broker._connected_driver().subscriptions) == before


@pytest.mark.parametrize(("jetstream", "sent"), [(True, ["ask"]), (False, ["send"])])
async def test_a_renewal_is_one_request(jetstream: bool, sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with NatsServer(jetstream=jetstream) as server:
        async with NatsRegistry(server.url) as registry:
            await registry.register(record(), ttl=60)
            asked: list[str] = []
            push = Line._push

            def count(self: Line, driver: Driver, subject: str, body: bytes, headers: Any, reply: str) -> None:
                asked.append("ask" if reply else "send")
                push(self, driver, subject, body, headers, reply)

            monkeypatch.setattr(Line, "_push", count)
            for _ in range(4):
                await registry.register(record(), ttl=60)
            assert asked == sent * 4


async def test_connecting_twice_at_once_is_connecting_once(server: NatsServer) -> None:
    registry = NatsRegistry(server.url)
    await asyncio.gather(registry.connect(), registry.connect())
    assert len(registry._broker._followers) == 1
    await registry.close()


async def test_a_server_that_hangs_is_lost_and_what_it_says_when_it_is_back_is_told(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SILENCE", 1.0)
    monkeypatch.setattr(feed, "HEARTBEAT", 0.3)
    async with NatsRegistry(f"{server.url}?ping_interval=60") as registry, watched(registry) as told:
        await lost_while_it_hangs(registry, told, server)


async def test_a_broker_that_is_closed_ends_its_registry(server: NatsServer) -> None:
    broker = NatsBroker(server.url)
    assert isinstance(broker, HasRegistry)
    registry = broker.registry()
    with pytest.raises(Unavailable, match="not connected"):
        await registry.connect()
    async with broker:
        await registry.connect()
        await registry.register(record(), ttl=60)
        changes = registry.watch()
        assert [(await anext(changes)).action for _ in range(2)] == ["create", "synced"]
        await registry.close()
        assert broker.online
        await registry.connect()
    assert [change.action async for change in changes] == ["lost"]
    with pytest.raises(Unavailable):
        await registry.list_services()
    async with broker:
        await registry.connect()
        assert len(await registry.list_services()) == 1
        await registry.close()


def test_it_is_the_registry_of_its_broker_and_of_its_url() -> None:
    broker = NatsBroker()
    over = open_registry(None, broker)
    assert isinstance(over, NatsRegistry)
    assert over.url == broker.url
    own = open_registry("nats://ann:secret@nats.example:4222?registry_bucket=shop")
    assert isinstance(own, NatsRegistry)
    assert own.url == "nats://nats.example:4222"


# -- without JetStream -----------------------------------------------------------------------------------------

NO_RIGHTS = 'authorization: { users: [{ user: a, password: b, permissions: { publish: { deny: "$JS.>" } } }] }'


async def test_who_may_not_use_jetstream_asks() -> None:
    with NatsServer(NO_RIGHTS, jetstream=True) as server:
        url = server.url.replace("//", "//a:b@")
        async with NatsRegistry(url) as one, NatsRegistry(url) as other:
            await one.register(record(), ttl=60)
            assert await other.get_service("orders") == [record()]


async def test_jetstream_that_comes_with_the_next_start_is_used() -> None:
    with NatsServer() as server:
        async with NatsRegistry(server.url) as registry, watched(registry) as told:
            await registry.register(record(), ttl=60)
            server.jetstream = True
            server.kill()
            server.start()
            while told.count("synced") < 2 or told.nodes != {"1"}:
                with suppress(Unavailable):
                    await registry.register(record(), ttl=60)
                await asyncio.sleep(0.02)
            client = await nats.connect(server.url)
            await until_told(lambda: messages_in(client.jetstream(), "KV_eventmicro_registry"), 1)
            await client.close()


async def test_services_of_other_frameworks_are_found_by_asking(nats_url: str, until: Until) -> None:
    client = await nats.connect(nats_url)
    service = await add_service(client, ServiceConfig(name="foreign", version="2.1.0", metadata={"team": "x"}))
    endpoint = EndpointConfig(name="sum", subject="math.sum", handler=lambda request: request.respond(b""))
    await service.add_endpoint(endpoint)
    async with NatsRegistry(nats_url) as registry:
        (found,) = await registry.get_service("foreign")
        assert found.version == "2.1.0"
        assert found.nodes[0].is_foreign
        assert found.endpoints[0].metadata == {"subject": "math.sum", "queue": "q"}
        assert found in await registry.list_services()
    await service.stop()
    await client.close()


async def test_services_that_answer_with_their_record_are_no_foreign_ones(nats_url: str) -> None:
    client = await nats.connect(nats_url)

    async def answer(question: Any) -> None:
        accepts = question.headers["Accept"] == "application/vnd.eventmicro.record+json"
        form: dict[str, Any] = {"name": "ours", "id": "7", "version": "1", "endpoints": [], "metadata": {}}
        form["type"] = "io.nats.micro.v1.info_response"
        for text in (
            json.dumps(form | {"record": record("7", "ours").model_dump()} if accepts else form),
            "{",
            "[1]",
            '{"name": 3}',
        ):
            await client.publish(question.reply, text.encode())

    await client.subscribe("$SRV.INFO", cb=answer)
    await client.flush()
    async with NatsRegistry(nats_url) as registry:
        assert await registry.get_service("ours") == [record("7", "ours")]
    await client.close()


async def test_who_only_answers_is_asked_again(nats_url: str, monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr(asking, "ASK_AGAIN", 0.1)
    monkeypatch.setattr(asking, "KEPT", 4.0)
    client = await nats.connect(nats_url)
    service = await add_service(client, ServiceConfig(name="only-answers", version="1.0.0"))
    asked: list[str] = []

    async def count(question: Any) -> None:
        asked.append(question.reply)

    await client.subscribe("$SRV.INFO", cb=count)
    async with NatsRegistry(nats_url) as registry, watched(registry, "only-answers") as told:
        while len([reply for reply in asked if reply == asked[0]]) < 4:
            await asyncio.sleep(0.05)
        assert [change.action for change in told] == ["create", "synced"]
        await service.stop()
        await until(lambda: told.count("delete"))
        with pytest.raises(NotFound):
            await registry.get_service("only-answers")
    await client.close()


async def test_garbage_that_is_said_is_left_out(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    client = await nats.connect(nats_url)
    async with NatsRegistry(nats_url) as registry, watched(registry, "garbage") as told:
        good = record("1", "garbage").model_dump_json().encode()
        for body, ttl in ((b"{", "5"), (good, "nan"), (good, "-1"), (good, "x"), (b"[]", "5"), (good, "60")):
            await client.publish("_EVENTMICRO.registry.node.garbage", body, headers={"Registry-TTL": ttl})
        while not told.nodes:
            await asyncio.sleep(0.01)
        assert [change.action for change in told] == ["synced", "create"]
    await client.close()


async def test_a_flood_of_nodes_is_left_out_and_those_that_are_known_stay(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may publish there may say that anybody is there; that costs bounded memory, and takes nobody out."""
    monkeypatch.setattr(heard, "NODES", 5)
    client = await nats.connect(nats_url)
    async with NatsRegistry(nats_url) as one, NatsRegistry(nats_url) as other, watched(other) as told:
        await one.register(record("honest"), ttl=60)
        while "honest" not in told.nodes:
            await asyncio.sleep(0.01)
        for number in range(1000):
            body = record(f"flood{number}", f"of{number}").model_dump_json().encode()
            subject = f"_EVENTMICRO.registry.node.of{number}"
            await client.publish(subject, body, headers={"Registry-TTL": "1e6"})
        await client.flush()
        await one.register(record("honest", note="again"), ttl=60)
        await one.register(record("own"), ttl=60)
        await one.deregister(record("honest"))  # said behind all that came before
        while "honest" in told.nodes:
            await asyncio.sleep(0.01)
        assert (told.count("create"), told.count("delete")) == (5, 1)
        assert len(await other.list_services()) <= 5
        assert [found.nodes[0].id for found in await one.get_service("orders")] == ["own"]
        assert caplog.text.count("all there is room for") == 1  # where somebody looks
    await client.close()


@pytest.mark.timeout_seconds(150)
async def test_a_server_of_a_cluster_that_is_behind_takes_nobody_out() -> None:
    with NatsCluster() as cluster:
        url = f"nats://{cluster.hosts}?registry_replicas=3"
        async with NatsRegistry(url) as one, NatsRegistry(url) as other, watched(other) as told:
            await one.register(record("first"), ttl=600)
            for number in range(3):
                cluster.kill(number)
                await until_registered(one, record(str(number)), 600)
                while str(number) not in told.nodes:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(cluster.start, number)
            (found,) = await other.get_service("orders")
            assert {node.id for node in found.nodes} == {"first", "0", "1", "2"} == told.nodes
            assert told.count("delete") == 0


@pytest.mark.timeout_seconds(90)
async def test_what_the_leader_has_and_a_server_that_is_behind_has_not_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lies: list[str] = []
    ask = Bucket._ask

    async def lie(self: Bucket, what: str, arguments: dict[str, Any]) -> Any:
        found = await ask(self, what, arguments)
        if found is not None and "subjects_filter" in arguments and lies:
            found["state"].setdefault("subjects", {})[lies.pop()] = 1
        return found

    monkeypatch.setattr(Bucket, "_ask", lie)
    monkeypatch.setattr(feed, "HEARTBEAT", 0.3)
    with NatsCluster() as cluster:
        async with NatsRegistry(f"nats://{cluster.hosts}?registry_replicas=3") as registry:
            await registry.register(record(), ttl=60)
            lies = ["$KV.eventmicro_registry.orders.2"] * 2
            assert await registry.get_service("orders") == [record()]
            assert lies == []
            lies = ["$KV.eventmicro_registry.orders.2"] * 10
            with pytest.raises(Unavailable, match="behind"):
                await registry.get_service("orders")


async def test_a_cluster_without_jetstream_asks() -> None:
    route = free_port()
    config = f'server_name: alone\ncluster {{ name: test, listen: "127.0.0.1:{route}" }}'
    with NatsServer(config) as server:
        async with NatsRegistry(server.url) as one, NatsRegistry(server.url) as other:
            await one.register(record(), ttl=60)
            assert await other.get_service("orders") == [record()]


async def test_who_connects_twice_at_once_has_one_line(server: NatsServer) -> None:
    async with NatsBroker(server.url) as broker:
        registry = broker.registry()
        await asyncio.gather(*(registry.connect() for _ in range(5)))
        assert len(broker._followers) == 1
        await registry.close()
        assert not broker._followers


async def test_a_record_whose_address_is_no_subject_is_left_out(server: NatsServer) -> None:
    client = await nats.connect(server.url)
    async with NatsRegistry(server.url) as registry:
        await registry.register(record("1"), ttl=60)
        bad = record("2").model_copy(update={"nodes": [NodeRecord(id="2", address="or ders.\r\nPUB x 0")]})
        with pytest.raises(UsageError, match="address="):
            await registry.register(bad, ttl=60)
        key = f"$KV.eventmicro_registry.{bad.name}.2"
        await client.jetstream().publish(key, bad.model_dump_json().encode())
        (found,) = await registry.get_service(bad.name)
        assert [node.id for node in found.nodes] == ["1"]
    await client.close()


@pytest.mark.parametrize("storage", ["file", "memory"])
async def test_after_a_restart_of_the_server_nobody_waits_for_a_heartbeat(storage: str) -> None:
    with NatsServer(jetstream=True) as server:
        url = f"{server.url}?registry_storage={storage}&reconnect_wait=0.05"
        async with (
            Service("orders", id="1", broker=url, register_ttl=3600, register_interval=900),
            NatsRegistry(url) as other,
        ):
            assert await other.get_service("orders")
            server.kill()
            server.start()
            async with asyncio.timeout(30):
                while True:
                    with suppress(Unavailable, NotFound):
                        (found,) = await other.get_service("orders")
                        break
                    await asyncio.sleep(0.02)
            assert [node.id for node in found.nodes] == ["1"]
