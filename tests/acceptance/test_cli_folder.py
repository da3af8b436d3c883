"""`eventmicro run` of a whole folder: order, restarts, stops, environments, and what is wrong in its file."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.processes import Program, eventmicro, is_running, wait_until

# A service of its file's name that says what it does; what it is to do besides follows behind.
SERVICE = """
import asyncio, os, sys
from pathlib import Path
from eventmicro import Service

name = Path(__file__).stem
service = Service(name, timeout=1)

def say(line):
    sys.stdout.write(line + "\\n")  # in one piece, though nothing may be buffered: others write to the same pipe
    sys.stdout.flush()

@service.after_start
def started():
    say(f"{name} runs as {os.getpid()}")

@service.after_stop
def stopped():
    say(f"{name} is down")
"""


def write(folder: Path, settings: str, **services: str) -> None:
    (folder / "eventmicro.toml").write_text('broker = "memory://"\n' + settings)
    for name, more in services.items():
        (folder / f"{name}.py").write_text(SERVICE + more)


def table(name: str, more: str = "") -> str:
    return f'[services.{name}]\ntarget = "{name}"\n{more}\n'


def test_services_start_in_order_one_that_is_killed_comes_again_and_all_stop_in_reverse(tmp_path: Path) -> None:
    tables = table("orders", 'after = ["stock"]') + table("stock", 'after = ["db"]') + table("db") + table("aside")
    write(tmp_path, tables, orders="", stock="", db="", aside="")
    with Program(tmp_path, "run") as program:
        pids = {name: int(program.line_with(f"{name} runs as").split()[-1]) for name in ("db", "stock", "orders")}
        os.kill(pids["stock"], signal.SIGKILL)
        program.line_with(f"stock, process {pids['stock']}, was killed by SIGKILL; next in")
        again = int(program.line_with("stock runs as").split()[-1])
        assert program.end(signal.SIGINT) == 0
        assert not any(map(is_running, (*pids.values(), again)))
    marked = [line for line in program.output.splitlines() if "runs as" in line or "is down" in line]
    assert {line.partition(" |")[0].strip() for line in marked} == {"db", "stock", "orders", "aside"}
    assert all(line.partition(" | ")[0].strip() == line.partition(" | ")[2].split()[0] for line in marked)
    down = [line.split()[2] for line in marked if "is down" in line and "aside" not in line]
    assert down == ["orders", "stock", "db"]
    assert "\x1b" not in program.output


def test_where_one_cannot_start_it_is_named_and_all_are_stopped(tmp_path: Path) -> None:
    tables = table("good") + table("bad", 'after = ["good"]') + table("late", 'after = ["bad"]')
    write(tmp_path, tables, good="", bad="sys.exit(7)", late="")
    done = eventmicro(tmp_path, "run")
    assert done.returncode == 7
    assert "bad, process" in done.stderr
    assert "ended with exit code 7 before it was ready" in done.stderr
    assert "good is down" in done.stdout
    assert "late" not in done.stdout


ONCE = """
@service.after_start
async def end():
    service.ending = asyncio.create_task(end_when_told())

async def end_when_told():
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    os._exit(int(os.environ["CODE"]))
"""


@pytest.mark.parametrize(("restart", "ends"), [("no", 3), ("on-failure", 0)])
def test_one_that_is_not_to_come_again_stays_away_and_the_others_go_on(tmp_path: Path, restart: str, ends: int) -> None:
    tables = table("brief", f'restart = "{restart}"\nenvironment.CODE = {ends}') + table("long")
    write(tmp_path, tables, brief=ONCE, long="")
    with Program(tmp_path, "run") as program:
        program.line_with("brief on memory://")  # which is said together with that it is ready
        (tmp_path / "go").touch()
        program.line_with("brief, process", f"ended with exit code {ends}; it is not started again")
        if "long runs as" not in program.output:
            program.line_with("long runs as")
        assert program.end() == (1 if ends else 0)
    assert program.output.count("brief runs as") == 1


FAILS_ONCE = """
begun = Path(__file__).with_name("begun")
if not begun.exists():
    begun.touch()
    sys.exit(4)
"""


def test_one_that_is_always_to_run_is_tried_again_and_those_after_it_wait(tmp_path: Path) -> None:
    tables = table("first", 'restart = "always"') + table("second", 'after = ["first"]')
    write(tmp_path, tables, first=FAILS_ONCE, second="")
    with Program(tmp_path, "run") as program:
        program.line_with("first, process", "ended with exit code 4; next in 0.5 s")
        program.line_with("first runs as")
        program.line_with("second runs as")
        assert program.end() == 0


def test_a_second_signal_ends_what_does_not_stop(tmp_path: Path) -> None:
    write(tmp_path, table("stuck"), stuck="@service.before_stop\nasync def hang():\n    await asyncio.sleep(1000)\n")
    with Program(tmp_path, "run") as program:
        pid = int(program.line_with("stuck runs as").split()[-1])
        program.process.send_signal(signal.SIGINT)
        program.line_with("stopping; a second signal exits at once")
        assert program.end(signal.SIGTERM) == 1
        wait_until(lambda: not is_running(pid))
    assert program.output.count("stopping;") == 1, "it is said by one for all"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_its_services_end_when_it_is_killed(tmp_path: Path) -> None:
    """They stop in order, and whoever prints meanwhile to nobody does not fail."""
    left = '@service.after_stop\ndef left():\n    print(1, flush=True)\n    Path("left").touch()\n'
    write(tmp_path, table("orders"), orders=left)
    with Program(tmp_path, "run") as program:
        pid = int(program.line_with("orders runs as").split()[-1])
        program.process.kill()
        program.process.wait()
        wait_until(lambda: not is_running(pid))
    assert (tmp_path / "left").exists()


PRINTS = """
@service.subscribe("shop.placed", retry=Retry(backoff=0))
async def bill(event: str) -> None:
    with Path("attempts").open("a") as file:
        print(os.getpid(), file=file)
    run = os.getppid()
    os.kill(run, signal.SIGKILL)
    while os.getppid() == run:
        time.sleep(0.001)
    print("to nobody", flush=True)
    logging.error("to nobody")

@service.after_start
async def place():
    await service.publish("shop.placed", "7")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="whose child gets another parent at once")
def test_a_handler_that_prints_while_nobody_reads_any_more_has_not_failed(tmp_path: Path) -> None:
    imports = "import logging, signal, time\nfrom eventmicro import Retry\n"
    write(tmp_path, table("orders"), orders=imports + PRINTS)
    with Program(tmp_path, "run") as program:
        program.process.wait()
        (pid,) = (tmp_path / "attempts").read_text().split()
        wait_until(lambda: not is_running(int(pid)))
    assert (tmp_path / "attempts").read_text().split() == [pid]


def test_json_lines_say_of_which_process_they_are(tmp_path: Path) -> None:
    write(tmp_path, table("orders") + table("stock"), orders=ONCE, stock="")
    with Program(tmp_path, "run", "--log-format", "json", env={"CODE": "3"}) as program:
        first = json.loads(program.line_with('"message": "orders 0.0.0 is running'))
        (tmp_path / "go").touch()
        ended = json.loads(program.line_with("ended with exit code 3"))
        (tmp_path / "go").unlink()
        again = json.loads(program.line_with('"message": "orders 0.0.0 is running'))
        assert program.end() == 0
    assert first["service"] == ended["service"] == again["service"] == "orders"
    assert first["pid"] == ended["pid"] != again["pid"]
    lines = [json.loads(line) for line in program.output.splitlines() if line.startswith("{")]
    assert {line.get("service") for line in lines} == {"orders", "stock", None}
    unnamed = [line["message"] for line in lines if "service" not in line]
    assert unnamed == ["stopping; a second signal exits at once"]


TELLS = """
@service.before_start
def tell():
    print("told", service._timeout, service._threads, *(os.environ.get(n) for n in ("A", "B", "C", "D")), flush=True)
"""


def test_each_has_its_own_settings_and_environment_and_only_some_may_be_run(tmp_path: Path) -> None:
    own = 'timeout = 9\nenv_file = "own.env"\nenvironment = { A = "file" }\nlog_format = "json"\nafter = ["other"]'
    write(tmp_path, 'threads = 3\nenv_file = "all.env"\n' + table("tells", own) + table("other"), tells=TELLS, other="")
    (tmp_path / "own.env").write_text("A=env-file\nB=env-file\nC='of it, too'\n")
    (tmp_path / "all.env").write_text("D=all\nC=all\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "about").write_text("told\n")
    env = {"A": "shell", "B": "shell", "EVENTMICRO_DESCRIPTION_FILE": "about"}  # from where it is run
    with Program(tmp_path / "elsewhere", "run", "..", "--only", "tells", env=env) as program:
        assert program.line_with("told") == "told 9.0 3 file shell of it, too all\n"
        assert program.line_with('"logger": "eventmicro.run').startswith("{")
        assert program.end() == 0
    assert "other runs" not in program.output


def test_a_change_of_the_code_starts_all_of_them_anew(tmp_path: Path) -> None:
    write(tmp_path, table("orders", 'after = ["stock"]') + table("stock"), orders="", stock="")
    with Program(tmp_path, "run", "--reload") as program:
        program.line_with("orders runs as")
        write(tmp_path, table("orders", 'after = ["stock"]') + table("stock"), orders="print('new')\n")
        program.line_with("changed: orders.py")
        program.line_with("orders | orders is down")
        program.line_with("stock  | stock is down")
        program.line_with("stock  | stock runs as")
        program.line_with("orders | new")
        program.line_with("orders | orders runs as")
        assert program.end() == 0


def test_workers_of_one_service(tmp_path: Path, nats_url: str) -> None:
    write(tmp_path, table("orders", f'workers = 2\nbroker = "{nats_url}"'), orders="")
    with Program(tmp_path, "run") as program:
        pids = {int(program.line_with("orders runs as").split()[-1]) for _ in range(2)}
        assert len(pids) == 2
        os.kill(pid := pids.pop(), signal.SIGKILL)
        program.line_with("orders worker ", f"process {pid}, was killed by SIGKILL")
        program.line_with("orders runs as")
        assert program.end() == 0


def test_what_is_wrong_with_its_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    write(tmp_path, table("orders", 'afer = ["stock"]'), orders="")
    done = eventmicro(tmp_path, "run")
    assert done.returncode == 2
    assert done.stderr == "eventmicro: eventmicro.toml:4: there is no setting 'afer'; did you mean 'after'?\n"


def test_settings_for_a_service_that_is_named_otherwise_in_the_code_are_refused(tmp_path: Path) -> None:
    write(tmp_path, '[services.order]\ntarget = "orders"\nthreads = 3\n', orders="")
    done = eventmicro(tmp_path, "run")
    assert done.returncode == 2
    assert "eventmicro.toml:4: 'threads' is for a service named 'order', and its target has orders" in done.stderr
    assert "did you mean 'orders'?" in done.stderr
