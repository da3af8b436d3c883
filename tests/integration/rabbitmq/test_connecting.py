"""RabbitMQ: nodes that refuse, hang, are not there or speak something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitSettings

from eventmicro.broker import Durable
from eventmicro.errors import (
    ConnectionFailed,
)
from tests.integration.rabbitmq.kit import Until
from tests.servers import FaultProxy


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of a server that takes connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()


# -- connecting ------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_said_at_once_and_not_shown(rabbitmq_url: str) -> None:
    broker = RabbitBroker(rabbitmq_url.replace("guest:guest", "guest:not-this-one"))
    with pytest.raises(ConnectionFailed, match=r"refused.*Login was refused") as caught:
        await broker.connect()
    assert "not-this-one" not in f"{caught.value}{broker.url}{broker.settings!r}"
    assert not broker.connected


async def test_a_missing_vhost_is_named(rabbitmq_url: str) -> None:
    with pytest.raises(ConnectionFailed, match=r"refused.*vhost nowhere not found"):
        await RabbitBroker(f"{rabbitmq_url}nowhere").connect()


async def test_nobody_there_is_said_within_the_timeout() -> None:
    with pytest.raises(ConnectionFailed, match="is it running"):
        await RabbitBroker("amqp://127.0.0.1:1?connect_timeout=0.2").connect()


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("amqp", b"INFO {}\r\n", r"speaks no AMQP, or wants TLS \(amqps://\)"),
        ("amqp", b"\x15\x03\x01\x00\x02\x02\x46", r"speaks no AMQP, or wants TLS \(amqps://\)"),  # an alert of TLS
        ("amqps", b"AMQP\x00\x00\x09\x01", r"no TLS is spoken there \(WRONG_VERSION_NUMBER\); write amqp://"),
    ],
)
async def test_what_speaks_something_else_is_told_apart(scheme: str, answer: bytes, words: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailed, match=words):
            await RabbitBroker(f"{scheme}://127.0.0.1:{port}?connect_timeout=0.5").connect()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with silent_server() as port:
        with pytest.raises(ConnectionFailed, match=r"no answer within 0.2 s"):
            await RabbitBroker(f"amqp://127.0.0.1:{port}?connect_timeout=0.2").connect()


async def test_another_node_is_tried(rabbitmq_url: str) -> None:
    parts = urlsplit(rabbitmq_url)
    async with RabbitBroker(f"amqp://guest:guest@127.0.0.1:1,127.0.0.1:{parts.port}/") as broker:
        assert broker.online


class Node(FaultProxy):
    """A way to the server that counts who comes by it."""

    made = 0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        super()._accept(reader, writer)


async def test_clients_spread_over_the_nodes_also_when_they_connect_again(rabbitmq_url: str, until: Until) -> None:
    works = urlsplit(rabbitmq_url).port or 0
    async with Node(works) as one, Node(works) as two, Node(works) as three, AsyncExitStack() as brokers:
        nodes = one, two, three
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        for _ in range(15):
            await brokers.enter_async_context(RabbitBroker(f"amqp://guest:guest@{hosts}/?reconnect_wait=0.01"))
        assert sum(node.made for node in nodes) == 30
        before = [node.made for node in nodes]
        for node in nodes:
            node.cut()
        await until(lambda: sum(node.made for node in nodes) == 60)
        again = [node.made - had for node, had in zip(nodes, before, strict=True)]
    assert min(before + again) > 0, (before, again)


async def test_a_node_that_refuses_does_not_keep_from_the_others(rabbitmq_url: str) -> None:
    """Whichever comes first, such as one that has another virtual host's data only."""
    port = urlsplit(rabbitmq_url).port or 0
    async with FaultProxy(port) as away:
        away.refuse = True
        settings = RabbitSettings(
            (f"127.0.0.1:{port}", f"127.0.0.1:{away.port}"), password="wrong", connect_timeout=0.5
        )
        for _ in range(5):
            with pytest.raises(ConnectionFailed, match=r"refused: .*Login was refused"):
                await RabbitBroker(settings=settings).connect()


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "a b"])
async def test_a_host_that_cannot_be_is_named_and_the_others_are_tried(rabbitmq_url: str, host: str) -> None:
    with pytest.raises(ConnectionFailed, match=rf"within 0.2 s: {host}:1: "):
        await RabbitBroker(f"amqp://{host}:1?connect_timeout=0.2").connect()
    async with RabbitBroker(f"amqp://guest:guest@{host}:1,127.0.0.1:{urlsplit(rabbitmq_url).port}/") as broker:
        assert broker.online


async def test_a_node_that_hangs_leaves_time_for_the_others(rabbitmq_url: str) -> None:
    works = urlsplit(rabbitmq_url).port
    async with silent_server() as hangs:
        url = f"amqp://guest:guest@127.0.0.1:{hangs},127.0.0.1:{works}/?connect_timeout=2"
        async with RabbitBroker(url) as broker:
            assert broker.online
        with pytest.raises(ConnectionFailed, match=rf"127.0.0.1:{hangs} does not answer"):
            await RabbitBroker(f"amqp://127.0.0.1:1,127.0.0.1:{hangs}/?connect_timeout=0.4").connect()


async def test_two_closes_at_once_and_one_more(url: str, subject: str) -> None:
    broker = RabbitBroker(url)
    await broker.connect()
    await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
    await asyncio.gather(broker.close(), broker.close())
    await broker.close()
    assert not broker.connected
