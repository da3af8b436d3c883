"""Which services of a settings file are run, in which order and how; what is wrong is refused with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventmicro import UsageError, sources
from eventmicro.cli.processes.folder import check_is_there, read_services
from eventmicro.cli.processes.running import find_folder
from eventmicro.cli.settings import env_file_values, find_settings


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)
    sources.from_env_files.clear()
    monkeypatch.chdir(tmp_path)


def use(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := Path("eventmicro.toml").resolve()).write_text(text)
    monkeypatch.setenv(sources.FILE_VARIABLE, str(file))


def table(name: str, *lines: str) -> str:
    return "\n".join((f"[services.{name}]", 'target = "app"', *lines, ""))


def test_services_are_in_the_order_in_which_they_start_and_else_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(table("c", 'after = ["b", "a"]') + table("b") + table("d") + table("a", 'after = ["b"]'), monkeypatch)
    order = [entry.name for entry in read_services()]
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order.index("b") < order.index("a") < order.index("c")
    assert [entry.name for entry in read_services(["c", "b"])] == ["b", "c"]


def test_what_is_set_for_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    use(
        table("my-shop", "workers = 2", 'env_file = ["a.env", "b.env"]', "environment = { N = 3, T = true }"),
        monkeypatch,
    )
    Path("a.env").write_text("export A=1\nB=1\n# no\n\nN=1\nHOME=/tmp\n")
    Path("b.env").write_text('B="2 #"\n')
    monkeypatch.setenv("EVENTMICRO_SERVICES__MY_SHOP__LOG_LEVEL", "debug")
    monkeypatch.setenv("EVENTMICRO_SERVICES__MY_SHOP__WORKERS", "3")
    (entry,) = read_services()
    assert entry.process == {"workers": 3, "log_level": "debug"}
    assert entry.variables == {"A": "1", "B": "2 #", "N": "3", "T": "true"}
    assert (entry.targets, entry.restart) == (("app",), "on-failure")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (table("a", 'after = ["b"]') + table("b", 'after = ["a"]'), ":1: a after b after a: none of them could start"),
        (table("a", 'after = ["a"]'), ":1: a after a: none of them could start first"),
        (table("orders") + table("b", 'after = ["order"]'), ":3: b is to start after 'order', which is no service of"),
        ("[services.a]\nthreads = 3\n", ":1: [services.a] has no target: write target ="),
        ("\n[services.a]\n", ":2: [services.a] has no target"),
        (table("a", 'restart = "never"'), ":1: services.a.restart='never': write on-failure, always, no"),
        (table("a", 'workers = "two"'), ":3: 'two': write a whole number"),
        (table("a", "workers = 0"), ":3: 0: write a whole number, 1 or more"),
        (table("a", "health_port = 70000"), ":3: 70000: write a port, 0 to 65535"),
        (table("a", 'environment = ["A=1"]'), ":3: services.a.environment: write a table of variables, environment ="),
        (table("a", 'environment = "A=1"'), ":3: services.a.environment: write a table of variables"),
        (table("a", "environment = { A = [1] }"), ":3: services.a.environment: write a table of variables"),
        (table("a", "[services.a.environment.B]", "A = 1"), ":4: services.a.environment: write a table of variables"),
        ("timeout = 3\n", " has no services: write [services.orders]"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(text, monkeypatch)
    with pytest.raises(UsageError) as refused:
        read_services()
    assert str(refused.value).startswith(f"eventmicro.toml{error}")


def test_a_name_that_is_not_there_is_said_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    use(table("orders"), monkeypatch)
    with pytest.raises(UsageError, match="no service 'ordr': it has orders; did you mean 'orders'"):
        read_services(["ordr"])


def test_settings_of_a_service_that_its_target_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    use(table("order", "workers = 2"), monkeypatch)
    check_is_there("order", ["orders"])  # the name of a process only
    use(table("order", "[services.order.retry]", "attempts = 2"), monkeypatch)
    check_is_there("order", ["stock", "order"])
    monkeypatch.setenv("EVENTMICRO_SERVICES__ORDER__TIMEOUT", "2")
    with pytest.raises(UsageError, match=r"'(retry|timeout)' is for a service named 'order', and"):
        check_is_there("order", ["orders"])


def test_what_is_run_is_code_or_the_services_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nothing is named that is to be run: write `eventmicro run app:service`"):
        find_folder([])
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is a folder without an eventmicro\.toml"):
        find_folder(["empty"])
    Path("package").mkdir()
    Path("package/__init__.py").touch()
    assert find_folder(["package"]) is None
    assert find_folder(["app:service", "other.py"]) is None
    use(table("orders"), monkeypatch)
    assert find_folder([]) == tmp_path / "eventmicro.toml"
    assert find_folder(["."]) == Path("eventmicro.toml")
    assert find_folder(["other.toml"]) == Path("other.toml")
    with pytest.raises(UsageError, match=r"eventmicro.toml is a folder's settings: run it without other targets"):
        find_folder(["app", "."])


def test_the_settings_of_the_folder_are_found_with_their_env_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IN_BOTH", "OF_FILE"):  # so that they are taken back
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("IN_SHELL", "shell")
    monkeypatch.setenv(sources.FILE_VARIABLE, "")
    Path("eventmicro.toml").write_text('env_file = ["a.env", "b.env"]\n')
    Path("a.env").write_text("IN_BOTH=a\nIN_SHELL=a\nOF_FILE=a\n")
    Path("b.env").write_text("IN_BOTH=b\n")
    find_settings(None)
    assert sources.used_file() == tmp_path / "eventmicro.toml"
    assert [os.environ[name] for name in ("IN_BOTH", "IN_SHELL", "OF_FILE")] == ["b", "shell", "a"]


def test_an_env_file_that_is_missing_is_told_with_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(sources.FILE_VARIABLE, "")
    Path("eventmicro.toml").write_text('\nenv_file = "a.env"\n')
    with pytest.raises(UsageError, match=r"^eventmicro.toml:2: env_file: .*a\.env: No such file or directory$"):
        find_settings(None)
    Path("eventmicro.toml").write_text(table("my-shop", 'env_file = "b.env"'))
    sources._read.cache_clear()
    find_settings(None)
    with pytest.raises(UsageError, match=r"^eventmicro.toml:\d+: env_file: .*b\.env: No such file or directory$"):
        read_services()


@pytest.mark.parametrize(("text", "error"), [("A=1\nnothing at all\n", ":2: write NAME=value"), (None, "No such file")])
def test_an_env_file_that_is_none_is_refused(text: str | None, error: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "x.env").write_text(text)
    with pytest.raises(UsageError, match=error):
        env_file_values(tmp_path / "x.env")
