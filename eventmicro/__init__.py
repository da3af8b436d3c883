"""eventmicro: event-driven microservices over NATS, RabbitMQ or Kafka, typed by pydantic or protobuf."""

import importlib
import typing

from eventmicro.client import Client
from eventmicro.cloudevents import CloudEvents
from eventmicro.compression import Compression
from eventmicro.context import Context, Side, current_context
from eventmicro.declare import rpc, subscribe
from eventmicro.errors import (
    Ack,
    AdapterNotFound,
    BadRequest,
    BodyMissing,
    BrokerNotFound,
    CallTimeout,
    CodecError,
    Conflict,
    ConnectionFailed,
    ContentTooLarge,
    DecodeError,
    Disconnected,
    EncodeError,
    EventMicroError,
    Forbidden,
    InternalError,
    MessageTooLarge,
    Missing,
    Nack,
    NotAllPublished,
    NotFound,
    NotStored,
    PeerLost,
    Refused,
    Reject,
    ServiceError,
    Settlement,
    SignatureError,
    StreamBroken,
    StreamCancelled,
    StreamEnded,
    TooManyRequests,
    TooSlow,
    TransportError,
    Unauthorized,
    Unavailable,
    Unconfirmed,
    UnknownOption,
    Unsupported,
    UnsupportedMediaType,
    UsageError,
)
from eventmicro.events.publisher import Publisher
from eventmicro.events.publishing import Publishing
from eventmicro.fields import LogFields
from eventmicro.kinds import TypeHeader
from eventmicro.middleware import Handler, Middleware, sides
from eventmicro.reply import Reply
from eventmicro.retry import CallRetry, Retry
from eventmicro.rpc.calling_all import Answer
from eventmicro.rpc.streams.stream import Stream
from eventmicro.topic import Topic

if typing.TYPE_CHECKING:
    from eventmicro.contracts.contract import Contract
    from eventmicro.events.cloudevents import CloudEvent
    from eventmicro.events.letters import DeadLetter, DeadLetters, LetterFilter
    from eventmicro.events.options import Batch, DeliveryOptions
    from eventmicro.handlers.depends import Depends
    from eventmicro.handlers.publishing import Publish
    from eventmicro.handlers.threads import from_thread
    from eventmicro.memory import MemoryBroker
    from eventmicro.router import Router
    from eventmicro.running.subscribing import RunningSubscriber
    from eventmicro.service import Service
    from eventmicro.sync.client import SyncClient

__all__ = [
    "Ack",
    "AdapterNotFound",
    "Answer",
    "BadRequest",
    "Batch",
    "BodyMissing",
    "BrokerNotFound",
    "CallRetry",
    "CallTimeout",
    "Client",
    "CloudEvent",
    "CloudEvents",
    "CodecError",
    "Compression",
    "Conflict",
    "ConnectionFailed",
    "ContentTooLarge",
    "Context",
    "Contract",
    "DeadLetter",
    "DeadLetters",
    "DecodeError",
    "DeliveryOptions",
    "Depends",
    "Disconnected",
    "EncodeError",
    "EventMicroError",
    "Forbidden",
    "Handler",
    "InternalError",
    "LetterFilter",
    "LogFields",
    "MemoryBroker",
    "MessageTooLarge",
    "Middleware",
    "Missing",
    "Nack",
    "NotAllPublished",
    "NotFound",
    "NotStored",
    "PeerLost",
    "Publish",
    "Publisher",
    "Publishing",
    "Refused",
    "Reject",
    "Reply",
    "Retry",
    "Router",
    "RunningSubscriber",
    "Service",
    "ServiceError",
    "Settlement",
    "Side",
    "SignatureError",
    "Stream",
    "StreamBroken",
    "StreamCancelled",
    "StreamEnded",
    "SyncClient",
    "TooManyRequests",
    "TooSlow",
    "Topic",
    "TransportError",
    "TypeHeader",
    "Unauthorized",
    "Unavailable",
    "Unconfirmed",
    "UnknownOption",
    "Unsupported",
    "UnsupportedMediaType",
    "UsageError",
    "current_context",
    "from_thread",
    "rpc",
    "sides",
    "subscribe",
]

# What clients, and so scripts and the command line, do without is loaded when somebody asks for it.
_LATER = {
    "Batch": "eventmicro.events.options",
    "CloudEvent": "eventmicro.events.cloudevents",
    "Contract": "eventmicro.contracts.contract",
    "DeadLetter": "eventmicro.events.letters",
    "DeadLetters": "eventmicro.events.letters",
    "DeliveryOptions": "eventmicro.events.options",
    "Depends": "eventmicro.handlers.depends",
    "LetterFilter": "eventmicro.events.letters",
    "MemoryBroker": "eventmicro.memory",
    "Publish": "eventmicro.handlers.publishing",
    "Router": "eventmicro.router",
    "RunningSubscriber": "eventmicro.running.subscribing",
    "Service": "eventmicro.service",
    "SyncClient": "eventmicro.sync.client",
    "from_thread": "eventmicro.handlers.threads",
}


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("eventmicro")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value
