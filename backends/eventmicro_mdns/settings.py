"""What can be set for a registry over multicast DNS, in code or in its URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from eventmicro.errors import UsageError
from eventmicro.settings import split_url


@dataclass(frozen=True, slots=True)
class MdnsSettings:
    """The settings of a registry over multicast DNS.

    In a URL the interface is the host, and the rest follows behind `?`: `mdns://192.168.1.5?type=_shop._tcp`.
    """

    interface: str = ""
    """The address of the network interface to use; in a URL the host. Empty: that of the system's default route."""
    type: str = "_eventmicro._tcp"
    """The type of service (DNS-SD) under which nodes are announced: others see only those of theirs."""

    def __post_init__(self) -> None:
        try:
            if self.interface:
                ip_address(self.interface)
        except ValueError:
            raise UsageError(
                f"interface={self.interface!r}: write the address of an interface, as 192.168.1.5"
            ) from None
        if re.fullmatch(r"_[a-z0-9-]{1,15}\._(tcp|udp)", self.type) is None:
            raise UsageError(f"type={self.type!r}: write up to 15 small letters, digits and '-', as in _shop._tcp")


def read_url(url: str) -> MdnsSettings:
    """The settings that a URL says.

    Raises:
        UsageError: it says something else.
    """
    _, _, rest = url.partition("://")
    host = not rest or rest.startswith("?")
    parts = split_url(f"mdns://default{rest}" if host else url, "mdns", "mdns:// or mdns://192.168.1.5")
    if len(parts.servers) != 1 or parts.user is not None:
        raise UsageError(f"mdns URL {url!r}: write mdns:// or mdns://192.168.1.5, without a user")
    settings = parts.settings(MdnsSettings, apart=("interface",))
    return MdnsSettings(interface="" if host else parts.servers[0], **settings)
