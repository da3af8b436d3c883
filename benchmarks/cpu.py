"""The CPU time that processes use, and the cores on which they run."""

from __future__ import annotations

import os
import time
from pathlib import Path

PROC = Path("/proc")
# Which of a process's clocks: the nanoseconds for which it ran. Its /proc/<pid>/stat tells steps of 10 ms, which in a
# short run are none.
SCHEDULED = 2


class Processes:
    """Some processes by what they do, such as {"server": 4711}; their CPU time is known on Linux."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids if (PROC / "self" / "stat").exists() else {}

    def cpu(self) -> dict[str, float]:
        """The seconds that each has used so far, user and system."""
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def cpu_per_message(self, before: dict[str, float], messages: int) -> dict[str, float]:
        """The microseconds that each has used per message since `before`."""
        return {name: (used - before[name]) / messages * 1e6 for name, used in self.cpu().items()}


def cpu_seconds(pid: int) -> float:
    """The CPU seconds of one process, all its threads together."""
    return time.clock_gettime(~pid << 3 | SCHEDULED)


def pin(core: int) -> bool:
    """Keep this process on one of its cores; where there is only one, or none can be chosen, it stays as it is."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return False
    os.sched_setaffinity(0, {cores[core]})
    return True
