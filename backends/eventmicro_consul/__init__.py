"""eventmicro with Consul: a registry, over the HTTP API of an agent."""

from eventmicro_consul.registry import ConsulRegistry
from eventmicro_consul.settings import ConsulSettings

__all__ = ["ConsulRegistry", "ConsulSettings"]
