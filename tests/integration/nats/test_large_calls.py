"""Large bodies of calls over a real server: many at once, a bad network, either side killed, the server restarted."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest

from eventmicro import Client, Service
from eventmicro.errors import CallTimeout, Disconnected, EventMicroError, MessageTooLarge, PeerLost, StreamBroken
from eventmicro.rpc.large import giving
from tests.integration.nats.kit import started, until
from tests.processes import Program
from tests.servers.nats import NatsServer

BIG = secrets.token_bytes(10 * 1024 * 1024)
SERVICE = """
import asyncio, sys
from eventmicro import Service
service = Service("files", broker=sys.argv[1])

@service.rpc
async def digest(request: bytes) -> str:
    import hashlib
    print("handled", len(request), flush=True)
    return hashlib.sha256(request).hexdigest()

@service.after_start
def say() -> None:
    print("started", flush=True)

service.run()
"""


class Files:
    """A service under a name of its own on the shared server."""

    def __init__(self, **options: Any) -> None:
        self.name = f"files-{secrets.token_hex(4)}"
        self.service = Service(self.name, **options)
        self.got = 0

        @self.service.rpc
        async def echo(request: bytes) -> bytes:
            self.got += 1
            return request

    @property
    def echo(self) -> str:
        return f"{self.name}.echo"


async def test_ten_megabytes_there_and_back(nats_url: str) -> None:
    files = Files()
    async with started(files.service, nats_url), Client(nats_url) as client:
        with pytest.raises(MessageTooLarge, match="max_payload of 1048576"):
            await client.call(files.echo, BIG, bytes)
        assert await client.call(files.echo, BIG, bytes, large="stream") == BIG
        assert await client.call(files.echo, BIG, bytes, large="stream", selector="random") == BIG
        assert files.got == 2


async def test_many_at_once_do_not_mix(nats_url: str) -> None:
    files = Files()
    bodies = [secrets.token_bytes(2_000_000 + number) for number in range(20)]
    async with started(files.service, nats_url), Client(nats_url, large="stream", timeout=30) as client:
        assert await asyncio.gather(*(client.call(files.echo, body, bytes) for body in bodies)) == bodies


async def test_a_server_that_takes_little_gets_smaller_pieces() -> None:
    files = Files()
    with NatsServer("max_payload: 2000") as server:
        async with started(files.service, server.url), Client(server.url, large="stream") as client:
            assert await client.call(files.echo, BIG[:200_000], bytes) == BIG[:200_000]


async def test_small_calls_go_on_beside_large_ones(nats_url: str) -> None:
    files = Files()
    async with started(files.service, nats_url), Client(nats_url, large="stream", timeout=30) as client:
        large = asyncio.create_task(client.call(files.echo, BIG, bytes))
        small = 0
        while not large.done():
            assert await client.call(files.echo, b"small", bytes) == b"small"
            small += 1
        assert await large == BIG
        assert small > 3


async def test_a_plain_client_that_offers_nothing_is_answered_as_ever(nats_url: str) -> None:
    files = Files()
    async with started(files.service, nats_url):
        client = await nats.connect(nats_url)
        assert (await client.request(files.echo, b"plain")).data == b"plain"
        await client.close()


@pytest.mark.timeout_seconds(120)
async def test_forty_calls_in_turn_leave_no_memory_behind(nats_url: str) -> None:
    files = Files()
    async with started(files.service, nats_url), Client(nats_url, large="stream", timeout=30) as client:
        for _ in range(10):
            await client.call(files.echo, BIG, bytes)
        gc.collect()
        before = psutil.Process().memory_info().rss
        for _ in range(40):
            assert len(await client.call(files.echo, BIG, bytes)) == len(BIG)
        gc.collect()
        assert psutil.Process().memory_info().rss - before < 40 * 1024 * 1024
        node: Any = files.service._node
        await until(lambda: len(node._making.large._opened[0]) == 0)
        assert len(client._calls.streams) == 0


@pytest.mark.timeout_seconds(60)
async def test_a_service_killed_in_mid_way_has_handled_no_half_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving, "KEEP_ALIVE", 0.5)
    (tmp_path / "files.py").write_text(SERVICE)
    body = bytes(60_000_000)
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with NatsServer() as server:
        async with Client(server.url, large="stream", timeout=30) as client:
            with Program(tmp_path, "files.py", server.url, env=paths, python=True) as program:
                await asyncio.to_thread(program.line_with, "started")
                calling = asyncio.create_task(client.call("files.digest", body, str))
                await until(lambda: sent(client) > 3_000_000)
                program.process.kill()
                with pytest.raises(PeerLost, match="the request did not get there whole"):
                    await calling
                program.process.wait()
                assert "handled" not in program.output
            with Program(tmp_path, "files.py", server.url, env=paths, python=True) as program:
                await asyncio.to_thread(program.line_with, "started")
                assert await client.call("files.digest", body, str) == hashlib.sha256(body).hexdigest()
                assert len(client._calls.streams) == 0


def sent(client: Client) -> int:
    """How many bytes of pieces a client has on their way."""
    if "streams" not in client._calls.__dict__ or client._calls.streams._streams is None:
        return 0
    return sum(each.outgoing.credit.bytes for each in client._calls.streams._streams._channels.values())


@pytest.mark.timeout_seconds(60)
async def test_a_server_restarted_in_mid_way_loses_the_call_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "KEEP_ALIVE", 1.0)
    files = Files()
    with NatsServer() as server:
        async with started(files.service, server.url), Client(server.url, large="stream", timeout=5) as client:
            calling = asyncio.create_task(client.call(files.echo, bytes(60_000_000), bytes))
            await until(lambda: sent(client) > 3_000_000)
            server.kill()
            server.start()
            with pytest.raises((PeerLost, StreamBroken, CallTimeout, Disconnected)):
                await calling
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await client.call(files.echo, BIG, bytes) == BIG
                        break
                    except EventMicroError:
                        await asyncio.sleep(0.1)
            node: Any = files.service._node
            await until(lambda: len(node._making.large._opened[0]) == 0 and len(client._calls.streams) == 0)
