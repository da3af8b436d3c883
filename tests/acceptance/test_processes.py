"""Real processes: what a rolling restart, a kill -9 and a broker's restart do to the calls that are under way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from eventmicro.client import Client
from eventmicro.errors import CallTimeout, TransportError, Unavailable
from tests.conftest import PATIENCE
from tests.servers import NatsServer

PROGRAM = Path(__file__).parent / "program_worker.py"
CALLERS = 32


class Worker:
    """One instance of the service as a process of its own; killed at the end of the block, if it still runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Self:
        environment = os.environ | {"EVENTMICRO_BROKER": self._url}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        while (line := await self.process.stdout.readline()) != b"ready\n":
            assert line, "the worker ended before it was ready"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def end(self, number: int) -> int:
        self.process.send_signal(number)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


class Load:
    """Callers that call without a pause, and a count of every outcome."""

    def __init__(self, client: Client, seconds: float, timeout: float) -> None:
        self._client = client
        self._seconds = seconds
        self._timeout = timeout
        self._callers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.made = 0
        self.outcomes: Counter[str] = Counter()
        self.served_by: Counter[int] = Counter()

    async def __aenter__(self) -> Self:
        self._callers = [asyncio.ensure_future(self._call_on()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._callers)

    async def more(self, count: int, pid: int | None = None) -> None:
        """Return when this many more calls have been answered, by this process if one is named."""
        enough = self._answered(pid) + count
        async with asyncio.timeout(PATIENCE):
            while self._answered(pid) < enough:
                await asyncio.sleep(0.005)

    def _answered(self, pid: int | None) -> int:
        return self.outcomes["answered"] if pid is None else self.served_by[pid]

    async def _call_on(self) -> None:
        while not self._stopping:
            self.made += 1
            try:
                self.served_by[await self._client.call("worker.work", self._seconds, int, timeout=self._timeout)] += 1
                self.outcomes["answered"] += 1
            except (CallTimeout, Unavailable, TransportError) as error:
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.01)


async def test_a_rolling_restart_by_sigterm_loses_no_call() -> None:
    with NatsServer() as server:
        async with Client(server.url) as client, AsyncExitStack() as workers:
            old = [await workers.enter_async_context(Worker(server.url)) for _ in range(2)]
            async with Load(client, seconds=0.05, timeout=20) as load:
                await load.more(100)
                for worker in old:
                    new = await workers.enter_async_context(Worker(server.url))
                    await load.more(20, new.process.pid)
                    assert await worker.end(signal.SIGTERM) == 0
                    await load.more(100)
            assert load.outcomes == {"answered": load.made}


async def test_after_kill_9_of_one_of_two_only_its_own_calls_are_lost() -> None:
    with NatsServer() as server:
        async with Client(server.url) as client, Worker(server.url) as one, Worker(server.url) as other:
            async with Load(client, seconds=0.02, timeout=5.0) as load:
                await load.more(100, one.process.pid)
                await load.more(100, other.process.pid)
                assert await one.end(signal.SIGKILL) == -signal.SIGKILL
                await load.more(500, other.process.pid)
            lost = load.outcomes.pop("CallTimeout", 0)
            assert lost <= CALLERS, "each caller loses at most the call that it had with the dead instance"
            assert load.outcomes == {"answered": load.made - lost}


async def test_calls_between_processes_come_back_after_the_broker_was_killed() -> None:
    with NatsServer() as server:
        async with Client(server.url) as client, Worker(server.url) as worker:
            async with Load(client, seconds=0.0, timeout=0.5) as load:
                await load.more(100)
                server.kill()
                server.start()
                await load.more(1000, worker.process.pid)
            assert set(load.outcomes) <= {"answered", "CallTimeout", "Unavailable"}
            assert load.outcomes["answered"] >= 1100
