"""What a person sees of `eventmicro run`: its own logs, the end of its terminal, a mistake in a declaration."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Program, environment, eventmicro

SERVICE = """
import logging
from eventmicro import Service

{before}
service = Service("shop", broker="memory://")

@service.after_start
async def say() -> None:
    logging.getLogger("shop").info("open", extra={{"tenant": "acme"}})
"""
OWN = """
logging.basicConfig(level="INFO", format="OWN %(levelname)s %(name)s %(message)s")
"""
DICT = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"format": "OWN %(levelname)s %(name)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"level": "INFO", "handlers": ["err"]},
})
"""


def write(folder: Path, before: str = "") -> None:
    (folder / "shop.py").write_text(SERVICE.format(before=before))


@pytest.mark.parametrize("own", [OWN, DICT], ids=["basicConfig", "dictConfig"])
def test_logs_that_the_application_sets_up_hold(tmp_path: Path, own: str) -> None:
    write(tmp_path, own)
    with Program(tmp_path, "run", "shop", "--log-format", "json") as program:
        program.line_with("OWN INFO shop open")
        assert program.end() == 0
    assert "OWN INFO eventmicro.running.runner shop stopped" in program.output


def test_what_the_application_says_by_extra_is_shown(tmp_path: Path) -> None:
    write(tmp_path)
    with Program(tmp_path, "run", "shop") as program:
        assert program.line_with("shop: open").endswith("shop: open tenant=acme\n")
        assert program.end() == 0
    with Program(tmp_path, "run", "shop", "--log-format", "json") as program:
        assert json.loads(program.line_with('"open"'))["tenant"] == "acme"
        assert program.end() == 0


def test_a_hangup_stops_as_sigterm_does(tmp_path: Path) -> None:
    write(tmp_path)
    with Program(tmp_path, "run", "shop") as program:
        program.line_with("shop: open")
        assert program.end(signal.SIGHUP) == 0
    assert "shop stopped" in program.output


def test_under_nohup_a_hangup_stops_nothing(tmp_path: Path) -> None:
    write(tmp_path, 'print("begun", flush=True)')
    code = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", code, sys.executable, "-m", "eventmicro", "run", "shop"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stderr is not None
        while "open" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, said.count("stopping"), "at once" in said.partition("exits")[0]) == (0, 1, False)


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("@service.rpc(retry=3)\nasync def quote(sku: str) -> int: ...", "there are name, timeout"),
        ("@service.subscribe('placed', concurrency=0)\nasync def bill(event: int) -> None: ...", "concurrency=0"),
        ("from eventmicro import CallRetry\nCallRetry(attempt=3)", "did you mean 'attempts'?"),
        ("Service('a b')", "service name"),
    ],
)
def test_a_mistake_in_a_declaration_shows_the_users_lines_alone(tmp_path: Path, declaration: str, words: str) -> None:
    (tmp_path / "shop.py").write_text(f"from eventmicro import Service\nservice = Service('shop')\n{declaration}\n")
    done = eventmicro(tmp_path, "run", "shop")
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    files = [line for line in done.stderr.splitlines() if line.lstrip().startswith("File ")]
    assert len(files) == 1
    assert "shop.py" in files[0]
