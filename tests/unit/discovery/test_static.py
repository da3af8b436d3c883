"""A registry that is written down, and how registries are found by name, by URL and by broker."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from eventmicro import AdapterNotFound, Client, MemoryBroker, NotFound, Service, UsageError
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.plugins import open_registry
from eventmicro.registries import StaticRegistry
from eventmicro.registry import NodeRecord, ServiceRecord
from tests.unit.discovery.kit import record


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "services.json"
    records = [record("1"), record("2", "2.0.0"), record(name="payments")]
    file.write_text(json.dumps([each.model_dump() for each in records]))
    return file


async def test_it_says_what_is_written_down_and_nothing_else(file: Path) -> None:
    registry = StaticRegistry(f"static://{file}")
    async with registry:
        assert [(each.name, each.version) for each in await registry.list_services()] == [
            ("orders", "1.0.0"),
            ("orders", "2.0.0"),
            ("payments", "1.0.0"),
        ]
        await registry.register(record("3"), ttl=10)
        await registry.deregister(record("1"))
        assert [node.id for each in await registry.get_service("orders") for node in each.nodes] == ["1", "2"]
        with pytest.raises(NotFound, match="no node of it is written down"):
            await registry.get_service("stock")
        told = []
        async with aclosing(cast("Any", registry.watch("orders"))) as changes:
            async for change in changes:
                told.append((change.action, change.service and change.service.nodes[0].id))
                if change.action == "synced":
                    break
    assert told == [("create", "1"), ("create", "2"), ("synced", None)]


async def test_calls_go_to_the_nodes_that_are_written_down(tmp_path: Path) -> None:
    url = "memory://static"
    services = [Service("orders", id=name, broker=url, registry="none") for name in ("one", "two")]
    for service in services:

        @service.rpc
        async def who(number: int) -> int:
            return number

    node = NodeRecord(id="two", address="orders.$node.two")
    registry = StaticRegistry([ServiceRecord(name="orders", version="1.0.0", nodes=[node])])
    async with services[0], services[1], Client(url, registry=registry, selector="random") as client:
        for _ in range(5):
            await client.call("orders.who", 1, int)
        counts = {s.id: s._node._parts.handlers[0].inflight.statistics.count for s in services}  # type: ignore[union-attr]
    assert counts == {"one": 0, "two": 5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("nonsense", "write a list of registry records"),
        ('[{"version": "1"}]', r"0\.name: Field required"),
        ('[{"name": "orders"}]', "a record without nodes"),
        ('[{"name": "or ders", "nodes": [{"id": "1"}]}]', "service name 'or ders'"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "services.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=reason):
        StaticRegistry(f"static://{file}")


def test_a_registry_is_found_by_broker_name_and_url(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker("memory://found")
    own = open_registry(None, broker)
    assert isinstance(own, MemoryRegistry)
    assert own.url == "memory://found"
    by_name = open_registry("memory", broker)
    assert by_name is not None
    assert by_name.url == "memory://found"
    assert open_registry("none", broker) is None
    other = open_registry("memory://other", broker)
    assert other is not None
    assert other.url == "memory://other"
    assert isinstance(open_registry(f"static://{file}", broker), StaticRegistry)
    assert open_registry(own, broker) is own
    monkeypatch.setenv("EVENTMICRO_REGISTRY", "none")
    assert Client(broker).registry is None
    assert Client(broker, registry="memory").registry is not None


@pytest.mark.parametrize("name", ["etdc", "etdc://127.0.0.1"])
def test_a_registry_that_is_not_installed_is_told(name: str) -> None:
    with pytest.raises(AdapterNotFound, match="no registry 'etdc' is installed; did you mean 'etcd'"):
        Client("memory://", registry=name)


async def test_two_nodes_of_one_id_are_refused_while_the_first_one_runs() -> None:
    url = "memory://one id"
    async with Service("orders", id="one", broker=url):
        with pytest.raises(UsageError, match="another instance with id 'one' is running"):
            await Service("orders", id="one", broker=url).start()
        async with Service("orders", id="two", broker=url), Service("payments", id="one", broker=url):
            pass
    async with Service("orders", id="one", broker=url):
        pass
