"""What can be set for a NATS connection, in code or in its URL."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, fields
from typing import TypeVar

from eventmicro.errors import UsageError
from eventmicro.settings import BrokerUrl, check_choice, check_settings, split_url, tls_context
from eventmicro.sources import said_beside


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """A NATS connection's settings. Times are seconds, sizes bytes.

    In a URL they follow behind `?`: `tls://a:4222,b:4222?tls_ca=ca.pem&connect_timeout=30`.
    """

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    """The servers of one cluster, tried in turn."""
    user: str | None = None
    """Who to log in as; in a URL `user:password@` before the first host."""
    password: str | None = field(default=None, repr=False)
    """The password of `user`."""
    token: str | None = field(default=None, repr=False)
    """A token to log in with; in a URL `token@` before the first host."""
    nkey_seed: str | None = None
    """The path of a file with an nkey seed."""
    creds: str | None = None
    """The path of a credentials file, as `nsc` writes it."""
    tls: bool = False
    """Refuse a server without TLS; so does the scheme `tls://`."""
    tls_ca: str | None = None
    """The path of the authority to trust; default: those the system trusts. The server is always verified."""
    tls_cert: str | None = None
    """The path of the certificate to show to the server, with `tls_key`."""
    tls_key: str | None = None
    """The path of the key of `tls_cert`."""
    tls_hostname: str | None = None
    """The name that the server's certificate must bear; default: that of the URL."""
    tls_first: bool = False
    """Begin with TLS at once, for servers set to `handshake_first`."""
    name: str | None = None
    """The connection's name in the server's monitoring."""
    inbox_prefix: str = "_INBOX"
    """What reply subjects begin with; for accounts whose permissions allow another one only."""
    connect_timeout: float = 5.0
    """How long `connect` tries, each server for its share of it. Once connected, a lost connection is re-made for as
    long as it takes."""
    reconnect_wait: float = 0.5
    """How long to wait between two tries for the same server."""
    ping_interval: float = 2.0
    """A server that leaves two pings unanswered counts as gone: a hung one is noticed within three of these."""
    pending_messages: int = 65_536
    """How many messages a subscription may have waiting on this side; what is over that is dropped and reported."""
    pending_bytes: int = 64 * 1024 * 1024
    """The same in bytes."""
    outgoing_bytes: int = 8 * 1024 * 1024
    """How much may wait to be sent, also while the server is away; more than that is refused."""
    registry_bucket: str = "eventmicro_registry"
    """The JetStream KV bucket of the registry, which is made when it is first needed."""
    registry_storage: str = "file"
    """Where that bucket is, if it is made from here: `file` or `memory`."""
    registry_replicas: int = 1
    """On how many servers of a cluster it is, 1 to 5."""
    registry_bytes: int = -1
    """How much that bucket may keep, for accounts that demand a bound of every stream. -1: there is none."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_choice("registry_storage", self.registry_storage, ("file", "memory"))
        _check_replicas("registry_replicas", self.registry_replicas)
        if _match_stream(self.registry_bucket) is None:
            raise UsageError(f"registry_bucket={self.registry_bucket!r}: write letters, digits, '_' and '-' only")
        if any("@" in server for server in self.servers):
            raise UsageError("servers name no user or password: set user, password or token beside them")
        if self.password is not None and self.user is None:
            raise UsageError("password needs user")

    @property
    def wants_tls(self) -> bool:
        """Whether a server without TLS is refused."""
        if self.tls or self.tls_first or self.tls_ca or self.tls_cert or self.tls_hostname:
            return True
        return any(server.startswith("tls://") for server in self.servers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS with what is set; None where the driver's own default, which verifies, will do."""
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key) if self.wants_tls else None


@dataclass(frozen=True, slots=True)
class JetStreamSettings(NatsSettings):
    """A JetStream connection's settings: those of NATS, and how what is kept is made. Times are seconds, sizes bytes.

    In a URL they follow behind `?`: `jetstream://a:4222,b:4222?replicas=3&max_age=604800`.
    """

    declare: str = "true"
    """`true`: make the streams and queues that are missing. `check`: they must be there and fit. `false`: do not even
    look; `stream` is where the queues are."""
    stream: str = "EVENTS"
    """The stream for those subjects that no other stream has."""
    storage: str = "file"
    """Where that stream keeps its events, if it is made from here: `file` or `memory`."""
    replicas: int = 1
    """On how many servers of a cluster it keeps them, 1 to 5: with 3 one may fail, with 5 two."""
    max_age: float = 0.0
    """For how long it keeps an event, settled or not; 0: for ever."""
    max_bytes: int = -1
    """How much it keeps; when it is full, publishing is refused. -1: as much as there is room."""
    duplicate_window: float = 120.0
    """For how long it knows an event's id, so that one that is sent again is stored once."""
    object_bucket: str = "eventmicro_events"
    """The bucket of the object store for events that are too large, made when it is first needed; `declare` is for it,
    too."""
    object_ttl: float = 604_800.0
    """For how long that bucket keeps what is put there, if it is made from here: as long as any event may wait in a
    queue. 0: for ever."""
    object_bytes: int = -1
    """How much that bucket may keep, if it is made from here, for accounts that demand a bound. -1: there is none."""
    ack_wait: float = 30.0
    """After how long a process that is dead or cut off counts as such, and its events go to another; of queues that
    are made from here, one that exists keeps its own. A handler may take as long as it likes."""

    def __post_init__(self) -> None:
        NatsSettings.__post_init__(self)
        check_choice("declare", self.declare, ("true", "check", "false"))
        check_choice("storage", self.storage, ("file", "memory"))
        _check_replicas("replicas", self.replicas)
        if _match_stream(self.stream) is None:
            raise UsageError(f"stream={self.stream!r}: write letters, digits, '_' and '-' only")
        if _match_stream(self.object_bucket) is None:
            raise UsageError(f"object_bucket={self.object_bucket!r}: write letters, digits, '_' and '-' only")
        if self.ack_wait < 0.2:
            raise UsageError(f"ack_wait={self.ack_wait:g}: at least 0.2 s, for it takes time to extend it")


def _check_kept(parts: BrokerUrl, kind: type[NatsSettings]) -> None:
    """Refuse what is of streams where there are none."""
    known, kept = ({each.name for each in fields(each_kind)} for each_kind in (kind, JetStreamSettings))
    for name, _ in parts.pairs:
        if name in kept - known:
            raise UsageError(
                f"{said_beside(name)}NATS URL: {name!r} is for events that are kept: write jetstream:// in place of "
                f"{parts.scheme}://"
            )


def _check_replicas(name: str, replicas: int) -> None:
    if not 1 <= replicas <= 5:
        raise UsageError(f"{name}={replicas}: write 1 to 5, which are servers of one cluster")


_match_stream = re.compile(r"[A-Za-z0-9_-]+").fullmatch


Settings = TypeVar("Settings", bound=NatsSettings)


def read_url(url: str, kind: type[Settings]) -> Settings:
    """The settings that a URL says.

    Raises:
        UsageError: it is no URL of NATS, or it sets what does not exist, or sets it to what cannot be.
    """
    scheme = url.partition("://")[0]
    parts = split_url(url, "NATS", f"{scheme}://host:4222")
    _check_kept(parts, kind)
    settings = parts.settings(kind)
    if scheme == "tls":
        parts.check_tls(settings)
    if parts.password is not None:
        settings |= {"user": parts.user, "password": parts.password}
    elif parts.user is not None:
        settings["token"] = parts.user
    driver_scheme = "nats" if scheme == "jetstream" else scheme
    return kind(servers=tuple(f"{driver_scheme}://{server}" for server in parts.servers), **settings)
