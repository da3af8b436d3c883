"""eventmicro: event-driven microservices over NATS, RabbitMQ or Kafka, typed by pydantic or protobuf."""

from eventmicro.client import Client, Publisher
from eventmicro.context import Context, Side, current_context
from eventmicro.declare import rpc, subscribe
from eventmicro.depends import Depends
from eventmicro.errors import (
    BadRequest,
    BrokerNotFound,
    CallTimeout,
    CodecError,
    Conflict,
    ConnectionFailed,
    DecodeError,
    Disconnected,
    EncodeError,
    EventMicroError,
    Forbidden,
    InternalError,
    MessageTooLarge,
    NotFound,
    ServiceError,
    SignatureError,
    TooManyRequests,
    TransportError,
    Unauthorized,
    Unavailable,
    Unsupported,
    UnsupportedMediaType,
    UsageError,
)
from eventmicro.memory import MemoryBroker
from eventmicro.middleware import Handler, Middleware, sides
from eventmicro.service import Service
from eventmicro.topic import Topic

__all__ = [
    "BadRequest",
    "BrokerNotFound",
    "CallTimeout",
    "Client",
    "CodecError",
    "Conflict",
    "ConnectionFailed",
    "Context",
    "DecodeError",
    "Depends",
    "Disconnected",
    "EncodeError",
    "EventMicroError",
    "Forbidden",
    "Handler",
    "InternalError",
    "MemoryBroker",
    "MessageTooLarge",
    "Middleware",
    "NotFound",
    "Publisher",
    "Service",
    "ServiceError",
    "Side",
    "SignatureError",
    "TooManyRequests",
    "Topic",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "Unsupported",
    "UnsupportedMediaType",
    "UsageError",
    "current_context",
    "rpc",
    "sides",
    "subscribe",
]
