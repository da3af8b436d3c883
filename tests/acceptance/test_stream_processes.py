"""Real processes: what a kill -9 of either side, and a stop, do to streams that are under way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Self

import pytest

from eventmicro import Client
from eventmicro.errors import PeerLost, Unavailable
from tests.acceptance.program_streams import KEEP_ALIVE
from tests.conftest import PATIENCE
from tests.servers import NatsServer

PROGRAM = Path(__file__).parent / "program_streams.py"


class Side:
    """One side as a process of its own; killed at the end of the block, if it still runs."""

    def __init__(self, what: str, url: str) -> None:
        self._what = what
        self._url = url

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            PROGRAM,
            self._what,
            env=os.environ | {"EVENTMICRO_BROKER": self._url},
            stdout=asyncio.subprocess.PIPE,
        )
        await self.line("ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def line(self, *wanted: str) -> str:
        """Its next line that is one of these."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while (line := (await self.process.stdout.readline()).decode().strip()) not in wanted:
                assert line or not self.process.stdout.at_eof(), f"the {self._what} ended before it said {wanted}"
        return line

    async def end(self, number: int) -> None:
        self.process.send_signal(number)
        await self.process.wait()


async def test_after_kill_9_of_the_service_its_streams_are_lost_and_others_can_be_opened() -> None:
    with NatsServer() as server:
        async with Client(server.url) as client:
            async with Side("serve", server.url) as serving:
                seen = 0

                async def read_and_send() -> None:
                    nonlocal seen
                    async with client.stream("streaming.total", reply=int, keep_alive=KEEP_ALIVE) as total:
                        async for number in client.stream("streaming.count", reply=int, keep_alive=KEEP_ALIVE):
                            assert number == seen
                            seen += 1
                            await total.send(number)
                            if seen == 2000:
                                await serving.end(signal.SIGKILL)

                with pytest.raises(PeerLost):
                    await read_and_send()
                assert seen >= 2000
                with pytest.raises(Unavailable, match="nobody serves"):
                    await anext(client.stream("streaming.count", reply=int))
            async with Side("serve", server.url):
                assert await anext(client.stream("streaming.count", reply=int)) == 0


async def test_after_kill_9_of_the_client_the_handlers_of_its_streams_end() -> None:
    with NatsServer() as server:
        async with Side("serve", server.url) as serving, Side("read", server.url) as reading:
            await serving.line("total began")
            await reading.end(signal.SIGKILL)
            ends = {"count ended", "total ended by PeerLost", "total ended by CancelledError"}
            first = await serving.line(*ends)
            second = await serving.line(*(ends - {first}))
            assert "count ended" in (first, second)


async def test_a_service_that_is_stopped_ends_its_streams_by_an_error_that_says_so() -> None:
    with NatsServer() as server:
        async with Client(server.url) as client, Side("serve", server.url) as serving:
            seen = 0

            async def read() -> None:
                nonlocal seen
                async for number in client.stream("streaming.count", reply=int):
                    assert number == seen
                    seen += 1
                    if seen == 1000:
                        serving.process.send_signal(signal.SIGTERM)

            with pytest.raises(Unavailable, match="the service has stopped") as stopped:
                await read()
            assert stopped.value.retryable
            assert await serving.process.wait() == 0
