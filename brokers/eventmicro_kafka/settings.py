"""What can be set for a Kafka connection, in code or in its URL."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from eventmicro.errors import UsageError
from eventmicro.settings import check_choice, check_settings, split_url, tls_context

Declare = Literal["true", "check", "false"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]
TokenProvider = Callable[[], Awaitable[str]]
"""Gives a token that is valid now, each time that a connection is made."""

# The schemes under which a server without TLS is refused.
TLS_SCHEMES = ("kafkas", "kafka+ssl")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A Kafka connection's settings. Times are seconds, sizes bytes.

    In a URL they follow behind `?`: `kafka://a:9092,b:9092?partitions=6&replication=3`.
    """

    servers: tuple[str, ...] = ("127.0.0.1:9092",)
    """Servers of one cluster, `host:port`, tried in turn; the others are learnt from them."""
    user: str | None = None
    """Who to log in as, by SASL; in a URL `user:password@` before the first host."""
    password: str | None = field(default=None, repr=False)
    """The password of `user`."""
    sasl: Mechanism = "SCRAM-SHA-256"
    """How to log in: `SCRAM-SHA-256`, `SCRAM-SHA-512`; `PLAIN`, which shows the password to whoever listens where there
    is no TLS; `OAUTHBEARER`, by a token; `GSSAPI`, by a ticket of Kerberos, which `kinit` or a keytab has got."""
    token: TokenProvider | None = field(default=None, repr=False)
    """For `OAUTHBEARER`, in code: an `async` function that gives a token; it is asked at each connection."""
    token_url: str | None = None
    """For `OAUTHBEARER`: where tokens are had by client credentials, `user` and `password` being the client's id and
    secret; a token is used for most of the time that it is valid."""
    token_scope: str | None = None
    """The scope that tokens of `token_url` are asked for."""
    kerberos_service: str = "kafka"
    """For `GSSAPI`: the name of the brokers' service, as their `sasl.kerberos.service.name`."""
    kerberos_domain: str | None = None
    """For `GSSAPI`: the host of the brokers' principals; default: the host of each."""
    tls: bool = False
    """Refuse a server without TLS; so do the schemes `kafkas://` and `kafka+ssl://`."""
    tls_ca: str | None = None
    """The path of the authority to trust; default: those the system trusts. The server is always verified."""
    tls_cert: str | None = None
    """The path of the certificate to show to the server, with `tls_key`."""
    tls_key: str | None = None
    """The path of the key of `tls_cert`."""
    name: str = "eventmicro"
    """The connection's name in the brokers' logs and quotas."""
    topics_interval: float = 5.0
    """How often is looked which topics there are: new ones that wildcards stand for, those that were deleted and made
    again."""
    declare: Declare = "true"
    """Topics that are missing are made (`true`), are an error (`check`), or are left to the cluster (`false`), which
    makes them by its own settings unless `auto.create.topics.enable` is off."""
    partitions: int = -1
    """How many partitions a topic gets that is made here; -1: as many as the broker gives by itself."""
    replication: int = -1
    """On how many brokers a topic is kept that is made here; -1: as the broker does by itself."""
    connect_timeout: float = 5.0
    """How long `connect` tries. Once connected, a lost connection is re-made for as long as it takes."""
    request_timeout: float = 10.0
    """How long a broker may leave a request unanswered before its connection is dropped and made anew."""
    ping_interval: float = 2.0
    """How often the cluster is asked for a sign of life; one that takes longer than this counts as away."""
    session_timeout: float = 10.0
    """After how long without a heartbeat a member of a group counts as dead, and others take its partitions over."""
    heartbeat_interval: float = 0.3
    """How often a member shows that it lives, which is also how soon it learns that partitions move."""
    rebalance_wait: float = 3.0
    """How long events that are being handled may take to finish before their partitions go to another member; with
    `order_by` at least as long as the subscriber's `timeout`, or 30 where it has none."""
    instance: str | None = None
    """The name of this process among those of its queues, new for each, the same at each start, such as the name of a
    pod: a member that comes back within `session_timeout` gets its partitions again, and none of the others' move."""
    commit_interval: float = 0.2
    """How far the commits are behind what is finished; a process that is killed repeats so much."""
    transaction_timeout: float = 10.0
    """How long a transaction of a subscriber with `transactional=True` may take: it is made anew then, and one that a
    killed process has left open is ended by the broker, before which nobody reads on behind it."""
    max_message: int = 1_048_576
    """The largest message, with its key and headers; topics and brokers have limits of their own beside it."""
    batch_bytes: int = 262_144
    """How much goes to a partition in one batch; less, where a topic's `max.message.bytes` is lower."""
    compression: Compression = "none"
    """How what is published is compressed, by the batch: `gzip`, `snappy`, `lz4`, `zstd`. All of them are read."""
    fetch_bytes: int = 1_048_576
    """How much of a partition is fetched in one go; as much again is fetched while that is read."""
    retry_messages: int = 10_000
    """How many events a subscription may have waiting on this side until they are due again."""
    retry_bytes: int = 64 * 1024 * 1024
    """The same in bytes."""

    def __post_init__(self) -> None:
        check_settings(self)
        if (self.user is None) != (self.password is None):
            raise UsageError("user and password belong together: set both or none; in a URL user:password@")
        if any("@" in server for server in self.servers):
            raise UsageError("servers name no user or password: set user and password beside them")
        check_choice("sasl", self.sasl, get_args(Mechanism))
        self._check_login()
        check_choice("compression", self.compression, get_args(Compression))
        check_choice("declare", self.declare, get_args(Declare))
        for name in ("partitions", "replication"):
            if getattr(self, name) < 1 and getattr(self, name) != -1:
                raise UsageError(f"{name} is 1 or more, or -1 for what the broker does by itself")
        if self.heartbeat_interval >= self.session_timeout:
            raise UsageError("heartbeat_interval is to be well below session_timeout")

    def _check_login(self) -> None:
        if self.sasl == "OAUTHBEARER":
            if (self.token is None) == (self.token_url is None):
                raise UsageError("sasl=OAUTHBEARER needs one of token, in code, and token_url")
            if (self.token_url is None) != (self.user is None):
                raise UsageError("token_url needs the client's id and secret as user and password, and token has none")
            if self.token_url is not None and not self.token_url.startswith(("https://", "http://")):
                raise UsageError(f"token_url={self.token_url!r}: write https://host/path")
        elif self.token is not None or self.token_url is not None or self.token_scope is not None:
            raise UsageError(f"token, token_url and token_scope are for sasl=OAUTHBEARER, not for {self.sasl}")
        if self.token_scope is not None and self.token_url is None:
            raise UsageError("token_scope is for token_url; a function that gives tokens asks for its own scope")
        if self.sasl == "GSSAPI" and self.user is not None:
            raise UsageError("sasl=GSSAPI takes no user and password: the ticket says who it is")

    @property
    def logs_in(self) -> bool:
        """Whether the brokers are told who this is, other than by a certificate."""
        return self.user is not None or self.sasl in ("OAUTHBEARER", "GSSAPI")

    @property
    def wants_tls(self) -> bool:
        """Whether a server without TLS is refused."""
        return self.tls or self.tls_ca is not None or self.tls_cert is not None

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS with what is set; None where no TLS is wanted."""
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key) if self.wants_tls else None


def read_url(url: str) -> KafkaSettings:
    """The settings that a URL says.

    Raises:
        UsageError: it is no URL of Kafka, or it sets what does not exist, or sets it to what cannot be.
    """
    parts = split_url(url, "Kafka", "kafka://host:9092", port=9092)
    settings = parts.settings(KafkaSettings)
    if parts.user is not None:
        settings |= {"user": parts.user, "password": parts.password}
    if parts.scheme in TLS_SCHEMES:
        parts.check_tls(settings)
        settings["tls"] = True
    return KafkaSettings(servers=parts.servers, **settings)
