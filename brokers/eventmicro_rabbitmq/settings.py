"""What can be set for a RabbitMQ connection, in code or in its URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from eventmicro.errors import UsageError

PORTS = {"amqp": 5672, "amqps": 5671}
DECLARE = ("true", "check", "false")


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """A RabbitMQ connection's settings. Times are seconds, sizes bytes.

    In a URL they follow behind `?`: `amqps://user:password@a:5671,b:5671/vhost?tls_ca=ca.pem&connect_timeout=30`.
    """

    servers: tuple[str, ...] = ("127.0.0.1:5672",)
    """The nodes of one cluster, `host:port`, tried in turn."""
    vhost: str = "/"
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: bool = False
    """Connect by TLS, as the scheme `amqps://` says. The server is always verified."""
    tls_ca: str | None = None
    """The path of the authority to trust; default: those the system trusts."""
    tls_cert: str | None = None
    """The path of the certificate to show to the server, with `tls_key`."""
    tls_key: str | None = None
    tls_hostname: str | None = None
    """The name that the server's certificate must bear; default: that of the URL."""
    name: str | None = None
    """The connection's name in the server's management."""
    exchange: str = "events"
    """The topic exchange that events are published to and queues are bound to."""
    declare: Literal["true", "check", "false"] = "true"
    """`true`: exchange, queues and bindings are made where they are missing. `check`: exchange and queues must be there
    and fit. `false`: all is left alone. Where nothing is made, delayed retries wait on this side."""
    new_queue_wait: float = 1.1
    """How long `subscribe` waits when it has made a queue: a node notes new quorum queues on disk within a second, and
    one that is killed before would lose the queue with its events. 0 for clusters, where the others know of it."""
    mandatory: bool = False
    """Refuse to publish what no queue takes."""
    max_payload: int = 16 * 1024 * 1024
    """The largest body; what RabbitMQ 4 takes by itself, 3 takes 128 MiB."""
    pending_messages: int = 65_536
    """How many events wait in the server for a slow subscription that is not durable; then it drops the oldest."""
    connect_timeout: float = 5.0
    """How long `connect` tries. Once connected, a lost connection is re-made for as long as it takes."""
    reconnect_wait: float = 0.5
    """How long to wait between two tries at first; it doubles up to 10 times as long."""
    heartbeat: int = 10
    """A server that says nothing for twice as long, in whole seconds, counts as gone; 0: never."""

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("tls_cert and tls_key belong together: set both or none")
        if (self.tls_ca or self.tls_cert or self.tls_hostname) and not self.tls:
            raise UsageError("tls_ca, tls_cert, tls_key and tls_hostname are for amqps://")
        if self.declare not in DECLARE:
            raise UsageError(f"declare={self.declare!r}: write one of {', '.join(DECLARE)}")
        if not self.exchange or self.exchange.startswith("amq."):
            raise UsageError(f"exchange={self.exchange!r}: write a name of your own, not of those kept for RabbitMQ")
        if not 0 <= self.heartbeat < 65535:
            raise UsageError(f"heartbeat={self.heartbeat}: write whole seconds, or 0 for none")

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS with what is set; None without TLS."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert is not None:
                context.load_cert_chain(self.tls_cert, self.tls_key)
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(f"TLS files tls_ca, tls_cert, tls_key: {error}") from error
        return context


_IN_ADDRESS = {"servers", "vhost", "user", "password", "tls"}
_TYPES: dict[str, type] = {f.name: type(f.default) for f in fields(RabbitSettings) if f.name not in _IN_ADDRESS}


def read_url(url: str) -> RabbitSettings:
    """The settings that a URL says.

    Raises:
        UsageError: it is no URL of RabbitMQ, or it sets what does not exist, or sets it to what cannot be.
    """
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    userinfo, at, location = address.rpartition("@")
    hosts, _, path = location.partition("/")
    if scheme not in PORTS or not hosts or "/" in path:
        raise UsageError(
            f"RabbitMQ URL {without_secrets(url)!r}: write amqp://host:5672/vhost, several hosts with commas between; "
            "in a vhost or password '/' is %2F, '@' is %40"
        )
    settings: dict[str, Any] = {key: _value(key, value) for key, value in parse_qsl(query, keep_blank_values=True)}
    settings["servers"] = tuple(_server(scheme, host, url) for host in hosts.split(","))
    if at:
        user, _, password = userinfo.partition(":")
        settings |= {"user": unquote(user), "password": unquote(password)}
    return RabbitSettings(vhost=unquote(path) or "/", tls=scheme == "amqps", **settings)


def without_secrets(url: str) -> str:
    """The URL without user, password and query, fit for a log."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def address_of(settings: RabbitSettings) -> str:
    """The settings as a URL without user and password."""
    scheme = "amqps" if settings.tls else "amqp"
    return f"{scheme}://{','.join(settings.servers)}/{'' if settings.vhost == '/' else settings.vhost}"


def _server(scheme: str, host: str, url: str) -> str:
    try:
        parts = urlsplit(f"{scheme}://{host}")
        if not parts.hostname or parts.port == 0:
            raise ValueError("a host is missing")
        port = parts.port or PORTS[scheme]
    except ValueError as error:  # a port that is no number, too
        raise UsageError(f"RabbitMQ URL {without_secrets(url)!r}: {error}") from None
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{name}:{port}"


def _value(key: str, value: str) -> Any:
    if key not in _TYPES:
        raise UsageError(
            f"RabbitMQ URL: nothing is called {'(hidden)' if '@' in key else repr(key)}; there are {', '.join(_TYPES)}"
        )
    kind = _TYPES[key]
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        return value if kind in (str, type(None)) else kind(value)
    except (KeyError, ValueError):
        raise UsageError(f"RabbitMQ URL: {key}={value!r} is no {kind.__name__}") from None
