"""A broker that keeps no registry, with one beside it: services are found, chosen and listed as on any other."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from eventmicro import CallTimeout, Client, NotFound, Service, Unavailable
from eventmicro.discovery.filters import version
from tests.conftest import Until
from tests.integration.registries import watched
from tests.processes import Program
from tests.servers import EtcdServer

pytestmark = pytest.mark.timeout_seconds(60)

PROGRAM = """
import os, sys
from eventmicro import Service

service = Service(os.environ["NAME"], version=sys.argv[2], id=sys.argv[1])

@service.rpc
async def who() -> str:
    return sys.argv[1]

service.run()
"""


@pytest.fixture
def etcd() -> Iterator[str]:
    with EtcdServer() as server:
        yield server.url


async def is_unrouted(client: Client, endpoint: str) -> bool:
    try:
        await client.call(endpoint, None, str, timeout=0.5)
    except (CallTimeout, Unavailable) as error:
        return isinstance(error, Unavailable)
    return False


async def test_a_node_on_rabbitmq_that_is_killed_is_passed_over_at_once_and_then_forgotten(
    rabbitmq_url: str, etcd: str, tmp_path: Path, until: Until
) -> None:
    name = f"orders-{secrets.token_hex(4)}"
    (tmp_path / "app.py").write_text(PROGRAM)
    env = {
        "NAME": name,
        "EVENTMICRO_BROKER": rabbitmq_url,
        "EVENTMICRO_REGISTRY": etcd,
        "EVENTMICRO_REGISTER_TTL": "2",
    }
    with (
        Program(tmp_path, "app.py", "a", "1.0.0", env=env, python=True) as one,
        Program(tmp_path, "app.py", "b", "1.0.0", env=env, python=True) as two,
        Program(tmp_path, "app.py", "c", "2.0.0", env=env, python=True) as three,
    ):
        for program in (one, two, three):
            await asyncio.to_thread(program.line_with, name, "is running")
        async with Client(rabbitmq_url, registry=etcd, selector="round-robin") as client, AsyncExitStack() as stack:
            assert client.registry is not None
            await client.registry.connect()
            told = await stack.enter_async_context(watched(client.registry, name))
            await until(lambda: told.nodes == {"a", "b", "c"})

            async def called(**words: object) -> Counter[str]:
                return Counter([await client.call(f"{name}.who", None, str, **words) for _ in range(12)])  # type: ignore[call-overload]

            assert await called() == {"a": 4, "b": 4, "c": 4}
            assert await called(filters=[version("^1")]) == {"a": 6, "b": 6}
            one.process.kill()
            while not await is_unrouted(client, f"{name}.$node.a.who"):  # RabbitMQ has seen that it is gone
                pass
            assert set(await called()) <= {"b", "c"}
            await until(lambda: told.nodes == {"b", "c"})
            assert await called() == {"b": 6, "c": 6}
            (first, second) = await client.services(name)
            assert [(each.version, [node.id for node in each.nodes]) for each in (first, second)] == [
                ("1.0.0", ["b"]),
                ("2.0.0", ["c"]),
            ]


async def test_subscribers_on_kafka_are_found_and_waited_for_by_the_registry(kafka_url: str, etcd: str) -> None:
    name = f"bills-{secrets.token_hex(4)}"
    service = Service(name, version="1.0.0", id="one", broker=kafka_url, registry=etcd)

    @service.subscribe(f"{name}.placed")
    async def bill(number: int) -> None: ...

    async with Client(kafka_url, registry=etcd) as client:
        waiting = asyncio.create_task(client.ready(name, timeout=30))
        async with service:
            await waiting
            (record,) = await client.services(name)
        assert [(each.name, each.metadata["topic"]) for each in record.endpoints] == [("bill", f"{name}.placed")]
        assert await client.services(name) == []
        assert client.registry is not None
        with pytest.raises(NotFound):
            await client.registry.get_service(name)
