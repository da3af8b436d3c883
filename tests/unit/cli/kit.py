"""A shell over memory, with services in the same loop: each command runs as a user types it, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.main import get_command

from eventmicro import Client, MemoryBroker, Service
from eventmicro.cli.app import app
from eventmicro.cli.session import Places
from eventmicro.cli.shell.lines import Lines
from eventmicro.cli.shell.session import HeldSession


class Typed:
    """Lines as they are typed, and what is shown for them."""

    def __init__(self, runner: asyncio.Runner, broker: MemoryBroker, capsys: pytest.CaptureFixture[str]) -> None:
        self.answers: list[str] = []
        self.asked: list[str] = []
        self.session = HeldSession(runner, lambda: Client(broker), Places(), self._ask)
        self.lines = Lines(self.session, get_command(app))
        self._capsys = capsys

    def __call__(self, line: str) -> tuple[int, str, str]:
        """Run a line; its exit code, and what it has said on stdout and stderr."""
        self._capsys.readouterr()
        code = self.lines.run(line)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def _ask(self, question: str) -> str:
        self.asked.append(question)
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)


@contextmanager
def typed(capsys: pytest.CaptureFixture[str], *services: Any) -> Iterator[Typed]:
    """A shell whose commands reach these services; each is a function that makes one on a broker."""
    with asyncio.Runner() as runner:
        broker = MemoryBroker()
        running = [make(broker) for make in services]

        async def start() -> None:
            await broker.connect()
            for service in running:
                await service.start()

        async def stop() -> None:
            for service in running:
                await service.stop()
            await broker.close()

        runner.run(start())
        shell = Typed(runner, broker, capsys)
        try:
            yield shell
        finally:
            shell.session.close()
            runner.run(stop())


def make_service(broker: MemoryBroker, name: str) -> Service:
    """A service without endpoints yet."""
    return Service(name, broker=broker)


def shell_over(make: Callable[[MemoryBroker], Service]) -> Any:
    """A fixture: a shell beside this service, whatever the environment of the tests says."""

    @pytest.fixture
    def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
        for name in ("EVENTMICRO_BROKER", "EVENTMICRO_RPC_BROKER", "EVENTMICRO_REGISTRY"):
            monkeypatch.delenv(name, raising=False)
        with typed(capsys, make) as shell:
            yield shell

    return shell
