"""The commands put together, and the one place that turns errors into a line and an exit code."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from eventmicro.cli.lazy import group_of
from eventmicro.cli.settings import file_defaults, find_settings
from eventmicro.cli.show import drop, examples, indented
from eventmicro.configuration.words import read_words
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.sources import FILE_VARIABLE, is_anything_said

FAILED, MISUSED, INTERRUPTED = 1, 2, 130

# In the order of the help.
COMMANDS = {
    "new": "new.new",
    "init": "new.init",
    "run": "run.run",
    "check": "check.check",
    "config": "config.config",
    "declare": "check.declare",
    "call": "messages.call",
    "stream": "stream.stream",
    "publish": "messages.publish",
    "subscribe": "messages.subscribe",
    "services": "discover.services",
    "describe": "discover.describe",
    "get": "discover.describe",
    "nodes": "discover.nodes",
    "health": "discover.health",
    "stats": "discover.stats",
    "register": "register.register",
    "deregister": "register.deregister",
    "shell": "shell.command.shell",
    "asyncapi": "asyncapi.asyncapi",
    "brokers": "brokers.brokers",
    "queues": "queues.queues",
    "dead": "dead.app",
    "generate": "generate.app",
}
# Other names of commands, which those know who come from another tool.
ALIASES = frozenset({"get"})

app = typer.Typer(
    cls=group_of(COMMANDS, ALIASES),
    help="Run event-driven services, call their endpoints, publish and watch their events.",
    epilog=examples("eventmicro run app:service", """eventmicro call orders.quote '{"sku": "a"}'"""),
    no_args_is_help=True,
    rich_markup_mode=None,  # its tables cut off the names of options and variables where the terminal is narrow
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed_version

        typer.echo(f"eventmicro {installed_version('eventmicro')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    settings: Annotated[
        str | None,
        typer.Option(
            "--config",
            envvar=FILE_VARIABLE,
            metavar="FILE",
            help="The settings file. Default: eventmicro.toml here, or [tool.eventmicro] of pyproject.toml.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    find_settings(settings)
    if is_anything_said():
        read_words({}, None, is_service=True)  # what is wrong is said here, in a line, and not where it is asked for
        context.default_map = file_defaults(context.command, context.invoked_subcommand)


# What is wrong with a file or a disk to which stdout goes.
_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run_app() -> None:
    """Run the command line. A user's mistake is one line on stderr and no traceback."""
    try:
        app(prog_name="eventmicro")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in _UNWRITTEN:
            raise
        drop(sys.stdout.fileno())
        _say(f"what was asked for cannot be written: {error.strerror}")
        sys.exit(FAILED)
    except EventMicroError as error:
        _say(in_options(str(error), sys.argv))
        sys.exit(MISUSED if isinstance(error, UsageError) else FAILED)


def in_options(text: str, typed: Sequence[str]) -> str:
    """An error about an option in the form in which it was typed: `--content-type 'x'`, and not `content_type='x'`."""
    named = re.match(r"(\w+)=(?=')", text)
    if named is None:
        return text
    option = f"--{named[1].replace('_', '-')}"
    is_typed = any(word.partition("=")[0] == option for word in typed)
    return f"{option} {text[named.end() :]}" if is_typed else text


def _say(message: str) -> None:
    """One line for a person, or a log line where the logs are for machines."""
    from eventmicro.running.logs import JsonFormatter

    if any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers):
        logging.getLogger("eventmicro").error(message)
    else:
        typer.echo(f"eventmicro: {indented(message)}", err=True)
