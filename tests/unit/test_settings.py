"""What the settings of all adapters have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from eventmicro.errors import UsageError
from eventmicro.settings import BrokerUrl, address_only, check_settings, split_url


@dataclass(frozen=True)
class Settings:
    servers: tuple[str, ...] = ()
    name: str | None = None
    wait: float = 5.0
    count: int = 3
    limit: int = -1
    strict: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None


def split(url: str, **how: Any) -> BrokerUrl:
    return split_url(url, "Acme", "acme://host:7", **how)


def test_a_url_is_taken_apart() -> None:
    url = split("acme://ann:p%40s@a:1,b,[::1]:9/v%2Fh?name=x%20y&wait=0.5&count=7&strict=TRUE", port=7, path=True)
    assert (url.scheme, url.servers, url.path) == ("acme", ("a:1", "b:7", "[::1]:9"), "v/h")
    assert (url.user, url.password) == ("ann", "p@s")
    assert url.settings(Settings) == {"name": "x y", "wait": 0.5, "count": 7, "strict": True}


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [("", None, None), ("ann@", "ann", None), ("ann:@", "ann", ""), ("ann:a@b@", "ann", "a@b"), ("a:b/c@", "a", "b/c")],
)
def test_a_user_and_a_password_may_be_said(userinfo: str, user: str | None, password: str | None) -> None:
    url = split(f"acme://{userinfo}host")
    assert (url.user, url.password, url.servers) == (user, password, ("host",))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("acme://", "a host is missing; write acme://host:7"),
        ("acme://ann:secret@", "a host is missing"),
        ("acme://ann:secret@a,,b", "a host is missing"),
        ("acme://ann:secret@a:0", "no port 0"),
        ("acme://ann:secret@a:port", "Port could not be cast"),
        ("acme://ann:secret@a:99999", "Port out of range"),
        ("acme://ann:secret@a/b", "write acme://host:7"),
        ("acme://ann:secret@a,ann:secret@b", "user:password@ once"),
        ("acme://a:1,ann:secret@b", "user:password@ once"),
        ("acme://ann:sec?secret@a", "'?' is %3F in a password"),
        ("acme://a?ann:secret@b=1", "'@' is %40"),
        ("acme://ann:secret@a?nmae=x", "nothing is called 'nmae'; there are name, wait"),
        ("acme://ann:secret@a?servers=b", "nothing is called 'servers'"),
        ("acme://a?wait=soon", "wait='soon' is no float"),
        ("acme://a?count=1.5", "count='1.5' is no int"),
        ("acme://a?strict=yes", "strict='yes' is no bool"),
    ],
)
def test_what_cannot_be_read_is_refused_and_no_secret_is_shown(url: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        split(url).settings(Settings)
    assert words in str(error.value)
    assert "sec" not in str(error.value)


def test_two_parts_behind_the_hosts_are_refused() -> None:
    with pytest.raises(UsageError, match="too many parts"):
        split("acme://h/a/b", path=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("acme://ann:secret@host:4222?password=secret", "acme://host:4222"),
        ("acme://secret@a,b", "acme://a,b"),
        ("acme://a:1/v", "acme://a:1/v"),
        ("acme://ann:sec?ret@host", "acme://(hidden)"),
        ("acme://host?password=sec@ret", "acme://(hidden)"),
    ],
)
def test_a_url_for_the_log_has_no_secrets(url: str, shown: str) -> None:
    assert address_only(url) == shown


@pytest.mark.parametrize(
    "wrong",
    [{"wait": -1.0}, {"wait": float("nan")}, {"wait": float("inf")}, {"count": -1}],
    ids=lambda wrong: repr(wrong),
)
def test_numbers_that_cannot_be_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}=.*: write a number of 0 or more"):
        check_settings(Settings(**wrong))


def test_numbers_that_can_be_are_taken() -> None:
    check_settings(Settings(wait=0.0, count=0, limit=-1))


@pytest.mark.parametrize("half", [{"tls_cert": "c.pem"}, {"tls_key": "k.pem"}], ids=["certificate", "key"])
def test_half_of_a_certificate_is_refused(half: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="tls_cert and tls_key belong together"):
        check_settings(Settings(**half))
