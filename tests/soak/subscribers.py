"""The processes that handle the events."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.delivery.bench import Bench
from tests.servers.process import ServerProcess
from tests.soak.facts import Notes

# The queues that each of them takes from, and what each is ordered by.
QUEUES = {"pack": None, "bill": "key"}
# What a process makes in its folder when it takes events.
READY = "ready-{pid}"


class SubscriberProcess(ServerProcess):
    """tests.soak.subscriber, killed, frozen and started again as a server is; its notes stay."""

    name = "subscriber"

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench
        self._file = self.folder / "notes"
        self._file.touch()
        self.notes = Notes(self._file)

    def launch(self) -> subprocess.Popen[bytes]:
        arguments = [self._bench.url, self._bench.name, str(self._file)]
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        return self._spawn([sys.executable, "-m", "tests.soak.subscriber", *arguments], environment)

    def is_ready(self) -> bool:
        return (self.folder / READY.format(pid=self.pid)).exists()
