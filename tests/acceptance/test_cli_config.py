"""`eventmicro config`: what holds, and where that is said; settings of the file hold for every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import eventmicro

APP = """
from eventmicro import CallRetry, DeliveryOptions, Service

orders = Service("orders", timeout=3, retry=CallRetry(attempts=7), delivery=DeliveryOptions(concurrency=4))
stock = Service("stock", broker="nats://orders:s3cret@127.0.0.1:1")

@orders.subscribe("orders.placed")
async def bill(event: str) -> None: ...
"""
SETTINGS = """\
timeout = 4
log_format = "json"
threads = 5

[services.orders]
timeout = 9

[services.orders.handlers.bill]
timeout = 8

[services.mail.broker]
url = "nats://h"
password = "s3cret"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "eventmicro.toml").write_text(SETTINGS)
    (tmp_path / "password").write_text("hidden\n")
    (tmp_path / ".env").write_text("EVENTMICRO_STOP_TIMEOUT=2\n")
    return tmp_path


def test_each_value_is_shown_with_where_it_comes_from(folder: Path) -> None:
    env = {
        "EVENTMICRO_BROKER": "jetstream://orders@127.0.0.1:4222",
        "EVENTMICRO_BROKER__PASSWORD_FILE": "password",
        "EVENTMICRO_LOG_LEVEL": "debug",
    }
    done = eventmicro(folder, "config", "app", "--output", "json", "--env-file", ".env", env=env)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert list(shown) == ["run", "orders", "stock"]

    def holds(part: str, name: str) -> tuple[object, str]:
        return shown[part][name]["value"], shown[part][name]["from"]

    assert holds("run", "config") == (str(folder / "eventmicro.toml"), "this folder")
    assert holds("run", "log_level") == ("debug", "EVENTMICRO_LOG_LEVEL")
    assert holds("run", "log_format") == ("json", "eventmicro.toml:2")
    assert holds("run", "workers") == (1, "default")
    assert holds("orders", "timeout") == (9, "eventmicro.toml:6")
    assert holds("stock", "timeout") == (4, "eventmicro.toml:1")
    assert holds("orders", "threads") == (5, "eventmicro.toml:3")
    assert holds("orders", "retry.attempts") == (7, "code")
    assert holds("orders", "delivery.concurrency") == (4, "code")
    assert holds("orders", "delivery.ack") == ("after_success", "default")
    assert holds("orders", "handlers.bill.concurrency") == (4, "code")
    assert holds("orders", "handlers.bill.timeout") == (8, "eventmicro.toml:9")
    assert holds("orders", "handlers.bill.queue") == ("orders.bill", "default")
    assert holds("orders", "stop_timeout") == (2, "EVENTMICRO_STOP_TIMEOUT in .env")
    broker = "jetstream://orders:***@127.0.0.1:4222"
    assert holds("orders", "broker") == (broker, "EVENTMICRO_BROKER, EVENTMICRO_BROKER__PASSWORD_FILE")
    assert holds("stock", "broker") == ("nats://orders:***@127.0.0.1:1", "code")
    assert "s3cret" not in done.stdout
    assert "hidden" not in done.stdout


def test_as_a_table_of_what_is_not_the_default(folder: Path) -> None:
    done = eventmicro(folder, "config", "--changed")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["timeout", "4", "eventmicro.toml:1"] in rows
    assert ["services.orders.timeout", "9", "eventmicro.toml:6"] in rows
    assert ["services.mail.broker.password", "***", "eventmicro.toml:13"] in rows
    assert ["services.orders.handlers.bill.timeout", "8", "eventmicro.toml:9"] in rows
    assert not [row for row in rows if row[-1:] == ["default"]]


def test_a_command_takes_its_options_from_the_file_where_nothing_else_says_them(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.eventmicro.broker]\nurl = "memory://here"\n')
    (folder / "eventmicro.toml").unlink()
    for arguments, env, url in (
        ([], {}, "memory://here"),
        ([], {"EVENTMICRO_BROKER": "memory://there"}, "memory://there"),
        (["--broker", "memory://typed"], {"EVENTMICRO_BROKER": "memory://there"}, "memory://typed"),
    ):
        done = eventmicro(folder, "call", "a.b", *arguments, env=env)
        assert f"{url} lives within one process" in done.stderr


def test_options_of_the_environment_that_a_typed_url_does_not_get_are_named(folder: Path) -> None:
    env = {"EVENTMICRO_BROKER__USER": "ann", "EVENTMICRO_BROKER__PASSWORD": "s3cret", "EVENTMICRO_BROKER": "memory://a"}
    done = eventmicro(folder, "call", "a.b", "--broker", "memory://typed", env=env)
    first, second = done.stderr.splitlines()
    assert first == (
        "eventmicro: not used with --broker: EVENTMICRO_BROKER__USER, EVENTMICRO_BROKER__PASSWORD; write it into the "
        "URL, or set EVENTMICRO_BROKER in place of --broker"
    )
    assert "memory://typed lives within one process" in second


def test_a_wrong_name_stops_every_command_in_one_line(folder: Path) -> None:
    done = eventmicro(folder, "services", env={"EVENTMICRO_BROKR": "nats://127.0.0.1:1"})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("there is no setting 'EVENTMICRO_BROKR'; did you mean 'EVENTMICRO_BROKER'?")


def test_what_a_service_gets_in_its_process_is_shown_and_what_is_secret_of_it_is_not(folder: Path) -> None:
    (folder / "stock.env").write_text("EVENTMICRO_STOP_TIMEOUT=7\n")
    entry = (
        'target = "app:stock"\nenv_file = "stock.env"\nenvironment = { EVENTMICRO_TIMEOUT = 2, API_KEY = "s3cret" }\n'
    )
    (folder / "eventmicro.toml").write_text(f"[services.stock]\n{entry}")
    env = {"EVENTMICRO_SERVICES__STOK__TIMEOUT": "9", "EVENTMICRO_SERVICES__BILLING__TIMEOUT": "9"}
    done = eventmicro(folder, "config", "app:stock", "--output", "json", env=env)
    assert done.returncode == 0, done.stderr
    stock = json.loads(done.stdout)["stock"]
    assert (stock["stop_timeout"]["value"], stock["timeout"]["value"]) == (7, 2)
    assert "stock.env, where the folder is run" in stock["stop_timeout"]["from"]
    assert stock["timeout"]["from"] == "EVENTMICRO_TIMEOUT in eventmicro.toml:4, where the folder is run"
    assert done.stderr == "EVENTMICRO_SERVICES__STOK__TIMEOUT: no service 'stok' runs here; did you mean 'stock'?\n"
    done = eventmicro(folder, "config", "--output", "json")
    shown = json.loads(done.stdout)
    assert shown["single services"]["services.stock.environment.EVENTMICRO_TIMEOUT"]["value"] == 2
    assert shown["single services"]["services.stock.environment.API_KEY"]["value"] == "***"
    assert shown["run"]["state_dir"]["value"] == str(folder / "state")
    assert "s3cret" not in done.stdout


@pytest.mark.parametrize("command", [("config",), ("config", "app"), ("run", "app")])
@pytest.mark.parametrize("variable", ["EVENTMICRO_STOP_TIMEOUT", "EVENTMICRO_SERVICES__ORDERS__TIMEOUT"])
def test_a_value_that_cannot_be_is_one_line_that_does_not_blame_the_code(
    folder: Path, command: tuple[str, ...], variable: str
) -> None:
    done = eventmicro(folder, *command, env={variable: "-1"})
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"{variable}: " in line
    assert "write seconds" in line


@pytest.mark.parametrize("command", ["run", "config", "check", "asyncapi", "declare"])
def test_a_wrong_use_in_the_users_module_is_said_in_the_first_line_with_its_place(folder: Path, command: str) -> None:
    (folder / "wrong.py").write_text('from eventmicro import Service\n\nservice = Service("my service")\n')
    done = eventmicro(folder, command, "wrong")
    assert done.returncode == 1
    first, *_ = done.stderr.splitlines()
    assert "cannot import wrong: wrong.py:3: service name 'my service'" in first
