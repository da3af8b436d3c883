"""The process that starts workers: it keeps N of them alive, or starts one anew whenever the code changes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from watchfiles import PythonFilter, awatch

from eventmicro.cli.processes.link import FIRST
from eventmicro.cli.processes.worker import Command, Worker
from eventmicro.cli.target import folders
from eventmicro.embedded import running as running_embedded
from eventmicro.running.signals import StopSignals

log = logging.getLogger(__name__)

# A worker that ended is started again after this many seconds, twice as many after each further time, up to the last.
FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0
# One that lived for so many seconds starts at the first pause again.
HEALTHY = 10.0
# How long the old code may take to stop before a reload ends it, in seconds.
RELOAD_LIMIT = 30.0
# How a worker ends that was asked to: it stopped its services well, or it had not begun to start them.
STOPPED = (0, -signal.SIGTERM)


def run_workers(command: Command) -> int:
    """Run as many workers as the command says until a signal; the exit code. One that ends is started again.

    The first one starts alone: when it ends by itself before it is ready none can start, and its exit code is returned.
    """
    return asyncio.run(_run_workers(command))


def run_reloading(command: Command) -> int:
    """Run one worker until a signal, anew after each change of a .py file; the exit code."""
    keep_no_bytecode()
    return asyncio.run(_run_reloading(command))


def keep_no_bytecode() -> None:
    """Have the processes that are started compile what they load: Python takes a file that was changed within the
    second in which it was compiled, and is as long as before, for the same.
    """
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


Restart = Literal["always", "on-failure", "no"]
"""When what ended by itself is started again."""


class Embedded:
    """The embedded server that all share who name no broker: started, or joined, for the first that asks."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._url: str | None = None

    def find(self) -> str:
        """Its URL.

        Raises:
            UsageError: there can be none.
        """
        if self._url is None:
            self._url = self._opened.enter_context(running_embedded())
        return self._url

    def close(self) -> None:
        """Stop it, if it was started here."""
        self._opened.close()


class Supervisor:
    """The workers of one command that run, and the wish to stop."""

    def __init__(self, command: Command, embedded: Embedded, restart: Restart = "always") -> None:
        self.stopping = asyncio.Event()
        self.workers: set[Worker] = set()
        self._command = command
        self._embedded = embedded
        self._restart = restart

    async def start(self, number: int) -> Worker:
        """Start a worker; it is stopped at once if the wish to stop came meanwhile."""
        worker = await Worker.start(self._command, number, self._embedded.find)
        self.workers.add(worker)
        worker.ended.add_done_callback(lambda _: self.workers.discard(worker))
        if self.stopping.is_set():
            worker.stop()
        return worker

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Start no more, and ask all that run to stop."""
        self.stopping.set()
        for worker in self.workers:
            worker.stop(number)

    async def begin(self) -> Worker:
        """Start the first worker, anew where it is killed meanwhile; it is ready, or has ended, and it is said how."""
        pause = FIRST_PAUSE
        while True:
            worker = await self.start(FIRST)
            await first_of(worker.ended, worker.ready.wait())
            if worker.ready.is_set() or self.stopping.is_set():
                return worker
            code = worker.ended.result()
            if self._restart == "no" or (code >= 0 and not (self._command.service and self._restart == "always")):
                log.error(
                    "%s, process %d, %s before it was ready", worker.name, worker.pid, _how(code), extra=worker.about
                )
                return worker
            pause = await self._pause_after(worker, pause)

    async def keep(self, number: int, worker: Worker | None = None) -> bool:
        """See to it that there is a worker with this number, until the wish to stop; whether the last ended well."""
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            began = asyncio.get_running_loop().time()
            worker = worker or await self.start(number)
            code = await worker.ended
            if self.stopping.is_set():
                return code in STOPPED
            if not self._comes_again(code):
                log.warning(
                    "%s, process %d, %s; it is not started again",
                    worker.name,
                    worker.pid,
                    _how(code),
                    extra=worker.about,
                )
                return code == 0
            if asyncio.get_running_loop().time() - began > HEALTHY:
                pause = FIRST_PAUSE
            pause = await self._pause_after(worker, pause)
            worker = None
        return True

    async def _pause_after(self, worker: Worker, pause: float) -> float:
        """Say that a worker has ended, and wait before the next one; how long to wait after that one."""
        how = _how(worker.ended.result())
        log.error("%s, process %d, %s; next in %g s", worker.name, worker.pid, how, pause, extra=worker.about)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), pause)
        return min(LAST_PAUSE, pause * 2)

    def _comes_again(self, code: int) -> bool:
        return self._restart == "always" or (self._restart == "on-failure" and code != 0)


async def _run_workers(command: Command) -> int:
    embedded = Embedded()
    supervisor = Supervisor(command, embedded)
    with _heeding_signals(supervisor), closing(embedded):
        first = await supervisor.begin()
        if supervisor.stopping.is_set():
            return 0 if await first.ended in STOPPED else 1
        if not first.ready.is_set():
            return max(1, first.ended.result())
        others = range(FIRST + 1, FIRST + command.workers)
        log.info("%d workers", command.workers)
        kept = [supervisor.keep(FIRST, first), *(supervisor.keep(number) for number in others)]
        return 0 if all(await asyncio.gather(*kept)) else 1


async def _run_reloading(command: Command) -> int:
    embedded, changed = Embedded(), asyncio.Event()
    supervisor = Supervisor(command, embedded)
    with _heeding_signals(supervisor), closing(embedded):
        watching = asyncio.create_task(watch_code(folders(list(command.targets)), supervisor.stopping, changed))
        try:
            while not supervisor.stopping.is_set():
                changed.clear()
                await _run_until_changed(supervisor, changed)
            return 0
        finally:
            supervisor.stopping.set()
            await watching


@contextmanager
def _heeding_signals(supervisor: Supervisor) -> Iterator[None]:
    """The first signal stops it, a second one ends its workers at once."""
    with StopSignals(at_once=lambda: supervisor.stop(signal.SIGKILL)) as stops, stops.asking(supervisor.stop):
        yield


async def _run_until_changed(supervisor: Supervisor, changed: asyncio.Event) -> None:
    worker = await supervisor.start(FIRST)
    await first_of(worker.ended, changed.wait())
    if changed.is_set():
        worker.stop()
        await asyncio.wait([worker.ended], timeout=RELOAD_LIMIT)
        if not worker.ended.done():
            log.warning("the old code does not stop within %g s: ending it", RELOAD_LIMIT)
            worker.stop(signal.SIGKILL)
        await worker.ended
    elif not supervisor.stopping.is_set():
        log.error("the service %s; waiting for a change of the code", _how(worker.ended.result()))
        await first_of(changed.wait(), supervisor.stopping.wait())


async def watch_code(places: list[Path], stopping: asyncio.Event, changed: asyncio.Event) -> None:
    """Say it, and set `changed`, whenever a .py file in these folders changes, until the wish to stop."""
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it would say each change a second time
    try:
        async for changes in awatch(*places, watch_filter=PythonFilter(), stop_event=stopping):
            files = sorted({Path(file).name for _, file in changes})
            log.info("changed: %s; starting anew", ", ".join(files))
            changed.set()
    except OSError as error:  # too many folders, for one
        log.error("the code cannot be watched, so changes go unnoticed: %s", error)


async def first_of(*waiting: Awaitable[object]) -> None:
    """Return when one of these is done; a future among them goes on, a coroutine that still waits is cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each, task in zip(waiting, tasks, strict=True):
        if task is not each:
            task.cancel()


def _how(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
