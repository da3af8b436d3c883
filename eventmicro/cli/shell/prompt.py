"""The prompt of a shell in a terminal: history, completion, and what comes beside it."""

from __future__ import annotations

import os
from pathlib import Path

import typer
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from eventmicro.cli.shell.completing import LineCompleter
from eventmicro.cli.shell.lines import Leave, Lines
from eventmicro.cli.shell.session import HeldSession
from eventmicro.cli.show import one_line
from eventmicro.embedded import state_folder
from eventmicro.errors import UsageError

PROMPT = "eventmicro> "
HISTORY = "shell_history"
# How large the history may become, in bytes; beyond that its older half is dropped.
LONGEST = 1024 * 1024


class Prompt:
    """Asks for lines, and runs them, until the user leaves."""

    def __init__(self, session: HeldSession, lines: Lines) -> None:
        self._session = session
        self._lines = lines
        self._prompt: PromptSession[str] = PromptSession(
            history=open_history(),
            completer=LineCompleter(session, lines.commands, lines.own),
            complete_while_typing=True,
            bottom_toolbar=lambda: session.state,
            refresh_interval=1.0,
        )

    def run(self) -> None:
        """Run lines until Ctrl-D or `exit`."""
        try:
            while True:
                line = self._session.run(self._ask())
                self._lines.run(line)
        except (EOFError, Leave):
            return

    async def _ask(self) -> str:
        self._session.look()
        try:
            with patch_stdout():
                return await self._prompt.prompt_async(PROMPT)
        except KeyboardInterrupt:  # it empties the line
            return ""


async def ask(question: str) -> str:
    """A line that a command asks for; it stands in no history.

    Raises:
        EOFError: the user ends it by Ctrl-D or Ctrl-C.
    """
    try:
        with patch_stdout():
            return (await PromptSession[str]().prompt_async(one_line(question))).strip()
    except KeyboardInterrupt:
        raise EOFError from None


class _Unspaced(FileHistory):
    """A history in a file, without lines that begin with a blank: those with a password in them."""

    def append_string(self, string: str) -> None:
        if not string.startswith(" "):
            super().append_string(string)


def open_history() -> History:
    """The history of this user, which nobody else can read; one in memory where there can be no file."""
    try:
        path = state_folder() / HISTORY
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
        _shorten(path)
    except (OSError, UsageError) as error:
        typer.echo(one_line(f"eventmicro: the history is not kept: {error}"), err=True)
        return InMemoryHistory()
    return _Unspaced(str(path))


def _shorten(path: Path) -> None:
    if path.stat().st_size > LONGEST:
        text = path.read_bytes()[-LONGEST // 2 :]
        path.write_bytes(text[text.find(b"\n#") + 1 :])
