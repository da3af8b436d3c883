"""How the brokers of a Kafka cluster are found: what that costs, and what is said where it fails."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaConnectionError
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection import finding
from eventmicro_kafka.connection.driver import make_client, make_consumer, make_producer
from eventmicro_kafka.connection.ending import stop_client, stop_consumer, stop_producer
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.errors import UsageError


async def test_a_connection_that_is_closed_while_it_is_made_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the end of its client."""
    closed = SimpleNamespace(_writer=None)

    async def made(*_: object) -> object:
        return closed

    monkeypatch.setattr(AIOKafkaClient, "_get_conn", made)
    assert await finding._get_connection(object(), 0) is closed


async def _nobody(*_: object) -> object:
    raise KafkaConnectionError("nobody there")


@pytest.mark.parametrize("kind", ["client", "consumer", "producer"])
async def test_what_tls_needs_is_read_once_by_each_client_and_not_on_the_loop(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many servers there are, and however often they are asked."""
    read_by: list[threading.Thread] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    used: list[object] = []

    def read(_: KafkaSettings) -> ssl.SSLContext:
        read_by.append(threading.current_thread())
        return context

    def connection(*_: object, ssl_context: object, **__: object) -> object:
        used.append(ssl_context)
        return SimpleNamespace(connect=_nobody)

    monkeypatch.setattr(KafkaSettings, "ssl_context", read)
    monkeypatch.setattr(finding, "_Brief", connection)
    settings = KafkaSettings(servers=("a:1", "b:1", "c:1"), tls=True)
    owner: Any = {"client": make_client, "producer": make_producer}.get(kind, lambda s: make_consumer(s, "g"))(settings)
    client = {"client": lambda: owner, "producer": lambda: owner.client}.get(kind, lambda: owner._client)()
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    for _ in range(3):
        assert not await client._metadata_update(client.cluster, [])
    assert len(read_by) == 1
    assert read_by[0] is not threading.current_thread()
    assert used == [context] * 12
    assert client._ssl_context is context
    if kind == "client":
        await stop_client(client)
    await (stop_consumer(owner) if kind == "consumer" else asyncio.sleep(0))
    await (stop_producer(owner, 0) if kind == "producer" else asyncio.sleep(0))


async def test_an_authority_that_cannot_be_read_is_said_to_whoever_connects() -> None:
    with pytest.raises(UsageError, match="tls_ca"):
        await KafkaBroker("kafka://127.0.0.1:1?tls_ca=/nowhere&connect_timeout=1").connect()


async def test_why_no_server_says_where_the_brokers_are_is_in_the_debug_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def refuse(*_: object) -> object:
        raise ValueError("no such file")

    async def fails(*_: object) -> bool:
        return False

    monkeypatch.setattr(finding, "_ask_server", refuse)
    client = SimpleNamespace(hosts=[("a", 1, 0), ("b", 2, 0)])
    assert not await finding._update_metadata(client, KafkaSettings(), fails, ClusterMetadata(), [])
    assert "a:1" in caplog.text
    assert "b:2" in caplog.text
    assert caplog.text.count("no such file") == 2
