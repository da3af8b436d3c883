"""Many acknowledged events while everything breaks: each that was published is handled; what came twice is counted.

`EVENTMICRO_FAULT_EVENTS` says how many per broker; default 10000.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eventmicro import Client, Context, Retry
from tests.delivery.bench import Bench, Number
from tests.delivery.conftest import url_of
from tests.delivery.publishing import publish_singly, publish_together
from tests.delivery.test_processes import ROOT
from tests.processes import Program
from tests.servers import FaultProxy
from tests.servers.kafka import PLAINTEXT
from tests.servers.process import ServerProcess
from tests.servers.sharing import KINDS

EVENTS = int(os.environ.get("EVENTMICRO_FAULT_EVENTS", "10000"))
# How many are published with one confirmation.
PORTION = 250
KEYS = 50
# How long the connection is cut, in seconds.
CUT = 3.0
# After how long without any more being handled the rest counts as lost, in seconds.
PATIENCE = 30.0
# How many times something is broken while events are published.
FAULTS = 6


@dataclass
class Tally:
    """What was published and what was handled, for one broker; no more is published than `allowed`."""

    allowed: float = 0
    published: int = 0
    published_again: int = 0
    handled: Counter[int] = field(default_factory=Counter)

    async def handle(self, event: Number, context: Context) -> None:
        """Wait now and then, and fail now and then, so that events and retries are under way when something breaks."""
        if event.value % 20 == 0:
            await asyncio.sleep(0.002)
        if event.value % 1000 == 7 and context.attempt == 1:
            raise ValueError("not yet")
        self.handled[event.value] += 1

    async def under_load(self) -> None:
        """Let the next part be published; return while that is under way."""
        start = self.allowed
        self.allowed += EVENTS / FAULTS
        while self.published < start + EVENTS / FAULTS / 10:
            await asyncio.sleep(0.01)

    async def complete(self, elsewhere: Callable[[], Counter[int]] = Counter) -> None:
        """Return when all that was published is handled, or nothing more of it has been for a while."""
        most, patience = -1, PATIENCE
        while most < EVENTS and patience > 0:
            before, most = most, len(self.handled.keys() | elsewhere().keys())
            patience = PATIENCE if most > before else patience - 0.1
            await asyncio.sleep(0.1)

    @property
    def lost(self) -> int:
        return EVENTS - len(self.handled)

    def report(self, name: str, faults: str) -> str:
        twice = sum(self.handled.values()) - len(self.handled)
        return f"{name} | {EVENTS} | {faults} | {self.published_again} | {self.lost} | {twice}"


async def publish_all(client: Client, bench: Bench, tally: Tally) -> None:
    """Publish until every event is acknowledged; what is not confirmed is published again."""
    for start in range(0, EVENTS, PORTION):
        portion = [Number(value=value, key=f"k{value % KEYS}") for value in range(start, min(start + PORTION, EVENTS))]
        publish = publish_singly if start // PORTION % 10 == 0 else publish_together
        while tally.published >= tally.allowed:
            await asyncio.sleep(0.001)
        while portion:
            failed = await publish(client, bench, portion, timeout=60)
            left = [portion[number] for number in sorted(failed)]
            tally.published += len(portion) - len(left)
            tally.published_again += len(left)
            portion = left


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out of the log what is expected here by the thousand."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


# -- with a server ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_proxy(kind: str) -> AsyncIterator[tuple[ServerProcess, FaultProxy, str]]:
    """A server of one's own, and the URL at which it is reached through a bad network."""
    server = KINDS[kind].server()
    if kind != "kafka":
        server.start()
    try:
        async with FaultProxy(server.port) as proxy:
            if kind == "kafka":  # it tells its clients itself where it is
                server.addresses[PLAINTEXT] = f"127.0.0.1:{proxy.port}"  # type: ignore[attr-defined]
                server.start()
            yield server, proxy, url_of(server, proxy.port)
    finally:
        server.__exit__()


class Child:
    """A subscriber in a process of its own, killed and started again; it writes to a file what it has handled."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.file = folder / "handled"
        self.file.touch()
        self._arguments = [str(Path(__file__).with_name("program_subscriber.py")), bench.url, bench.name, "count"]
        self._folder = folder
        self._program: Program | None = None

    async def start(self) -> None:
        env = {"PYTHONPATH": str(ROOT), "HANDLED": str(self.file)}
        self._program = Program(self._folder, *self._arguments, python=True, env=env)
        self._program.__enter__()
        await asyncio.to_thread(self._program.line_with, "ready")

    async def kill(self) -> None:
        program, self._program = self._program, None
        if program is not None:
            await asyncio.to_thread(program.end, signal.SIGKILL)

    def handled(self) -> Counter[int]:
        return Counter(map(int, self.file.read_text().split()))


@pytest.mark.timeout_seconds(300)
@pytest.mark.parametrize("kind", ["jetstream", "rabbitmq", "kafka"])
async def test_no_acknowledged_event_is_lost_whatever_is_killed_and_cut(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally()
    with quiet():
        async with behind_proxy(kind) as (server, proxy, url):
            bench = Bench(url)
            child = Child(Bench(url_of(server), bench.name), tmp_path)
            words = {"retry": Retry(attempts=50, backoff=0.05, factor=1), "concurrency": 8}
            async with bench.run(tally.handle, instances=2, **words) as client:
                await child.start()
                publishing = asyncio.create_task(publish_all(client, bench, tally))
                await break_everything(server, proxy, child, tally)
                await publishing
                await tally.complete(child.handled)
            await child.kill()
    tally.handled += child.handled()
    faults = "2 server kills, 2 cuts, 2 subscriber kills"
    record_property("faults", tally.report(KINDS[kind].title, faults))
    assert (tally.published, tally.lost) == (EVENTS, 0)


async def break_everything(server: ServerProcess, proxy: FaultProxy, child: Child, tally: Tally) -> None:
    """One fault after the other, each while events are published and handled."""
    await tally.under_load()
    await child.kill()
    await child.start()
    await tally.under_load()
    await restart(server)
    await tally.under_load()
    await proxy.stop()
    await asyncio.sleep(CUT)
    await proxy.start()
    await tally.under_load()
    await child.kill()
    await child.start()
    await tally.under_load()
    await restart(server)
    await tally.under_load()
    proxy.cut()


async def restart(server: ServerProcess) -> None:
    """As after a crash."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


# -- without one -----------------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(300)
async def test_no_event_in_memory_is_lost_whichever_connection_is_closed(
    record_property: Callable[[str, object], None],
) -> None:
    tally = Tally()
    bench = Bench("memory://faults")
    words = {"retry": Retry(attempts=50, backoff=0.05, factor=1), "concurrency": 8, "stop_timeout": 0.001}
    with quiet():
        async with bench.run(tally.handle) as client:
            publishing = asyncio.create_task(publish_all(client, bench, tally))
            for number in range(FAULTS):
                service = bench.service(tally.handle, **words)
                await service.start()
                await tally.under_load()
                if number % 2:
                    await service.client.broker.close()  # as a lost connection would
                await service.stop()
            await publishing
            await tally.complete()
    record_property("faults", tally.report("memory", f"{FAULTS} subscribers cut off, {FAULTS // 2} connections closed"))
    assert (tally.published, tally.lost) == (EVENTS, 0)
