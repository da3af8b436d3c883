"""`eventmicro shell` as a process: scripts, their exit codes, a broker that goes away and comes back, kept events."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Program, environment, eventmicro
from tests.servers import NatsServer

APP = """
from pydantic import BaseModel
from eventmicro import Service

class Order(BaseModel):
    sku: str
    quantity: int = 1

service = Service("{name}")

@service.rpc
async def quote(request: Order) -> Order:
    await service.publish("{name}.quoted", request)
    return request
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose service runs on an embedded server, which the shell finds by itself."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "app.py").write_text(APP.format(name="orders"))
    with Program(folder, "run", "app") as program:
        program.line_with("quote")
        yield folder


def run(folder: Path, *lines: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return eventmicro(folder, "shell", *options, stdin="\n".join(lines).encode())


def test_a_script_runs_line_by_line_over_one_connection(folder: Path) -> None:
    done = run(
        folder,
        "# what is quoted is published, too",
        "subscribe orders.quoted --count 2",
        'call orders.quote {"sku": "tea", "quantity": 2} -o raw',
        "",
        "call orders.quote -i -o raw",
        "salt",
        "",
        "wait",
        "replies",
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("{")] == [
        '{"sku":"tea","quantity":2}',
        '{"sku":"salt","quantity":1}',
    ]
    assert [line for line in lines if line.startswith("orders.quoted")] == [
        'orders.quoted {"sku":"tea","quantity":2}',
        'orders.quoted {"sku":"salt","quantity":1}',
    ]
    assert lines[-2:] == ['$1 {"sku": "tea", "quantity": 2}', '$2 {"sku": "salt", "quantity": 1}']


@pytest.mark.parametrize(
    ("options", "code", "left"),
    [((), 1, []), (("--keep-going",), 1, ["orders"])],
    ids=["ends", "goes on"],
)
def test_a_script_ends_with_the_line_that_fails(
    folder: Path, options: tuple[str, ...], code: int, left: list[str]
) -> None:
    done = run(folder, "call orders.nothing", "services orders -o raw", options=options)
    assert done.returncode == code
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == left
    assert "'orders' has no endpoint 'nothing'" in done.stderr
    assert "eventmicro: line 1 failed with exit code 1" in done.stderr


def test_a_script_says_how_it_is_left(folder: Path) -> None:
    assert run(folder, "exit", "call orders.nothing").returncode == 0
    assert run(folder, "services --nothing").returncode == 2
    assert run(folder, "services", options=("--broker", "memory://")).returncode == 2
    done = run(folder, "services", options=("--broker", "nats://127.0.0.1:1?connect_timeout=0.2"))
    assert (done.returncode, "cannot connect" in done.stderr) == (1, True)


def test_a_broker_that_goes_away_is_said_and_comes_back(tmp_path: Path) -> None:
    """The commands go on when it is back; what is subscribed to as well."""
    with (
        NatsServer() as server,
        subprocess.Popen(
            [sys.executable, "-m", "eventmicro", "shell", "--keep-going", "--broker", server.url],
            cwd=tmp_path,
            env=environment(tmp_path) | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as shell,
    ):
        assert shell.stdin is not None
        assert shell.stdout is not None

        def until(words: str) -> None:
            assert shell.stdout is not None
            while words not in (line := shell.stdout.readline()):
                assert line, f"it ended without {words!r}"

        def say(line: str) -> None:
            assert shell.stdin is not None
            shell.stdin.write(line + "\n")
            shell.stdin.flush()

        try:
            say("subscribe placed --count 1")
            until("listening to placed")
            server.kill()
            until("connection lost, reconnecting")
            server.start()
            until("connected again")
            say("publish placed 7")
            until("placed 7")
            shell.stdin.close()
            assert shell.wait(20) == 0
        finally:
            shell.kill()


def test_subscribe_since_shows_what_is_kept_and_then_what_comes(tmp_path: Path, jetstream_url: str) -> None:
    subject = f"kept.{secrets.token_hex(4)}"
    words = ("--broker", jetstream_url)
    (tmp_path / "app.py").write_text(
        "from eventmicro import Service\n"
        f"service = Service('{subject.replace('.', '-')}')\n"
        f"@service.subscribe('{subject}')\n"
        "async def see(event: int) -> None: ...\n"
    )
    with Program(tmp_path, "run", "app", *words) as program:
        program.line_with(subject)
        for number in ("1", "2"):
            assert eventmicro(tmp_path, "publish", subject, number, *words).returncode == 0
        with Program(tmp_path, "subscribe", subject, "--since", "1h", "--count", "3", *words) as watching:
            assert watching.line_with(f"{subject} 1")
            assert watching.line_with(f"{subject} 2")
            assert eventmicro(tmp_path, "publish", subject, "3", *words).returncode == 0
            assert watching.wait() == 0
        assert [line for line in watching.output.splitlines() if line.startswith(subject)] == [
            f"{subject} {number}" for number in (1, 2, 3)
        ]
    done = eventmicro(tmp_path, "subscribe", subject, "--since", "yesterday", *words)
    assert (done.returncode, "write how long ago" in done.stderr) == (2, True)


def test_a_node_is_registered_where_that_is_kept(tmp_path: Path, nats_url: str, jetstream_url: str) -> None:
    """A registry that asks who is there has nobody to ask for such a node, and that is said."""
    name = f"legacy-{secrets.token_hex(4)}"
    record = json.dumps({"name": name, "nodes": [{"id": "one"}]})
    done = eventmicro(tmp_path, "register", record, "--broker", nats_url)
    assert (done.returncode, f"{name} is forgotten already" in done.stderr) == (1, True)
    done = eventmicro(tmp_path, "register", "-", "--broker", jetstream_url, stdin=record.encode())
    assert (done.returncode, f"{name}: 1 nodes registered for 90 s" in done.stderr) == (0, True)
    done = eventmicro(tmp_path, "deregister", name, "--node", "one", "--broker", jetstream_url)
    assert (done.returncode, done.stderr) == (0, f"{name}: 1 nodes taken out\n")
