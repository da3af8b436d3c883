"""What can be set for a Consul agent, in code or in its URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from eventmicro.errors import UsageError
from eventmicro.settings import check_settings, split_url, tls_context

PORTS = {"consul": 8500, "consuls": 8501}


@dataclass(frozen=True, slots=True)
class ConsulSettings:
    """The settings of a Consul agent. Times are seconds.

    In a URL they follow behind `?`: `consuls://token@127.0.0.1:8501?tls_ca=ca.pem`.
    """

    server: str = "127.0.0.1:8500"
    """The agent, `host:port`; mostly the one on this machine: what is registered there ends with it."""
    token: str | None = field(default=None, repr=False)
    """The ACL token; in a URL `token@` before the host."""
    tls: bool = False
    """Speak TLS; so does the scheme `consuls://`. The agent is always verified."""
    tls_ca: str | None = None
    """The path of the authority to trust; default: those the system trusts."""
    tls_cert: str | None = None
    """The path of the certificate to show to the agent, with `tls_key`."""
    tls_key: str | None = None
    """The path of the key of `tls_cert`."""
    timeout: float = 3.0
    """How long one request may take; one that waits for news has `wait` more."""
    wait: float = 10.0
    """How long one request waits for news: an agent that hangs is noticed after as long."""
    forget_after: float = 60.0
    """After how long Consul takes away a node that does not renew; it counts as gone long before. Consul makes a minute
    of less."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.timeout or not self.wait:
            raise UsageError("timeout and wait are to be more than 0")

    @property
    def address(self) -> str:
        """The settings as a URL without the token."""
        return f"{'consuls' if self.tls else 'consul'}://{self.server}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS; None without TLS."""
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key) if self.tls else None


def read_url(url: str) -> ConsulSettings:
    """The settings that a URL says; a scheme alone, `consul://`, stands for the agent on this machine.

    Raises:
        UsageError: it is no URL of Consul, or it sets what does not exist, or sets it to what cannot be.
    """
    scheme, _, rest = url.partition("://")
    parts = split_url(url if rest else f"{scheme}://127.0.0.1", "Consul", "consul://host:8500", port=PORTS.get(scheme))
    if len(parts.servers) != 1:
        raise UsageError("Consul URL: write one host, that of the agent: what is registered there ends with it")
    settings = parts.settings(ConsulSettings, apart=("server", "token", "tls"))
    if parts.user is not None:
        settings["token"] = parts.user if parts.password is None else parts.password
    return ConsulSettings(server=parts.servers[0], tls=scheme == "consuls", **settings)
