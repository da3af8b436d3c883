"""eventmicro over NATS, by nats-py."""

from eventmicro_nats.broker import NatsBroker
from eventmicro_nats.settings import NatsSettings

__all__ = ["NatsBroker", "NatsSettings"]
