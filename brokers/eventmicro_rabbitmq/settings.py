"""What can be set for a RabbitMQ connection, in code or in its URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

from eventmicro.errors import UsageError
from eventmicro.settings import check_choice, check_settings, split_url, tls_context
from eventmicro_rabbitmq.topology import check_name

PORTS = {"amqp": 5672, "amqps": 5671}
DECLARE = ("true", "check", "false")
# The longest name of an exchange or a virtual host that pamqp takes; of the exchange another one is made, `.dead`.
LONGEST_NAME = 120
# Less would keep the processor busy while the broker is away, in seconds.
SHORTEST_WAIT = 0.01


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """A RabbitMQ connection's settings. Times are seconds, sizes bytes.

    In a URL they follow behind `?`: `amqps://user:password@a:5671,b:5671/vhost?tls_ca=ca.pem&connect_timeout=30`.
    """

    servers: tuple[str, ...] = ("127.0.0.1:5672",)
    """The nodes of one cluster, `host:port`, tried in turn, from any of them on: clients spread over them."""
    vhost: str = "/"
    """The virtual host; in a URL behind the hosts."""
    user: str = "guest"
    """Who to log in as; in a URL `user:password@` before the first host."""
    password: str = field(default="guest", repr=False)
    """The password of `user`."""
    tls: bool = False
    """Connect by TLS, as the scheme `amqps://` says. The server is always verified."""
    tls_ca: str | None = None
    """The path of the authority to trust; default: those the system trusts."""
    tls_cert: str | None = None
    """The path of the certificate to show to the server, with `tls_key`."""
    tls_key: str | None = None
    """The path of the key of `tls_cert`."""
    tls_hostname: str | None = None
    """The name that the server's certificate must bear; default: that of the URL."""
    name: str | None = None
    """The connection's name in the server's management."""
    exchange: str = "events"
    """The topic exchange that events are published to and queues are bound to."""
    declare: Literal["true", "check", "false"] = "true"
    """`true`: exchange, queues and bindings are made where they are missing. `check`: exchange and queues must be there
    and fit; that queues fit can be checked only with the right to configure them. `false`: all is left alone, and only
    a queue that cannot keep what is promised is refused. Where nothing is made, delayed retries wait on this side."""
    new_queue_wait: float = 1.1
    """How long `subscribe` waits when it has made a queue: a node notes new quorum queues on disk within a second, and
    one that is killed before would lose the queue with its events. 0 for clusters, where the others know of it. An
    instance that starts meanwhile finds the queue, and does not wait. The subscribers of a service wait together."""
    declare_timeout: float = 30.0
    """How long RabbitMQ may take to make, check or consume from one exchange, queue or binding: a cluster that is busy,
    or in which a node is just missing, takes its time for a quorum queue."""
    look_every: float = 5.0
    """How often is looked whether the exchanges and bindings of subscriptions are still there; with `declare=true` they
    are made again, half as long after that. For so long what is published to an exchange that others have made anew may
    go nowhere. Twice as long a publisher leaves an exchange that is gone to the subscribers, and then makes it."""
    consumer_timeout: float = 1800.0
    """RabbitMQ's own `consumer_timeout`, after which it takes an event back that is not settled: a subscription holds
    no more events than it can begin with in half of it. Of a shorter one it learns when RabbitMQ says it."""
    mandatory: bool = False
    """Refuse to publish what no queue takes; a dead letter is refused then in any case, and its event stays."""
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
        check_settings(self)
        if (self.tls_ca or self.tls_cert or self.tls_hostname) and not self.tls:
            raise UsageError("tls_ca, tls_cert, tls_key and tls_hostname are for amqps://")
        check_choice("declare", self.declare, DECLARE)
        if check_name(self.exchange, "exchange").startswith("amq."):
            raise UsageError(f"exchange={self.exchange!r}: write a name of your own, not of those kept for RabbitMQ")
        for name in ("exchange", "vhost"):
            if len(getattr(self, name)) > LONGEST_NAME:
                raise UsageError(f"{name}: RabbitMQ's client takes names of up to {LONGEST_NAME} signs")
        if self.reconnect_wait < SHORTEST_WAIT:
            raise UsageError(
                f"reconnect_wait={self.reconnect_wait:g}: at least {SHORTEST_WAIT:g} s, or it is all it does"
            )
        if self.heartbeat > 65535:
            raise UsageError(f"heartbeat={self.heartbeat}: write whole seconds, 65535 at most, or 0 for none")

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS with what is set; None without TLS."""
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key) if self.tls else None


_IN_ADDRESS = ("servers", "vhost", "user", "password", "tls")


def read_url(url: str) -> RabbitSettings:
    """The settings that a URL says.

    Raises:
        UsageError: it is no URL of RabbitMQ, or it sets what does not exist, or sets it to what cannot be.
    """
    scheme = url.partition("://")[0]
    parts = split_url(url, "RabbitMQ", "amqp://host:5672/vhost", port=PORTS.get(scheme), path=True)
    settings = parts.settings(RabbitSettings, apart=_IN_ADDRESS)
    if parts.user is not None:
        settings |= {"user": parts.user, "password": parts.password or ""}
    return RabbitSettings(servers=parts.servers, vhost=parts.path or "/", tls=scheme == "amqps", **settings)


def address_of(settings: RabbitSettings) -> str:
    """The settings as a URL without user and password."""
    scheme = "amqps" if settings.tls else "amqp"
    return f"{scheme}://{','.join(settings.servers)}/{'' if settings.vhost == '/' else settings.vhost}"
