"""What runs services when something is wrong around them: no more processes, an output that takes nothing."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventmicro.cli.processes import marked, supervisor
from eventmicro.cli.processes.marked import Marked
from eventmicro.cli.processes.worker import Command, Worker


class FullDisk(io.BytesIO):
    """An output that takes nothing until `is_full` is no more."""

    is_full = True

    def write(self, data: Any) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left")
        return super().write(data)


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


async def test_where_no_process_can_be_started_a_reloading_run_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def start(*_: object) -> Worker:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(Worker, "start", start)
    monkeypatch.setattr(supervisor, "folders", lambda _: [tmp_path])
    with pytest.raises(BlockingIOError):
        async with asyncio.timeout(10):
            await supervisor._run_reloading(Command(("app:service",), None, "info", "text"))
