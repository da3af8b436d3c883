"""What runs services when something is wrong around them: no more processes, an output that takes nothing."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventmicro.cli.processes import marked, supervisor
from eventmicro.cli.processes.fleet import Fleet, Plan
from eventmicro.cli.processes.link import FIRST
from eventmicro.cli.processes.marked import Marked
from eventmicro.cli.processes.worker import Command, Worker
from tests.conftest import PATIENCE

Until = Callable[[Callable[[], object]], Awaitable[None]]


class FullDisk(io.BytesIO):
    """An output that takes nothing until `is_full` is no more."""

    is_full = True

    def write(self, data: Any) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left")
        return super().write(data)


async def test_a_last_line_without_an_end_is_shown_though_its_output_stays_open(until: Until) -> None:
    shown = io.BytesIO()
    output = Marked("orders", 6, 0)
    with ExitStack() as given:
        there = await output._copy(shown, given)
        os.write(there, b"first\nkilled by")
        await until(lambda: shown.getvalue() == b"orders | first\n")
        await output.close(limit=0)
        await until(lambda: shown.getvalue() == b"orders | first\norders | killed by\n")


async def test_an_output_that_takes_nothing_does_not_end_that_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    output = Marked("orders", 6, 0)
    with ExitStack() as given:
        there = await output._copy(disk, given)
        os.write(there, b"lost\n")
        await asyncio.sleep(0)
        monkeypatch.setattr(marked, "_write", _until_told(marked._write, told := asyncio.Event()))
        os.write(there, b"also lost\n")
        await told.wait()
        disk.is_full = False
        os.write(there, b"shown\n")  # it would raise where nobody read it any more
    await output.close()
    assert disk.getvalue().endswith(b"orders | shown\n")


def _until_told(write: Callable[..., None], told: asyncio.Event) -> Callable[..., None]:
    def wrapped(to: Any, data: bytes) -> None:
        write(to, data)
        told.set()

    return wrapped


def test_what_is_written_where_nobody_reads_any_more_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    (read_out, out), (read_err, err) = os.pipe(), os.pipe()
    with os.fdopen(out, "w", 1, encoding="ascii") as stdout, os.fdopen(err, "w", 1) as stderr:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr)
        marked.outlive_readers()
        print("shown")
        assert os.read(read_out, 100) == b"shown\n"
        os.close(read_out)
        os.close(read_err)
        for _ in range(2):
            print("lost", flush=True)
            print("lost", file=sys.stderr, flush=True)
        assert sys.stdout.encoding == "ascii"


async def test_where_no_process_can_be_started_a_reloading_run_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def start(*_: object) -> Worker:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(Worker, "start", start)
    monkeypatch.setattr(supervisor, "folders", lambda _: [tmp_path])
    with pytest.raises(BlockingIOError):
        async with asyncio.timeout(PATIENCE):
            await supervisor._run_reloading(Command(("app:service",), None, "info", "text"))


class Stopped:
    """A worker without a process, which is ready, and ends when it is asked to."""

    pid = 0

    def __init__(self, name: str, said: list[str], services: Sequence[str] = ()) -> None:
        self.name = name
        self.services = services
        self.ready = asyncio.Event()
        self.ready.set()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._said = said

    def stop(self, number: int = 0) -> None:
        if not self.ended.done():
            self._said.append(self.name)
            asyncio.get_running_loop().call_later(0.01, self.ended.set_result, 0)


async def test_two_of_a_folder_that_run_services_of_one_name_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(command: Command, number: int, broker: object) -> Any:
        asyncio.get_running_loop().call_later(0.01, fleet.stop)
        return Stopped(command.service, [], ["shop", command.service])

    monkeypatch.setattr(Worker, "start", start)
    commands = [Command((name,), None, "info", "text", service=name) for name in ("one", "two")]
    fleet = Fleet([Plan(each, (), "no") for each in commands], supervisor.Embedded())
    async with asyncio.timeout(PATIENCE):
        assert await fleet.run() == 0
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "one and two both have a service named 'shop'"
    ]


async def test_where_a_second_worker_cannot_be_started_all_stop_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    async def start(command: Command, number: int, broker: object) -> Any:
        if number > FIRST:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return Stopped(command.service, said)

    monkeypatch.setattr(Worker, "start", start)
    one = Command(("stock:service",), None, "info", "text", service="stock")
    two = Command(("orders:service",), None, "info", "text", service="orders", workers=2)
    fleet = Fleet([Plan(one, (), "on-failure"), Plan(two, ("stock",), "on-failure")], supervisor.Embedded())
    async with asyncio.timeout(PATIENCE):
        assert await fleet.run() == 1
    assert said == ["orders", "stock"]
    assert all(not member.supervisor.workers for member in fleet.members.values())
