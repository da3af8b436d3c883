"""Who is there, over NATS: in a bucket of JetStream, or where there is no JetStream, by asking who is there."""

from eventmicro_nats.registry.registry import NatsRegistry

__all__ = ["NatsRegistry"]
