"""The memory that processes hold, and what they say while they are measured."""

from __future__ import annotations

import gc
import logging
import os

from benchmarks.cpu import PROC


def resident(pid: int | None = None) -> int:
    """The bytes of a process that are in memory; of this one, where none is named, without what is garbage. Linux only,
    0 elsewhere."""
    if pid is None:
        gc.collect()
    file = PROC / str(pid or os.getpid()) / "statm"
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


class Said(logging.Handler):
    """The warnings and errors of this process: of what goes well there are none."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
