"""`eventmicro run --workers` and `--reload` with real processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.processes import Program, eventmicro, is_running, wait_until

APP = """
import os
from eventmicro import Service

service = Service("who", version="1.0.0")

@service.rpc
async def pid() -> int:
    return os.getpid()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "broken.py").write_text("raise KeyError('lost')\n")
    return tmp_path


def pids(folder: Path, count: int) -> set[int]:
    """The processes that answer, asked until there are so many."""
    found: set[int] = set()

    def ask() -> bool:
        done = eventmicro(folder, "call", "who.pid")
        if done.returncode == 0:
            found.add(int(done.stdout))
        return len(found) >= count

    wait_until(ask)
    return found


def test_n_workers_share_the_work_a_dead_one_is_replaced_and_all_stop_with_the_parent(folder: Path) -> None:
    with Program(folder, "run", "app:service", "--workers", "2") as program:
        program.line_with("who", "pid", "who.pid")
        first = pids(folder, 2)
        os.kill(victim := first.pop(), signal.SIGKILL)
        assert f"process {victim}" in program.line_with("was killed by SIGKILL")
        second = pids(folder, 2)
        assert victim not in second
        assert program.end() == 0
        assert not any(is_running(pid) for pid in first | second)
    shown = program.output.partition("was killed")[0]
    assert shown.count("SERVICE") == 1, "the table is shown once, not by each worker"
    assert program.output.count("who stopped") == 2
    stopped = sorted(line.partition("worker ")[2][0] for line in program.output.splitlines() if "who stopped" in line)
    assert stopped == ["1", "2"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_when_their_parent_is_killed(folder: Path) -> None:
    with Program(folder, "run", "app:service", "--workers", "2") as program:
        program.line_with("who.pid")
        workers = pids(folder, 2)
        program.process.kill()
        program.process.wait()
        wait_until(lambda: not any(is_running(pid) for pid in workers))


@pytest.mark.parametrize(
    ("target", "options", "code", "words"),
    [
        ("app:servce", [], 2, "did you mean 'service'?"),
        ("broken", [], 1, "KeyError: 'lost'"),
        ("app", ["--broker", "nats://127.0.0.1:1?connect_timeout=0.2"], 1, "cannot connect"),
    ],
)
def test_what_can_never_start_is_said_once_and_not_tried_again(
    folder: Path, target: str, options: list[str], code: int, words: str
) -> None:
    done = eventmicro(folder, "run", target, "--workers", "3", *options)
    assert done.returncode == code
    assert done.stderr.count(words) == 1


KILLED_ONCE = """
import os, signal
from pathlib import Path

if not Path("begun").exists():
    Path("begun").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_first_worker_that_is_killed_while_it_starts_is_said_and_started_again(folder: Path) -> None:
    (folder / "app.py").write_text(KILLED_ONCE + APP)
    with Program(folder, "run", "app:service", "--workers", "2") as program:
        assert "worker 1" in program.line_with("was killed by SIGKILL; next in")
        program.line_with("2 workers")
        assert program.end() == 0


@pytest.mark.parametrize("code", [0, 3])
def test_a_first_worker_that_ends_without_a_word_while_it_starts_is_said(folder: Path, code: int) -> None:
    (folder / "app.py").write_text(f"import os\nos._exit({code})\n")
    done = eventmicro(folder, "run", "app", "--workers", "2")
    assert done.returncode == max(1, code)
    assert f"ended with exit code {code} before it was ready" in done.stderr


@pytest.mark.parametrize(
    ("code", "options", "env"),
    [
        ("", ["--broker", "memory://"], {}),
        ("", [], {"EVENTMICRO_BROKER": "memory://"}),
        ("broker='memory://shop'", ["--broker", "nats://127.0.0.1:1"], {}),
        ("broker='nats://127.0.0.1:1', rpc_broker=MemoryBroker()", [], {}),
        ("", ["--broker", "nats://127.0.0.1:1", "--rpc-broker", "memory://"], {}),
    ],
)
def test_workers_on_a_broker_within_one_process_are_refused(
    tmp_path: Path, code: str, options: list[str], env: dict[str, str]
) -> None:
    source = f"from eventmicro import MemoryBroker, Service\nservice = Service('own', {code})\n"
    (tmp_path / "own.py").write_text(source)
    done = eventmicro(tmp_path, "run", "own", "--workers", "2", *options, env=env)
    assert done.returncode == 2
    assert done.stderr.count("own is on memory://, which lives within one process") == 1


def test_workers_run_where_the_code_names_a_broker_that_they_share(tmp_path: Path, nats_url: str) -> None:
    (tmp_path / "own.py").write_text(f"from eventmicro import Service\nservice = Service('own', broker='{nats_url}')\n")
    with Program(tmp_path, "run", "own", "--workers", "2", env={"EVENTMICRO_BROKER": "memory://"}) as program:
        program.line_with("2 workers")
        assert program.end() == 0


def test_reload_starts_anew_after_a_change_and_waits_where_the_code_is_wrong(folder: Path) -> None:
    with Program(folder, "run", "app.py", "--reload") as program:
        program.line_with("who.pid")
        (before,) = pids(folder, 1)
        (folder / "app.py").write_text(APP.replace("1.0.0", "2.0.0"))
        program.line_with("changed: app.py")
        program.line_with("who", "2.0.0", "who.pid")
        assert pids(folder, 1) != {before}
        (folder / "app.py").write_text(APP + "\nx = (\n")
        program.line_with("SyntaxError")
        program.line_with("waiting for a change")
        (folder / "app.py").write_text(APP.replace("1.0.0", "3.0.0"))
        program.line_with("who", "3.0.0", "who.pid")
        assert program.end(signal.SIGINT) == 0
    assert program.output.count("started an embedded server") == 1


def test_reload_with_several_workers_is_refused(folder: Path) -> None:
    done = eventmicro(folder, "run", "app", "--reload", env={"EVENTMICRO_WORKERS": "2"})
    assert done.returncode == 2
    assert "--reload runs one worker" in done.stderr


def test_workers_of_one_id_are_refused(tmp_path: Path, nats_url: str) -> None:
    (tmp_path / "own.py").write_text("from eventmicro import Service\nown = Service('own', id='one')\n")
    done = eventmicro(tmp_path, "run", "own", "--workers", "2", "--broker", nats_url)
    assert done.returncode == 2
    assert done.stderr.count("own has id='one', which names one instance") == 1


KEPT = """
from eventmicro import Retry, Service
plain, keeps = Service("plain"), Service("keeps")

@plain.subscribe("orders.placed")
async def pack(number: int) -> None:
    print("packed", number, flush=True)

@keeps.subscribe("orders.placed", retry=Retry(attempts=2, backoff=0.0))
async def bill(number: int) -> None:
    print("billed", number, flush=True)
    raise ValueError("no tax is known")
"""


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["here", "workers"])
def test_without_a_broker_a_service_that_needs_events_kept_goes_over_jetstream(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "app.py").write_text(KEPT)
    with Program(tmp_path, "run", "app", *more) as program:
        program.line_with("keeps goes over jetstream://127.0.0.1:", "as bill needs events that are kept")
        program.line_with("keeps.bill")
        assert eventmicro(tmp_path, "publish", "orders.placed", "7").returncode == 0
        wait_until(lambda: "failed 2 times" in eventmicro(tmp_path, "dead", "list", "keeps.bill").stdout)
        assert program.end(signal.SIGINT) == 0
    assert (program.output.count("packed 7"), program.output.count("billed 7")) == (1, 2)
    assert "plain goes over" not in program.output
    assert "stopped the embedded server" in program.output


def test_without_a_broker_check_says_what_run_would(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(KEPT)
    done = eventmicro(tmp_path, "check", "app")
    assert done.stdout.splitlines() == [
        "plain: 0 endpoints, 1 subscriber: nothing that nats:// would refuse",
        "keeps: 0 endpoints, 1 subscriber: nothing that jetstream:// would refuse",
    ]
