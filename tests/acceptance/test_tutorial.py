"""Every file and every command of docs/tutorial.md, in its order: what it shows is what one sees."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from eventmicro.cli.app import run_app
from tests.processes import Program, environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
INSTALL, STEPS = BLOCKS[0], BLOCKS[1:]


def pattern(shown: str) -> re.Pattern[str]:
    """What is shown, with what is left out in it."""
    return re.compile(re.escape(shown.strip()).replace("…", ".*"), re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """Each command of a block with what it shows."""
    return [(line.strip(), shown) for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


class Reader:
    """Who goes through the page, with a folder and terminals."""

    def __init__(self, folder: Path, terminals: ExitStack) -> None:
        self.folder = folder
        self.terminals = terminals
        self.running: dict[str, Program] = {}

    def write(self, code: str) -> None:
        """A file, or the part of one that is mended."""
        said, _, rest = code.partition("\n")
        name, _, part = said.removeprefix("# ").partition(",")
        path = self.folder / name
        if part:
            begin = rest.partition(" = ")[0]
            rest = re.sub(rf"^{re.escape(begin)} = .*\n", rest, path.read_text(), count=1, flags=re.MULTILINE)
        path.write_text(rest)

    def run(self, command: str, shown: str) -> None:
        command, _, comment = command.partition("  #")
        words = shlex.split(command)
        if "terminal" in comment:
            self.start(comment.strip(), words[1:], shown)
        elif words[0] == "pytest":
            self.test(words, shown)
        else:
            code, said = self.call(words)
            assert pattern(shown).match(said), said
            assert bool(code) == bool(re.search(r": [45]\d\d ", shown))

    def call(self, words: list[str]) -> tuple[int, str]:
        """Run a command that ends, in this process: there are many here. Its exit code, and what it says."""
        said = StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            for name, value in environment(self.folder).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as ended:
                run_app()
        return int(ended.value.code or 0), said.getvalue()

    def start(self, terminal: str, words: list[str], shown: str) -> None:
        """Run it in a terminal; what ran there is stopped before."""
        if terminal in self.running:
            assert self.running[terminal].end() == 0
        program = self.terminals.enter_context(Program(self.folder, *words, env={"PYTHONUNBUFFERED": "1"}))
        self.running[terminal] = program
        self.hear(terminal, shown)
        for _ in range(words.count("2") or 1):
            program.line_with("billing.charge" if "billing:service" in words else "stock.price")

    def test(self, words: list[str], shown: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words, "-p", "no:cacheprovider"],
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert pattern(shown).search(done.stdout), done.stdout + done.stderr

    def hear(self, terminal: str, shown: str) -> None:
        """What a terminal says, line by line."""
        for line in shown.splitlines():
            self.running[terminal].line_with(*(word.strip() for word in line.split("…") if word.strip()))


@pytest.mark.timeout_seconds(60)
def test_the_first_hour_goes_as_the_page_says(tmp_path: Path) -> None:
    with ExitStack() as terminals:
        reader = Reader(tmp_path, terminals)
        for language, block in STEPS:
            if language == "python":
                reader.write(block)
            elif language == "text":
                reader.hear("second terminal", block)
            else:
                for command, shown in commands(block):
                    reader.run(command, shown)


def test_what_is_installed_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"'path/to/clone\[([\w,]+)\]'", INSTALL[1])
    assert set(named.split(",")) <= set(extras)
