"""The prompt of `eventmicro shell`, typed at without a terminal: history, Ctrl-C, Ctrl-D, completion, questions."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from pydantic import BaseModel

from eventmicro import MemoryBroker, Service
from eventmicro.cli.shell import prompt
from eventmicro.cli.shell.prompt import Prompt
from tests.unit.cli.kit import Typed, typed


class Order(BaseModel):
    sku: str
    quantity: int = 1


def orders(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker)

    @service.rpc
    async def quote(request: Order) -> int:
        return request.quantity * 2

    return service


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Typed, PipeInput]]:
    for name in ("EVENTMICRO_BROKER", "EVENTMICRO_RPC_BROKER", "EVENTMICRO_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVENTMICRO_STATE_DIR", str(tmp_path / "state"))
    with (
        create_pipe_input() as keys,
        create_app_session(input=keys, output=DummyOutput()),
        typed(capsys, orders) as shell,
    ):
        yield shell, keys


def test_lines_are_run_until_ctrl_d(
    shell: tuple[Typed, PipeInput], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, keys = shell
    keys.send_text('call orders.quote {"sku": "a"}\r half a line\x03 services\r\x04')
    Prompt(typed.session, typed.lines).run()
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "2"
    assert "orders" in said.out
    history = tmp_path / "state" / "shell_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    lines = [line for line in history.read_text().splitlines() if line.startswith("+")]
    assert lines == ['+call orders.quote {"sku": "a"}']  # a line that begins with a blank is not kept


def test_exit_leaves_and_the_next_shell_knows_the_last_line(
    shell: tuple[Typed, PipeInput], capsys: pytest.CaptureFixture[str]
) -> None:
    typed, keys = shell
    keys.send_text('call orders.quote {"sku": "a", "quantity": 4}\rexit\r')
    Prompt(typed.session, typed.lines).run()
    keys.send_text("\x1b[A\x1b[A\r\x04")  # twice up
    Prompt(typed.session, typed.lines).run()
    assert capsys.readouterr().out == "8\n8\n"


def test_ctrl_c_ends_the_command_and_not_the_shell(
    shell: tuple[Typed, PipeInput], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while the command waits; its work is cancelled, and the next line runs."""
    import asyncio
    import os
    import signal

    typed, _ = shell
    ended = []
    # Where the tests run in the background it is ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    monkeypatch.setattr(typed.lines, "own", {**typed.lines.own, "hang": lambda words: typed.session.run(wait())})
    try:
        assert (typed.lines.run("hang"), ended) == (130, ["cancelled"])
    finally:
        signal.signal(signal.SIGINT, former)
    assert typed('call orders.quote {"sku": "a"}') == (0, "2\n", "")


def test_a_question_of_a_command_is_typed_at_too(shell: tuple[Typed, PipeInput]) -> None:
    typed, keys = shell
    typed.session._ask = lambda question: typed.session.run(prompt.ask(question))
    keys.send_text("a\r5\r")
    assert typed("call orders.quote -i")[:2] == (0, "10\n")
    keys.send_text("a\r\x03")
    code, out, err = typed("call orders.quote -i")
    assert (code, out, "was not filled in to the end" in err) == (2, "", True)


def test_a_history_that_cannot_be_a_file_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVENTMICRO_STATE_DIR", str(tmp_path))
    (tmp_path / "shell_history").symlink_to(tmp_path / "elsewhere")
    history = prompt.open_history()
    history.append_string("call orders.quote")
    assert not (tmp_path / "elsewhere").exists()
    assert "the history is not kept" in capsys.readouterr().err


def test_a_long_history_is_shortened_by_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_STATE_DIR", str(tmp_path))
    path = tmp_path / "shell_history"
    path.write_text("".join(f"\n# 2026-01-01\n+line {number}\n" for number in range(60_000)))
    prompt.open_history()
    lines = path.read_text().splitlines()
    assert path.stat().st_size <= prompt.LONGEST // 2
    assert (lines[0], lines[-1]) == ("# 2026-01-01", "+line 59999")
