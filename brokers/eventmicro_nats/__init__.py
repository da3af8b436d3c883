"""eventmicro over NATS, by nats-py: core NATS, and JetStream where events are kept."""

from eventmicro_nats.broker import NatsBroker
from eventmicro_nats.jetstream.broker import JetStreamBroker
from eventmicro_nats.settings import JetStreamSettings, NatsSettings
from eventmicro_nats.view import NatsMessage

__all__ = ["JetStreamBroker", "JetStreamSettings", "NatsBroker", "NatsMessage", "NatsSettings"]
