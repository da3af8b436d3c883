"""The output of the processes of several services: each line with the name of its service before it."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from contextlib import ExitStack
from typing import Any, BinaryIO

from eventmicro.cli.show import drop

log = logging.getLogger(__name__)

# How much of a line is held back until its end comes, in bytes; a longer one is shown in pieces.
LONGEST = 64 * 1024
COLOURS = (36, 33, 32, 35, 34, 31)
STDOUT, STDERR = 1, 2


class Marked:
    """Where the output of one service goes: to ours, with its name before each line, coloured at a terminal.

    Args:
        name: the service's.
        width: how long the longest of the names is.
        number: which of the services it is.
    """

    def __init__(self, name: str, width: int, number: int) -> None:
        self._mark = f"{name.ljust(width)} | "
        self._colour = COLOURS[number % len(COLOURS)]
        self._reading: set[asyncio.Task[None]] = set()

    async def open(self, given: ExitStack) -> tuple[int, int]:
        """What a process is to have as its stdout and stderr, until `given` is closed on this side."""
        return await self._copy(sys.stdout.buffer, given), await self._copy(sys.stderr.buffer, given)

    async def close(self, limit: float = 1.0) -> None:
        """Show what is still to come, unless what the service has left behind keeps its output open."""
        if self._reading:
            await asyncio.wait(self._reading, timeout=limit)
        for task in self._reading:
            task.cancel()

    async def _copy(self, to: BinaryIO, given: ExitStack) -> int:
        """A pipe whose lines are copied there, until all who write to it have ended."""
        ours, theirs = os.pipe()
        given.callback(os.close, theirs)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(ours, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        task = asyncio.create_task(self._show(reader, transport, to))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return theirs

    async def _show(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport, to: BinaryIO) -> None:
        mark, rest = self._marked(to), b""
        try:
            while chunk := await reader.read(LONGEST):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) >= LONGEST:
                    lines, rest = [*lines, rest], b""
                _write(to, b"".join(mark + line + b"\n" for line in lines))
        finally:
            transport.close()
            _write(to, mark + rest + b"\n" if rest else b"")

    def _marked(self, to: BinaryIO) -> bytes:
        is_coloured = to.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return (f"\x1b[{self._colour}m{self._mark}\x1b[0m" if is_coloured else self._mark).encode()


def _write(to: BinaryIO, data: bytes) -> None:
    try:
        to.write(data)
        to.flush()
    except BrokenPipeError:  # nobody reads any more: the services go on
        drop(to.fileno())
    except OSError as error:  # as on a full disk: it is lost, and what is said later perhaps not
        log.debug("a line of output cannot be shown: %s", error)


class _Outliving(io.FileIO):
    """A descriptor to which writing does not fail where nobody reads any more: it goes nowhere then."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            drop(self.fileno())
            return super().write(data)


def outlive_readers() -> None:
    """Let nobody in this process fail who prints or logs when those are gone to whom its output goes.

    A handler that failed by it would be tried again, though it has done its work.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        raw = _Outliving(stream.fileno(), "wb", closefd=False)
        is_unbuffered = isinstance(stream.buffer, io.RawIOBase)
        made = io.TextIOWrapper(
            raw if is_unbuffered else io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        stream.flush()
        setattr(sys, name, made)
