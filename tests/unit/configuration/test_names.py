"""Names that do not exist are refused, with where they are and what is meant; what is others' is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventmicro import Client, Service, UsageError
from eventmicro.sources import FILE_VARIABLE


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EVENTMICRO_TIMEOT", "EVENTMICRO_TIMEOUT"),
        ("EVENTMICRO_BROKR", "EVENTMICRO_BROKER"),
        ("EVENTMICRO_RETRY__ATEMPTS", "EVENTMICRO_RETRY__ATTEMPTS"),
        ("EVENTMICRO_RETRY_ATTEMPTS", "EVENTMICRO_RETRY__ATTEMPTS"),
        ("EVENTMICRO_TIMEOUT__SECONDS", "EVENTMICRO_TIMEOUT"),
        ("EVENTMICRO_SERVICES__SHOP__TIMEOT", "EVENTMICRO_SERVICES__SHOP__TIMEOUT"),
        ("EVENTMICRO_SERVICES__SHOP__DELIVERY__RETRY__ATEMPTS", "EVENTMICRO_SERVICES__SHOP__DELIVERY__RETRY__ATTEMPTS"),
        ("EVENTMICRO_BROKR_FILE", "EVENTMICRO_BROKER_FILE"),
        ("EVENTMICRO_SERVICE__SHOP__TIMEOUT", "EVENTMICRO_SERVICES__SHOP__TIMEOUT"),
    ],
)
def test_a_variable_that_nobody_reads_is_refused_with_what_is_meant(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    for make in (lambda: Service("other"), lambda: Client("memory://")):
        with pytest.raises(UsageError) as refused:
            make()
        assert str(refused.value) == f"{name}: there is no setting {name!r}; did you mean {meant!r}?"


@pytest.mark.parametrize("name", ["EVENTMICRO_XYZZY", "EVENTMICRO_SERVICES__SHOP__QUUX", "EVENTMICRO_"])
def test_where_nothing_is_like_it_it_is_said_where_they_are_listed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(UsageError, match=r"no setting .*; `eventmicro config` lists those there are"):
        Service("shop")


@pytest.mark.parametrize(
    "name",
    [
        "EVENTMICRO_BROKER_SERVICE_HOST",
        "EVENTMICRO_BROKER_SERVICE_PORT_CLIENT",
        "EVENTMICRO_BROKER_PORT",
        "EVENTMICRO_BROKER_PORT_4222_TCP_ADDR",
        "EVENTMICRO_TEST_NATS_URL",
        "EVENTMICRO_WORKER",
        "EVENTMICRO_STATE_DIR",
        "EVENTMICRO_SERVICES__A__B__TIMEOUT",
        "EVENTMICRO_BROKER__WHATEVER_ITS_ADAPTER_KNOWS",
    ],
)
def test_what_kubernetes_sets_and_what_others_read_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert Service("shop").name == "shop"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("timeot = 1", "1: there is no setting 'timeot'; did you mean 'timeout'?"),
        (
            "\n# a\n[retry]\nbackoff = 1\natempts = 1",
            "5: there is no setting 'retry.atempts'; did you mean 'retry.attempts'?",
        ),
        (
            "[servces.shop]\ntimeout = 1",
            "2: there is no setting 'servces.shop.timeout'; did you mean 'services.shop.timeout'?",
        ),
        (
            '[services.a]\ntarget = "a"\n[services.shop]\n\ntarget = "b"\nafer = ["a"]',
            "6: there is no setting 'afer'; did you mean 'after'?",
        ),
        ('[services.a]\ntarget = """\nx"""\nneeds = [\n "timeot",\n]\ntimeot = 1', "7: there is no setting 'timeot'"),
        (
            "retry = { attempts = 3, bakoff = 1 }",
            "1: there is no setting 'retry.bakoff'; did you mean 'retry.backoff'?",
        ),
        ("retry.atempts = 3", "1: there is no setting 'retry.atempts'"),
        ('"time out" = 3', "1: there is no setting 'time out'"),
        ("services = 3", "1: write which setting of which service is meant, as timeout below [services.orders]"),
        ("[[services]]\ntimeout = 1", "1: write which setting of which service is meant"),
        ("timeout = 'soon'", "1: 'soon': write seconds"),
        ("threads = 1.5", "1: 1.5: write a whole number"),
        ("register_required = 2", "1: 2: write true or false"),
        ("[delivery]\nprefetch = 0", "2: prefetch=0: write a whole number, 1 or more"),
        ("hedge = -1", "1: hedge=-1.0: write seconds, 0 or more"),
    ],
)
def test_a_file_is_refused_by_the_line_at_which_it_is_wrong(
    text: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eventmicro.toml").write_text(text)
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "eventmicro.toml"))
    with pytest.raises(UsageError) as refused:
        Service("other")
    assert str(refused.value).startswith(f"eventmicro.toml:{error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [("a = \n", ":1: Invalid value"), (None, "No such file"), ("a = 1\na = 2\n", ":2: Cannot overwrite")],
)
def test_a_file_that_is_none_is_named(
    text: str | None, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "eventmicro.toml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(UsageError, match=error) as refused:
        Service("other")
    assert str(file) in str(refused.value)
