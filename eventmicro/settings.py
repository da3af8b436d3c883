"""What the settings of all adapters have in common: read from a URL, checked, with TLS that verifies.

An adapter keeps its settings in a dataclass: a field `servers`, and a field with a default for all that can be set.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from eventmicro.checks import did_you_mean
from eventmicro.errors import UsageError
from eventmicro.sources import said_beside

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A URL, `scheme://user:password@host:port,host:port/path?name=value`, taken apart."""

    product: str
    scheme: str
    servers: tuple[str, ...]
    """`host:port`; `host` where neither the URL nor the adapter says a port."""
    user: str | None
    password: str | None = field(repr=False)
    """None where there is no colon behind the user."""
    path: str
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    """Names and values behind the `?`."""

    def settings(self, kind: type[Any], *, apart: tuple[str, ...] = ("servers",)) -> dict[str, Any]:
        """What is set behind the `?`, each value as the type that its field in `kind` has by default.

        Args:
            kind: the adapter's settings.
            apart: the fields that cannot be set there.

        Raises:
            UsageError: there is no such field, or it cannot have such a value.
        """
        types = {each.name: type(each.default) for each in fields(kind) if each.name not in apart}
        return {name: self._value(name, text, types, apart) for name, text in self.pairs}

    def check_tls(self, settings: dict[str, Any]) -> None:
        """Refuse `tls=false` where the scheme says that there is to be TLS.

        Raises:
            UsageError: both are said.
        """
        if settings.get("tls") is False:
            why = f"{self.scheme}:// is with TLS, and tls=false without: leave out one of them"
            raise UsageError(f"{said_beside('tls')}{self.product} URL: {why}")

    def _value(self, name: str, text: str, types: dict[str, type], apart: tuple[str, ...]) -> Any:
        if name in apart:
            why = "it is said before the '?' of the URL, by its scheme, user, password, hosts or path"
            raise UsageError(f"{said_beside(name)}{self.product} URL: nothing is called {name!r} here: {why}")
        if name not in types:
            there = f"there are {', '.join(types)}{did_you_mean(name, types)}"
            raise UsageError(f"{said_beside(name)}{self.product} URL: nothing is called {name!r}; {there}")
        try:
            if types[name] is bool:
                return _BOOLEANS[text.lower()]
            return types[name](text) if types[name] in (int, float) else text
        except (KeyError, ValueError):
            where = said_beside(name)
            raise UsageError(f"{where}{self.product} URL: {name}={text!r} is no {types[name].__name__}") from None


def split_url(url: str, product: str, example: str, *, port: int | None = None, path: bool = False) -> BrokerUrl:
    """Take a URL apart.

    Args:
        url: what to read.
        product: the broker's name, for errors.
        example: how a URL of it is written, for errors.
        port: the port where the URL says none.
        path: whether something may follow behind the hosts.

    Raises:
        UsageError: it cannot be read; the error shows no user or password.
    """
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    userinfo, at, location = address.rpartition("@")
    hosts, _, where = location.partition("/")
    user, colon, password = userinfo.partition(":")
    if "@" in query:
        raise UsageError(f"{product} URL: '?' is %3F in a password, '@' is %40 behind the '?'")
    if "," in userinfo:
        raise UsageError(
            f"{product} URL: write user:password@ once, before the first host; in a password '@' is %40, ',' %2C"
        )
    try:
        servers = tuple(_server(host, port) for host in hosts.split(","))
        if "/" in where or (where and not path):
            raise ValueError("too many parts")
    except ValueError as error:
        raise UsageError(
            f"{product} URL {address_only(url)!r}: {error}; write {example}, or several hosts with commas between; "
            "in a user, password or path '/' is %2F, '@' is %40, '?' is %3F"
        ) from None
    return BrokerUrl(
        product,
        scheme,
        servers,
        unquote(user) if at else None,
        unquote(password) if colon else None,
        unquote(where),
        tuple(parse_qsl(query, keep_blank_values=True)),
    )


def address_only(url: str) -> str:
    """The URL without user, password and settings, fit for a log and for an error."""
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    shown = "(hidden)" if "@" in query else address.rpartition("@")[2]  # there may be a '?' in the password
    return f"{scheme}://{shown}"


def check_settings(settings: Any) -> None:
    """Refuse what no adapter can do: times and sizes below zero or without end, half of a TLS certificate.

    Raises:
        UsageError: naming the setting.
    """
    for each in fields(settings):
        value = getattr(settings, each.name)
        if not isinstance(value, int | float) or not isinstance(each.default, int | float):
            continue
        if not isfinite(value) or value < 0 <= each.default:
            raise UsageError(f"{each.name}={value}: write a number of 0 or more")
    if (getattr(settings, "tls_cert", None) is None) != (getattr(settings, "tls_key", None) is None):
        raise UsageError("tls_cert and tls_key belong together: set both or none")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of these.

    Raises:
        UsageError: naming the setting.
    """
    if value not in choices:
        raise UsageError(f"{name}={value!r}: there are {', '.join(choices)}")


def tls_context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """A context that verifies the server.

    Args:
        authority: the path of the authority to trust; None: those that the system trusts.
        certificate: the path of the certificate to show to the server, if any.
        key: the path of its key.

    Raises:
        UsageError: a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"TLS files tls_ca, tls_cert, tls_key: {error}") from error
    return context


def _server(host: str, port: int | None) -> str:
    """The host with its port.

    Raises:
        ValueError: it is none, or its port is no port.
    """
    parts = urlsplit(f"//{host}")
    if not parts.hostname or parts.port == 0:
        raise ValueError("a host is missing" if not parts.hostname else "there is no port 0")
    return host if parts.port or port is None else f"{host}:{port}"
