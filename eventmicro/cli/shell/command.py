"""`eventmicro shell`: the commands with a prompt, or line by line from a script."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from typer.main import get_command

from eventmicro.cli.app import INTERRUPTED, app
from eventmicro.cli.connecting import Broker, Registry, RpcBroker, client_for_others
from eventmicro.cli.session import Places
from eventmicro.cli.settings import is_typed
from eventmicro.cli.shell.lines import Leave, Lines
from eventmicro.cli.shell.session import HeldSession, LineHandler
from eventmicro.cli.show import examples, indented
from eventmicro.cli.stream import lines_of_stdin
from eventmicro.client import Client
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.plugins import BROKER_VARIABLE, REGISTRY_VARIABLE, RPC_BROKER_VARIABLE
from eventmicro.sources import say

EPILOG = examples("eventmicro shell", "eventmicro shell --broker nats://127.0.0.1:4222", "eventmicro shell < script")


def shell(
    context: typer.Context,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Of a script run also what follows a line that failed.")
    ] = False,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
) -> None:
    """Use the other commands over one connection: with history, completion, and the last replies as $1, $2 and $_.

    In a terminal there is a prompt, and what subscribe shows comes beside it. Without one the lines of stdin are run
    until one fails, whose exit code is that of the shell.
    """
    for variable, name, value in (
        (BROKER_VARIABLE, "broker", broker),
        (RPC_BROKER_VARIABLE, "rpc_broker", rpc_broker),
        (REGISTRY_VARIABLE, "registry", registry),
    ):
        if value is not None and is_typed(context, name):
            say(variable, value)  # so that each command names what the shell is connected to
    places = Places(broker, rpc_broker, registry)
    client_for_others(broker, rpc_broker, registry)  # what is misused is said before there is a prompt
    with asyncio.Runner() as runner, _warnings():
        code = _talk(runner, places) if sys.stdin.isatty() else run_script(runner, places, keep_going=keep_going)
    raise typer.Exit(code)


def _talk(runner: asyncio.Runner, places: Places) -> int:
    try:
        from eventmicro.cli.shell.prompt import Prompt, ask
    except ModuleNotFoundError as error:
        raise UsageError(f"a prompt needs {error.name}: pip install 'eventmicro[shell]'") from None
    session = HeldSession(runner, _opening(places), places, lambda question: runner.run(ask(question)))
    try:
        session.run(session.client())
    except EventMicroError as error:  # it may come back
        typer.echo(f"eventmicro: {indented(str(error))}", err=True)
    try:
        Prompt(session, Lines(session, get_command(app))).run()
    finally:
        session.close()
    return 0


def run_script(runner: asyncio.Runner, places: Places, *, keep_going: bool) -> int:
    """Run the lines of stdin; the exit code of the first that failed."""
    source = lines_of_stdin()

    async def read() -> bytes | None:
        return await anext(source, None)

    def ask(question: str) -> str:
        line = runner.run(read())
        if line is None:
            raise EOFError
        return line.decode(errors="replace").strip()

    session = HeldSession(runner, _opening(places), places, ask)
    lines, number, failed = Lines(session, get_command(app)), 0, 0
    try:
        while (keep_going or not failed) and (line := runner.run(read())) is not None:
            number += 1
            code = lines.run(line.decode(errors="replace"))
            if code:
                typer.echo(f"eventmicro: line {number} failed with exit code {code}", err=True)
            failed = failed or code
    except (Leave, KeyboardInterrupt) as end:
        failed = failed or (INTERRUPTED if isinstance(end, KeyboardInterrupt) else 0)
    finally:
        session.close()
    return failed


def _opening(places: Places) -> Callable[[], Client]:
    return lambda: client_for_others(places.broker, places.rpc_broker, places.registry)


@contextmanager
def _warnings() -> Iterator[None]:
    """Show what eventmicro warns of, such as a lost connection, as lines of the shell."""
    log, handler = logging.getLogger("eventmicro"), LineHandler(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
