"""The settings of the NATS adapter, in a URL and in code."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats import NatsBroker, NatsSettings
from eventmicro_nats.settings import read_url

from eventmicro import Client
from eventmicro.errors import UsageError

URLS: list[tuple[str, dict[str, Any]]] = [
    ("nats://localhost", {"servers": ("nats://localhost",)}),
    ("nats://a:4222,b:4223", {"servers": ("nats://a:4222", "nats://b:4223")}),
    ("tls://a:4222", {"servers": ("tls://a:4222",)}),
    ("nats://[::1]:4222", {"servers": ("nats://[::1]:4222",)}),
    (
        "nats://ann:secret@a:4222,b:4222",
        {"servers": ("nats://a:4222", "nats://b:4222"), "user": "ann", "password": "secret"},
    ),
    ("nats://ann:p%40s%2Fs@a", {"servers": ("nats://a",), "user": "ann", "password": "p@s/s"}),
    ("nats://ann:a@b@host", {"servers": ("nats://host",), "user": "ann", "password": "a@b"}),
    ("nats://t0ken@a", {"servers": ("nats://a",), "token": "t0ken"}),
    ("nats://ann:@a", {"servers": ("nats://a",), "user": "ann", "password": ""}),
    ("nats://a?connect_timeout=30", {"servers": ("nats://a",), "connect_timeout": 30.0}),
    ("nats://a?tls_ca=%2Fetc%2Fca.pem&tls=true", {"servers": ("nats://a",), "tls_ca": "/etc/ca.pem", "tls": True}),
    ("nats://a?tls=1&tls_first=FALSE", {"servers": ("nats://a",), "tls": True, "tls_first": False}),
    ("nats://a?name=my%20service", {"servers": ("nats://a",), "name": "my service"}),
    (
        "nats://a?pending_messages=10&pending_bytes=1000",
        {"servers": ("nats://a",), "pending_messages": 10, "pending_bytes": 1000},
    ),
    ("nats://a?creds=/a/b.creds", {"servers": ("nats://a",), "creds": "/a/b.creds"}),
    ("nats://a?", {"servers": ("nats://a",)}),
]


@pytest.mark.parametrize(("url", "settings"), URLS, ids=[u for u, _ in URLS])
def test_a_url_says_the_settings(url: str, settings: dict[str, Any]) -> None:
    assert read_url(url, NatsSettings) == NatsSettings(**settings)


WRONG: list[Any] = [
    ("nats://", "write nats://host:4222"),
    ("nats://a/path", "write nats://host:4222"),
    ("nats://a:port", "Port could not be cast"),
    ("nats://a:99999", "Port out of range"),
    ("nats://a?conect_timeout=3", "nothing is called 'conect_timeout'; there are .*connect_timeout"),
    ("nats://a?servers=b", "nothing is called 'servers'"),
    ("nats://a?connect_timeout=soon", "connect_timeout='soon' is no float"),
    ("nats://a?pending_messages=1.5", "pending_messages='1.5' is no int"),
    ("nats://a?tls=yes", "tls='yes' is no bool"),
    ("nats://a?tls_cert=c.pem", "tls_cert and tls_key belong together"),
    ("nats://a?password=x", "password needs user"),
    ("tls://a?tls=false", "tls:// is with TLS, and tls=false without"),
    ("nats://a,,b", "write nats://host:4222"),
    ("nats://ann:secret@", "write nats://host:4222"),
    ("nats://ann:secret@a,ann:secret@b", "user:password@ once"),
]


@pytest.mark.parametrize(("url", "words"), WRONG)
def test_a_url_that_cannot_be_is_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_url(url, NatsSettings)


@pytest.mark.parametrize("url", ["nats://ann:secret@a/path", "nats://ann:secret@a:port", "nats://ann:secret@a?x=y"])
def test_what_is_said_of_a_wrong_url_has_no_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_url(url, NatsSettings)
    assert "secret" not in str(caught.value)


TLS = [
    ({}, False),
    ({"tls": True}, True),
    ({"tls_first": True}, True),
    ({"servers": ("tls://a",)}, True),
    ({"servers": ("nats://a", "tls://b")}, True),
]


@pytest.mark.parametrize(("settings", "wants"), TLS)
def test_tls_is_asked_for_by_setting_or_scheme(settings: dict[str, Any], wants: bool) -> None:
    made = NatsSettings(**settings)
    assert made.wants_tls == wants
    assert (made.ssl_context() is not None) == wants


def test_a_tls_file_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="TLS files tls_ca, tls_cert, tls_key"):
        NatsSettings(tls_ca="no-such-file.pem").ssl_context()


def test_a_broker_takes_settings_as_an_object_and_opens_nothing() -> None:
    broker = NatsBroker(settings=NatsSettings(servers=("nats://a:1", "nats://b:2"), user="ann", password="secret"))
    assert broker.url == "nats://a:1,nats://b:2"
    assert not broker.connected


def test_what_only_jetstream_has_is_told_so_and_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^NATS URL: 'replicas' is for events that are kept: write jetstream://"):
        NatsBroker("nats://a?replicas=3")
    monkeypatch.setenv("EVENTMICRO_BROKER", "nats://a")
    monkeypatch.setenv("EVENTMICRO_BROKER__REPLICAS", "3")
    with pytest.raises(UsageError, match=r"^EVENTMICRO_BROKER__REPLICAS: NATS URL: 'replicas'"):
        Client()
