"""The bad network of the tests, between a client and a server that sends back what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.servers import FaultProxy


@asynccontextmanager
async def echo_through_proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                writer.write(data)
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def test_what_is_sent_comes_through_in_order_and_so_does_the_end() -> None:
    async with echo_through_proxy() as proxy:
        proxy.latency, proxy.rate = 0.001, 1_000_000.0
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for number in range(100):
            writer.write(f"{number},".encode())
        writer.write_eof()
        assert await reader.read() == "".join(f"{number}," for number in range(100)).encode()
        writer.close()


async def test_in_a_black_hole_nothing_comes_through_until_it_is_gone() -> None:
    async with echo_through_proxy() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.blackhole = True
        writer.write(b"held")
        writer.write_eof()
        answer = asyncio.create_task(reader.read())
        await asyncio.wait([answer], timeout=0.05)
        assert not answer.done()
        proxy.blackhole = False
        assert await answer == b"held"
        writer.close()


async def test_a_cut_resets_connections_and_lets_new_ones_in() -> None:
    async with echo_through_proxy() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"there")
        assert await reader.read(100) == b"there"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(100)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"again")
        assert await reader.read(100) == b"again"
        writer.close()


async def test_a_stop_refuses_connections_until_the_next_start_on_the_same_port() -> None:
    async with echo_through_proxy() as proxy:
        await proxy.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.start()
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.close()


async def test_who_is_refused_is_hung_up_on() -> None:
    async with echo_through_proxy() as proxy:
        proxy.refuse = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["its task is cancelled at once", "the proxy has stopped"])
async def test_a_connection_that_is_let_in_at_a_stop_is_closed(monkeypatch: pytest.MonkeyPatch, stopped: bool) -> None:
    async with echo_through_proxy() as proxy:
        accept, let_in = proxy._accept, asyncio.Event()

        async def stop_and_accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if stopped:
                await proxy.stop()
            accept(reader, writer)
            for task in proxy._tasks:
                task.cancel()
            let_in.set()

        await proxy.stop()
        monkeypatch.setattr(proxy, "_accept", stop_and_accept)
        await proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await let_in.wait()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
