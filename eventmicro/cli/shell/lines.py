"""Lines run one after the other: what a line of a shell does, and what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import typer

from eventmicro.cli.app import FAILED, INTERRUPTED, MISUSED
from eventmicro.cli.session import held
from eventmicro.cli.shell.session import HeldSession
from eventmicro.cli.shell.words import split
from eventmicro.cli.show import indented, one_line
from eventmicro.errors import EventMicroError, UsageError

# Commands that last, or that are about the shell they would run in.
REFUSED = ("run", "shell")
# What stands before a command everywhere else, and may do so here.
PROGRAM = "eventmicro"
# How much of a reply `replies` shows, in characters.
SHOWN = 100
HELP = """
In the shell:
  replies           The replies that are kept: $1, $2, ...; $_ is the last one, and $_.id a field of it.
  beside            What goes on beside the prompt, such as subscribe.
  stop [NAME]       End it, or all of it.
  wait              Wait until all of it has ended, as subscribe --count does.
  help [COMMAND]    This, or the help of a command.
  exit              Leave, as Ctrl-D does; Ctrl-C ends the command that runs.
"""


class Leave(Exception):
    """The user leaves the shell."""


class Lines:
    """Runs the lines of one shell.

    Args:
        session: what they share.
        command: the command line, as `typer.main.get_command` gives it.
    """

    def __init__(self, session: HeldSession, command: Any) -> None:
        self._session = session
        self._command = command
        self.own: Mapping[str, Callable[[list[str]], None]] = {
            "replies": self._replies,
            "beside": self._beside,
            "stop": self._stop,
            "wait": self._wait,
            "help": self._help,
            "exit": self._leave,
            "quit": self._leave,
        }

    @property
    def commands(self) -> Mapping[str, Any]:
        """The commands that can be used here."""
        return Without(self._command.commands, REFUSED)

    def run(self, line: str) -> int:
        """Run a line; its exit code, which is that of the command.

        Raises:
            Leave: it says so.
        """
        try:
            words = split(line, self._session.replies)
            if words[:1] == [PROGRAM]:
                words = words[1:] or ["help"]
            if not words:
                return 0
            own = self.own.get(words[0])
            with held(self._session):
                if own is None:
                    return self._run_command(words)
                own(words[1:])
                return 0
        except KeyboardInterrupt:
            return INTERRUPTED
        except EventMicroError as error:
            typer.echo(f"eventmicro: {indented(str(error))}", err=True)
            return MISUSED if isinstance(error, UsageError) else FAILED

    def _run_command(self, words: list[str]) -> int:
        if words[0] in REFUSED:
            raise UsageError(f"{words[0]} is not for a shell: run it in another terminal, as eventmicro {words[0]}")
        if words[0] not in self.commands:
            raise UsageError(f"No such command {words[0]!r}{self._meant(words[0])} `help` lists those there are")
        before = self._session.replies.last
        try:
            self._command.main(args=words, prog_name="")
        except SystemExit as end:
            if self._session.replies.last != before and sys.stdout.isatty():
                typer.echo(f"${self._session.replies.last}", err=True)
            return end.code if isinstance(end.code, int) else FAILED
        return 0

    def _meant(self, word: str) -> str:
        from difflib import get_close_matches  # for errors only

        close = get_close_matches(word, [*self.commands, *self.own], n=1)
        return f". Did you mean {close[0]!r}?" if close else "."

    def _replies(self, words: list[str]) -> None:
        for number, value in self._session.replies:
            text = json.dumps(value, ensure_ascii=False)
            typer.echo(one_line(f"${number} {text if len(text) <= SHOWN else text[:SHOWN] + '...'}"))

    def _beside(self, words: list[str]) -> None:
        for name in self._session.beside:
            typer.echo(one_line(name))

    def _stop(self, words: list[str]) -> None:
        self._session.stop(" ".join(words) or None)

    def _wait(self, words: list[str]) -> None:
        self._session.wait()

    def _help(self, words: list[str]) -> None:
        if words:
            self._run_command([*words, "--help"])
            return
        typer.echo("Commands:")
        for name, command in self.commands.items():
            if not command.hidden:
                typer.echo(f"  {name:<17} {command.get_short_help_str(100)}")
        typer.echo(HELP)

    def _leave(self, words: list[str]) -> None:
        raise Leave


class Without(Mapping[str, Any]):
    """Some of the commands; each is imported when it is asked for, not before."""

    def __init__(self, commands: Mapping[str, Any], left_out: Container[str]) -> None:
        self._commands = commands
        self._names = [name for name in commands if name not in left_out]

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
