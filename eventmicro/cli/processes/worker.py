"""A worker as the process that started it sees it: what it runs, its link, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Self

from eventmicro.cli.processes.link import FIRST, SERVICE_VARIABLE, SOCKET_VARIABLE, WORKER_VARIABLE
from eventmicro.cli.processes.marked import Marked
from eventmicro.errors import EventMicroError
from eventmicro.plugins import BROKER_VARIABLE
from eventmicro.sources import say

# How long what a process has said may take to come after its end, in seconds.
LAST_WORDS = 1.0

FindBroker = Callable[[], str]
"""Gives the URL of the embedded broker, which it starts or joins at the first call."""


@dataclass(frozen=True, slots=True)
class Command:
    """What the workers are to run, as it was said on the command line; `broker` only if it was said there."""

    targets: tuple[str, ...]
    broker: str | None
    log_level: str
    log_format: str
    workers: int = 1
    service: str = ""
    """The name of the service in the settings file, where all that it names are run."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What is to be in its environment beside."""
    output: Marked | None = None
    """Where its output goes, if not to where ours goes."""

    def name(self, number: int) -> str:
        """Who a worker is, for the log."""
        if not self.service:
            return f"worker {number}"
        return f"{self.service} worker {number}" if self.workers > 1 else self.service

    def about(self, number: int, pid: int) -> dict[str, str | int]:
        """The same for a line of it that machines read."""
        service: dict[str, str | int] = {"service": self.service} if self.service else {}
        return service | ({"worker": number} if self.workers > 1 else {}) | {"pid": pid}

    def line(self, number: int) -> list[str]:
        """The command line of a worker; only the first one is told about a flag that may be worth a warning."""
        logs = ["--log-level", self.log_level, "--log-format", self.log_format]
        broker = ["--broker", self.broker] if self.broker is not None and number == FIRST else []
        workers = ["--workers", str(self.workers)]
        return [sys.executable, "-m", "eventmicro", "run", *logs, *workers, *broker, "--", *self.targets]

    def environment(self, number: int, link: int) -> dict[str, str]:
        """The environment of a worker."""
        service = {SERVICE_VARIABLE: self.service} if self.service else {}
        ours = {SOCKET_VARIABLE: str(link), WORKER_VARIABLE: str(number)}
        found = os.environ | dict(self.variables) | service | ours
        if self.broker is not None:
            say(BROKER_VARIABLE, self.broker, found)
        return found


class Worker:
    """One process that runs the services; `ended` gives its exit code, minus the signal where one killed it."""

    def __init__(
        self,
        command: Command,
        number: int,
        process: asyncio.subprocess.Process,
        link: socket.socket,
        broker: FindBroker,
    ) -> None:
        self.name = command.name(number)
        self.about = command.about(number, process.pid)
        self.ready = asyncio.Event()
        self.services: Sequence[str] = ()
        """The names of the services in it, once they are ready."""
        self._process = process
        self._link = link
        self._answering = asyncio.create_task(self._answer(broker))
        self.ended = asyncio.create_task(self._end())

    @classmethod
    async def start(cls, command: Command, number: int, broker: FindBroker) -> Self:
        """Start it, in a session of its own: Ctrl-C reaches the parent alone, which stops the workers in order."""
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as given:
            out, err = (None, None) if command.output is None else await command.output.open(given)
            process = await asyncio.create_subprocess_exec(
                *command.line(number),
                env=command.environment(number, theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return cls(command, number, process, ours, broker)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop; with SIGKILL, end it."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _end(self) -> int:
        """Its exit code, once what it said last is known, too, unless what it has left behind keeps its link open."""
        code = await self._process.wait()
        await asyncio.wait([self._answering], timeout=LAST_WORDS)
        return code

    async def _answer(self, broker: FindBroker) -> None:
        """Answer what it asks over the link, until it closes it by its end."""
        reader, writer = await asyncio.open_connection(sock=self._link)
        try:
            async for line in reader:
                said = json.loads(line)
                if said == "broker":
                    writer.write(json.dumps(_find(broker)).encode() + b"\n")
                else:
                    self.services = said["ready"]
                    self.ready.set()
        except ConnectionError:
            pass  # it was killed
        finally:
            writer.close()


def _find(broker: FindBroker) -> dict[str, str]:
    try:
        return {"url": broker()}
    except EventMicroError as error:
        return {"error": str(error)}
