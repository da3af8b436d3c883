"""RabbitMQ: nodes that refuse, hang, are not there or speak something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from eventmicro_rabbitmq import RabbitBroker

from eventmicro.broker import Durable
from eventmicro.errors import (
    ConnectionFailed,
)


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
