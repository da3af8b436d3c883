"""eventmicro over NATS, by nats-py: core NATS, and JetStream where events are kept."""

import importlib
import typing

from eventmicro_nats import sparing  # noqa: F401  before anything of nats-py

# isort: split
from eventmicro_nats.broker import NatsBroker
from eventmicro_nats.settings import JetStreamSettings, NatsSettings

if typing.TYPE_CHECKING:
    from eventmicro_nats.jetstream.broker import JetStreamBroker
    from eventmicro_nats.view import NatsMessage

__all__ = ["JetStreamBroker", "JetStreamSettings", "NatsBroker", "NatsMessage", "NatsSettings"]

# What is done without over core NATS is loaded when somebody asks for it.
_LATER = {"JetStreamBroker": "eventmicro_nats.jetstream.broker", "NatsMessage": "eventmicro_nats.view"}


def __getattr__(name: str) -> typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value
