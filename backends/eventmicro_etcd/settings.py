"""What can be set for an etcd connection, in code or in its URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from eventmicro.errors import UsageError
from eventmicro.settings import check_settings, split_url, tls_context

PORT = 2379
DEFAULT = "127.0.0.1:2379"


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """An etcd connection's settings. Times are seconds.

    In a URL they follow behind `?`: `etcds://user:password@a:2379,b:2379?tls_ca=ca.pem&prefix=shop`.
    """

    servers: tuple[str, ...] = (DEFAULT,)
    """The members of one cluster, `host:port`, tried in turn, from any of them on."""
    user: str | None = None
    """Who to log in as; in a URL `user:password@` before the first host."""
    password: str | None = field(default=None, repr=False)
    """The password of `user`."""
    tls: bool = False
    """Speak TLS; so does the scheme `etcds://`. The server is always verified."""
    tls_ca: str | None = None
    """The path of the authority to trust; default: those the system trusts."""
    tls_cert: str | None = None
    """The path of the certificate to show to the server, with `tls_key`."""
    tls_key: str | None = None
    """The path of the key of `tls_cert`."""
    prefix: str = "eventmicro/registry"
    """What the keys of the registry begin with: `<prefix>/<service>/<node>`."""
    timeout: float = 3.0
    """How long one request may take, at all members together."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.user is not None and self.password is None:
            raise UsageError("user needs password")
        if not self.prefix.strip("/"):
            raise UsageError("prefix is empty: write what the registry's keys are to begin with")

    @property
    def scheme(self) -> str:
        """That of a URL of these settings."""
        return "etcds" if self.tls else "etcd"

    @property
    def address(self) -> str:
        """The settings as a URL without user and password."""
        return f"{self.scheme}://{','.join(self.servers)}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS; None without TLS."""
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key) if self.tls else None


def read_url(url: str) -> EtcdSettings:
    """The settings that a URL says; a scheme alone, `etcd://`, stands for the default host.

    Raises:
        UsageError: it is no URL of etcd, or it sets what does not exist, or sets it to what cannot be.
    """
    scheme, _, rest = url.partition("://")
    parts = split_url(url if rest else f"{scheme}://{DEFAULT}", "etcd", "etcd://host:2379", port=PORT)
    settings = parts.settings(EtcdSettings, apart=("servers", "user", "password", "tls"))
    if parts.user is not None:
        settings |= {"user": parts.user, "password": parts.password}
    return EtcdSettings(servers=parts.servers, tls=scheme == "etcds", **settings)
