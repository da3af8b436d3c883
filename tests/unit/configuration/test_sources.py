"""Where values come from: files of secrets, URLs with options beside them, tables of a project file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventmicro import Client, Service, UsageError, sources
from eventmicro.cli.processes.worker import Command
from eventmicro.configuration.effective import effective, without_password
from eventmicro.running.runner import needs_broker
from eventmicro.tomlfile import read_toml


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("s3cret/@?\n")
    return file


def use(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, name: str = "eventmicro.toml") -> None:
    (folder / name).write_text(text)
    monkeypatch.setenv(sources.FILE_VARIABLE, str(folder / name))


def test_a_value_may_be_in_a_file_without_the_end_of_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("memory://kept\n")
    monkeypatch.setenv("EVENTMICRO_BROKER_FILE", str(tmp_path / "url"))
    assert Client().broker.url == "memory://kept"
    assert not needs_broker([Service("shop")], None)
    use(tmp_path, 'broker_file = "url"\n', monkeypatch)  # beside the settings file
    monkeypatch.delenv("EVENTMICRO_BROKER_FILE")
    assert Client().broker.url == "memory://kept"


def test_a_file_that_is_not_there_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER_FILE", "/no/such/file")
    with pytest.raises(UsageError, match=r"EVENTMICRO_BROKER_FILE: .*No such file"):
        Client()


@pytest.mark.parametrize("name", ["EVENTMICRO_TIMEOUT_FILE", "EVENTMICRO_REGISTER_TTL_FILE"])
async def test_an_error_shows_nothing_of_what_is_in_the_file(
    name: str, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(secret))
    with pytest.raises(UsageError, match=f"{name}.*what is in the file.*write seconds"):
        await Service("shop").start("memory://")


def test_a_value_and_a_file_of_it_are_refused_together(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER_FILE", str(secret))
    monkeypatch.setenv("EVENTMICRO_BROKER", "memory://")
    with pytest.raises(UsageError, match=r"EVENTMICRO_BROKER(_FILE)? and EVENTMICRO_BROKER(_FILE)? set the same"):
        Client()


def test_options_of_a_url_may_stand_beside_it_a_password_in_a_file_of_its_own(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER", "jetstream://orders@a:4222?replicas=3")
    monkeypatch.setenv("EVENTMICRO_BROKER__PASSWORD_FILE", str(secret))
    monkeypatch.setenv("EVENTMICRO_BROKER__ACK_WAIT", "60")
    assert sources.said_url("broker") == "jetstream://orders:s3cret%2F%40%3F@a:4222?replicas=3&ack_wait=60"


@pytest.mark.parametrize(
    ("url", "options", "made"),
    [
        ("amqp://h/v?name=x", {"USER": "a", "PASSWORD": "b:@"}, "amqp://a:b%3A%40@h/v?name=x"),
        ("amqp://a:old@h,g", {"PASSWORD": "new"}, "amqp://a:new@h,g"),
        ("nats://h", {"TOKEN": "t"}, "nats://t@h"),
        ("nats://a:b@h?name=x@y", {"NAME": "z"}, "nats://a:b@h?name=x@y&name=z"),
        ("etcd", {"PREFIX": "/a b"}, "etcd://?prefix=%2Fa%20b"),
    ],
)
def test_who_logs_in_stands_where_urls_have_it(
    url: str, options: dict[str, str], made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER", url)
    for name, value in options.items():
        monkeypatch.setenv(f"EVENTMICRO_BROKER__{name}", value)
    assert sources.said_url("broker") == made


def test_options_of_a_file_go_with_the_url_of_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(tmp_path, '[broker]\nurl = "memory://x"\nlike = "kafka"\ntls = true\n', monkeypatch)
    assert sources.said_url("broker") == "memory://x?like=kafka&tls=true"
    monkeypatch.setenv("EVENTMICRO_BROKER__LIKE", "nats")
    assert sources.said_url("broker") == "memory://x?like=nats&tls=true"
    monkeypatch.setenv("EVENTMICRO_BROKER", "memory://y")
    assert sources.said_url("broker") == "memory://y?like=nats"


def test_options_without_their_url_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER__LIKE", "kafka")
    with pytest.raises(UsageError, match="EVENTMICRO_BROKER__LIKE is for a URL that is not set: set EVENTMICRO_BROKER"):
        Client()


def test_a_service_may_have_a_broker_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(tmp_path, '[services.my-shop.broker]\nurl = "memory://own"\nlike = "kafka"\n', monkeypatch)
    assert Service("my-shop", broker="memory://code").broker == "memory://own?like=kafka"
    assert Service("other").broker is None


def test_nothing_secret_is_shown(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER", "nats://u:pass@h:1")
    monkeypatch.setenv("EVENTMICRO_BROKER__PASSWORD_FILE", str(secret))
    monkeypatch.setenv("EVENTMICRO_DESCRIPTION_FILE", str(secret))
    monkeypatch.setenv("EVENTMICRO_REGISTRY", "etcd://h?token=abc")
    rows = {row.name: row.shown for row in effective({"rpc_broker": "nats://tok@h"}, "shop", Service)}
    assert rows["broker"] == "nats://u:***@h:1"
    assert (rows["rpc_broker"], rows["registry"], rows["description"]) == ("nats://***@h", "etcd://h?token=***", "***")
    assert "pass" not in "".join(rows.values())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h:1", "nats://h:1"),
        ("amqp://u:p@a,b/v?tls_ca=x", "amqp://u:***@a,b/v?tls_ca=x"),
        ("nats://u:p%40@h?password=x&name=y&sasl_token=z", "nats://u:***@h?password=***&name=y&sasl_token=***"),
        ("nats://u:@h", "nats://u:***@h"),
        ("nats://u:p@w@h", "nats://u:***@h"),
        ("nats://u:p/w@h", "nats://u:***@h"),
        ("nats://u:p?w@h", "nats://***"),
        ("nats://u:p@a,nats://u2:p2@b", "nats://u:***@b"),
        ("nats://tok@a,nats://tok2@b", "nats://***@b"),
        ("kafka://h?Password=x&y=2", "kafka://h?Password=***&y=2"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_the_file_of_a_folder_is_its_own_or_a_table_of_its_project(tmp_path: Path) -> None:
    assert sources.file_in(tmp_path) is None
    project = tmp_path / "pyproject.toml"
    project.write_text("[tool.other]\nx = 1\n")
    assert sources.file_in(tmp_path) is None
    (tmp_path / "b").mkdir()
    (project := tmp_path / "b" / "pyproject.toml").write_text("[tool.eventmicro]\ntimeout = 3\n")
    assert sources.file_in(tmp_path / "b") == project
    (tmp_path / "b" / "eventmicro.toml").touch()
    assert sources.file_in(tmp_path / "b") == tmp_path / "b" / "eventmicro.toml"


def test_a_project_s_table_is_read_as_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[project]\nname = "x"\n[tool.eventmicro]\ntimeout = 3\n[tool.eventmicro.services.shop]\nthreads = 2\n'
    use(tmp_path, text, monkeypatch, "pyproject.toml")
    service = Service("shop")
    assert (service._timeout, service._threads) == (3, 2)
    said = sources.find_said("services", "shop", "threads")
    assert said is not None
    assert said.where == "pyproject.toml:6"


def test_lines_are_those_of_the_keys_whatever_stands_between(tmp_path: Path) -> None:
    text = 'a = """\n[not.a.table]\nb = 1\n"""\n\n[t] # x\n"k 1".z = [\n  1, # ]\n  2,\n]\n[t."q.r"]\n'
    text += "s = { u = 1, v = {} }\n[e]\n"
    (file := tmp_path / "x.toml").write_text(text)
    assert [(each.keys, each.line) for each in read_toml(file)] == [
        (("a",), 1),
        (("t",), 6),
        (("t", "k 1", "z"), 7),
        (("t", "q.r"), 11),
        (("t", "q.r", "s", "u"), 12),
        (("t", "q.r", "s", "v"), 12),
        (("e",), 13),
    ]
    assert [each.keys for each in read_toml(file, ("t", "q.r"))] == [("s", "u"), ("s", "v")]


def test_lists_are_written_with_commas_or_as_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_NEEDS", "stock, payments,")
    assert Service("shop")._needs == ("stock", "payments")
    monkeypatch.delenv("EVENTMICRO_NEEDS")
    use(tmp_path, 'needs = ["stock", "payments"]\n', monkeypatch)
    assert Service("shop")._needs == ("stock", "payments")


@pytest.mark.parametrize("beside", ["EVENTMICRO_BROKER_FILE", "EVENTMICRO_BROKER__PASSWORD_FILE"])
def test_what_is_typed_goes_alone_to_every_worker(beside: str, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the password of one server would go to another, and to that by all workers but the first."""
    monkeypatch.setenv("EVENTMICRO_BROKER__USER", "ann")
    monkeypatch.setenv(beside, str(secret))
    command = Command(("app:service",), "memory://typed", "info", "text", workers=2)
    for name, value in command.environment(2, 0).items():
        monkeypatch.setenv(name, value)
    assert sources.said_url("broker") == "memory://typed"
