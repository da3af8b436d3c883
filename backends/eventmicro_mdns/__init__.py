"""eventmicro with multicast DNS: a registry for one network, with no server and nothing to set up."""

from eventmicro_mdns.registry import MdnsRegistry
from eventmicro_mdns.settings import MdnsSettings

__all__ = ["MdnsRegistry", "MdnsSettings"]
