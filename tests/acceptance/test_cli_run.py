"""`eventmicro run` with real processes: targets, brokers, signals, the embedded server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import Program, environment, eventmicro, is_running, wait_until

APP = """
from pydantic import BaseModel
from eventmicro import Service, Topic

class Order(BaseModel):
    sku: str
    quantity: int = 1

class Quote(BaseModel):
    total: float

service = Service("orders", version="1.2.3")

@service.rpc
async def quote(request: Order) -> list[Quote]:
    return [Quote(total=2.0 * request.quantity)]

@service.subscribe(Topic("orders.placed", Order))
async def bill(event: Order) -> None: ...

if __name__ == "__main__":
    service.run()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with app.py, and modules that are wrong in one way each."""
    files = {
        "app.py": APP,
        "other.py": "from eventmicro import Service\nfirst, second = Service('first'), Service('second')\n",
        "nothing.py": "x = 1\n",
        "broken.py": "def fail():\n    raise KeyError('lost')\nfail()\n",
        "lacks.py": "import no_such_module_at_all\n",
        "mistyped.py": "from eventmicro import Service\nservice = Service('s', retries=3)\n",
        "misvalued.py": "number = int('a')\n",
        "misshaped.py": "from pydantic import TypeAdapter\nTypeAdapter(int).validate_python('a')\n",
        "own.py": "from eventmicro import Service\nservice = Service('own', broker='memory://')\n",
        "unguarded.py": "from eventmicro import Service\nservice = Service('unguarded')\nservice.run()\n",
        "blocked.py": "import time\nfrom eventmicro import Service\nservice = Service('blocked')\n"
        "@service.rpc\nasync def hang() -> None:\n    print('hanging', flush=True)\n    time.sleep(1000)\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def server_pid(folder: Path) -> int:
    return int(json.loads((folder / "state" / "embedded.json").read_text())["pid"])


def url_of(line: str) -> str:
    return next(word.rstrip(",") for word in line.split() if "://" in word)


def test_run_says_where_it_is_and_what_it_has_and_stops_at_a_signal_with_code_0(folder: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with Program(folder, "run", "app:service") as program:
            url = url_of(program.line_with("started an embedded server"))
            assert url.startswith("nats://127.0.0.1:")
            program.line_with("orders on", url)
            program.line_with("SERVICE", "VERSION", "KIND", "NAME", "SUBJECT", "QUEUE", "TYPES")
            program.line_with("orders", "1.2.3", "rpc", "quote", "orders.quote", " q ", "Order -> list[Quote]")
            program.line_with("orders", "1.2.3", "subscribe", "bill", "orders.placed", "orders.bill", "Order")
            assert program.end(number) == 0
        assert "Traceback" not in program.output
        assert (folder / "state" / "data" / "jetstream").is_dir()


@pytest.mark.parametrize("target", ["app", "app.py", "./app.py:service", "app:service"])
def test_a_target_is_a_module_or_a_file_with_or_without_the_service(folder: Path, target: str) -> None:
    with Program(folder, "run", target, "--broker", "memory://") as program:
        program.line_with("orders", "quote")
        assert program.end() == 0


def test_a_module_alone_gives_all_its_services_and_several_targets_run_together(folder: Path) -> None:
    with Program(folder, "run", "other", "app", "app:service", "--broker", "memory://") as program:
        program.line_with("first, second, orders on memory://")
        assert program.end() == 0
    assert [program.output.count(f"{name} stopped") for name in ("first", "second", "orders")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("ap:service", ["No module named 'ap'", "did you mean 'app'?"]),
        ("pack.age:service", ["No module named 'pack'"]),
        ("app:servce", ["app has no 'servce'", "Service objects: service", "did you mean 'service'?"]),
        ("other:third", ["other has no 'third'", "first, second"]),
        ("app:Order", ["no Service but a class", "Service objects: service"]),
        ("nothing", ["nothing has no Service object"]),
        ("ap.py", ["there is no file", "did you mean 'app.py'?"]),
        (":service", ["write 'module:service'"]),
        ("a..b:c", ["cannot import 'a..b'"]),
        (".app:service", ["'.app' is no module's name"]),
    ],
)
def test_a_wrong_target_is_one_line_that_says_what_is_there(folder: Path, target: str, words: list[str]) -> None:
    done = eventmicro(folder, "run", target)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert [word for word in words if word not in done.stderr] == []


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("broken", "KeyError: 'lost'"),
        ("lacks", "no_such_module_at_all"),
        ("mistyped", "unexpected keyword argument 'retries'"),
        ("misvalued", "ValueError: invalid literal for int()"),
        ("misshaped", "ValidationError: 1 validation error for int"),
    ],
)
def test_an_error_inside_the_users_module_is_a_traceback_of_the_users_code(
    folder: Path, module: str, error: str
) -> None:
    done = eventmicro(folder, "run", module)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"{module}.py" in done.stderr
    assert error in done.stderr
    assert "importlib" not in done.stderr


def test_a_module_that_runs_its_service_at_import_is_told_how_to_guard_it(folder: Path) -> None:
    done = eventmicro(folder, "run", "unguarded")
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr


@pytest.mark.parametrize(
    ("broker", "code", "words"),
    [
        ("pigeon://x", 2, ["no broker 'pigeon' is installed", "nats"]),
        ("localhost", 2, ["is no URL"]),
        ("nats://127.0.0.1:1?connect_timeout=0.2", 1, ["cannot connect", "127.0.0.1:1"]),
    ],
)
def test_a_broker_that_is_not_there_is_one_line(folder: Path, broker: str, code: int, words: list[str]) -> None:
    done = eventmicro(folder, "run", "app", "--broker", broker)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == []


def test_what_is_set_beats_a_default_code_before_flag_before_environment(folder: Path) -> None:
    nowhere = {"EVENTMICRO_BROKER": "pigeon://x"}
    with Program(folder, "run", "app", "--broker", "memory://", env=nowhere) as program:
        program.line_with("orders on memory://")
    with Program(folder, "run", "own", env=nowhere) as program:
        program.line_with("own on memory://")
    assert "WARNING" not in program.output
    with Program(folder, "run", "own", "--broker", "pigeon://x") as program:
        program.line_with("WARNING", "own keeps the broker that its code names")
        program.line_with("own on memory://")
    assert not (folder / "state").exists()


def test_json_logs_are_one_object_a_line(folder: Path) -> None:
    with Program(folder, "run", "app", env={"EVENTMICRO_LOG_FORMAT": "json"}) as program:
        program.line_with("bill")
        assert program.end() == 0
    failed = eventmicro(folder, "run", "broken", "--log-format", "json")
    lines = [json.loads(line) for line in (program.output + failed.stderr).splitlines()]
    assert all(line["time"].endswith("Z") and line["level"] and line["logger"] and line["message"] for line in lines)
    assert "KeyError" in lines[-1]["exception"]


def test_a_second_signal_exits_at_once_even_if_a_handler_blocks_everything(folder: Path) -> None:
    with Program(folder, "run", "blocked") as program:
        program.line_with("hang")
        eventmicro(folder, "call", "blocked.hang", "--timeout", "0.1")
        program.line_with("hanging")
        program.process.send_signal(signal.SIGINT)
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 1
    assert "exiting at once" in program.output


def test_a_signal_that_comes_twice_at_once_is_one(folder: Path) -> None:
    """Who runs the program passes on what the terminal has sent it already."""
    with Program(folder, "run", "app") as program:
        program.line_with("bill")
        program.process.send_signal(signal.SIGINT)
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 0
    assert "exiting at once" not in program.output


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("target", "line"),
    [("app", "started an embedded server"), ("app", "SERVICE"), (".", "started an embedded server")],
)
def test_a_signal_at_any_moment_of_the_start_is_a_clean_stop(folder: Path, target: str, line: str) -> None:
    """From the first line on: what was started by then is stopped, and nothing of it is left."""
    (folder / "eventmicro.toml").write_text('[services.orders]\ntarget = "app"\n')
    with Program(folder, "run", target) as program:
        program.line_with(line)
        assert program.end() == 0, program.output
    assert "stopped the embedded server" in program.output
    assert left_of(folder) == []


def left_of(folder: Path) -> list[str]:
    """The processes that run for this folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder) in (each / "cmdline").read_text() + (each / "environ").read_text() and is_running(
                int(each.name)
            ):
                found.append((each / "cmdline").read_text())
    return found


def test_a_second_run_joins_the_first_and_leaves_its_server_alone(folder: Path) -> None:
    with Program(folder, "run", "app") as first:
        url = url_of(first.line_with("started an embedded server"))
        first.line_with("bill")
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        state = environment(folder)
        with Program(elsewhere, "run", "../other.py", env=state) as second:
            assert url_of(second.line_with("joined the embedded server")) == url
            second.line_with("second on", url)
            assert second.end() == 0
        assert list(elsewhere.iterdir()) == []
        assert "total" in eventmicro(folder, "call", "orders.quote", '{"sku": "a"}').stdout


def test_two_that_start_at_once_share_one_server(folder: Path) -> None:
    with Program(folder, "run", "app") as one, Program(folder, "run", "other") as another:
        urls = {url_of(program.line_with("embedded server at")) for program in (one, another)}
        one.line_with("orders on")
        another.line_with("second on")
        assert len(urls) == 1
        one.process.send_signal(signal.SIGTERM)
        another.process.send_signal(signal.SIGTERM)
        assert (one.wait(), another.wait()) == (0, 0)
    assert (one.output + another.output).count("started an embedded server") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a signal for the death of a parent")
def test_the_server_dies_with_kill_9_of_its_parent_and_the_next_one_takes_its_port(folder: Path) -> None:
    with Program(folder, "run", "app") as first:
        url = url_of(first.line_with("started an embedded server"))
        first.line_with("bill")
        server = server_pid(folder)
        with Program(folder, "run", "other") as joined:
            joined.line_with("joined the embedded server")
            joined.line_with("second on")
            first.process.kill()
            first.wait()
            wait_until(lambda: not is_running(server))
            joined.line_with("connection lost")
            with Program(folder, "run", "app") as next_one:
                assert url_of(next_one.line_with("started an embedded server")) == url
                joined.line_with("connected again")
                assert next_one.end() == 0


def test_service_run_starts_joins_and_stops_the_same_way_without_the_command_line(folder: Path) -> None:
    with Program(folder, "app.py", python=True) as program:
        url = url_of(program.line_with("started an embedded server"))
        program.line_with("orders 1.2.3 is running on", url)
        program.line_with("rpc quote", "orders.quote")
        assert program.end(signal.SIGINT) == 0
    with Program(
        folder, "app.py", python=True, env={"EVENTMICRO_BROKER": "nats://127.0.0.1:1?connect_timeout=0.2"}
    ) as program:
        assert program.wait() == 1
    assert len(program.output.splitlines()) == 1
    assert "cannot connect" in program.output


def test_the_console_script_and_the_version_are_there(folder: Path) -> None:
    script = Path(sys.executable).with_name("eventmicro")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith("eventmicro ")
    assert "eventmicro run app:service" in eventmicro(folder, "run", "--help").stdout


def test_completion_knows_the_commands(folder: Path) -> None:
    ask = {"_EVENTMICRO_COMPLETE": "complete_bash", "COMP_WORDS": "eventmicro su", "COMP_CWORD": "1"}
    assert eventmicro(folder, env=ask).stdout.split() == ["subscribe"]


def test_without_typer_the_command_line_says_what_to_install(folder: Path) -> None:
    (folder / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')\n")
    done = eventmicro(folder, "--version", env={"PYTHONPATH": os.fspath(folder)})
    assert done.returncode == 1
    assert "pip install 'eventmicro[cli]'" in done.stderr
