"""eventmicro: event-driven microservices over NATS, RabbitMQ or Kafka, typed by pydantic or protobuf."""

from eventmicro.client import Client
from eventmicro.context import Context, Side, current_context
from eventmicro.declare import rpc, subscribe
from eventmicro.errors import (
    Ack,
    AdapterNotFound,
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
    Nack,
    NotAllPublished,
    NotFound,
    NotStored,
    Reject,
    ServiceError,
    Settlement,
    SignatureError,
    TooManyRequests,
    TransportError,
    Unauthorized,
    Unavailable,
    Unconfirmed,
    Unsupported,
    UnsupportedMediaType,
    UsageError,
)
from eventmicro.events.options import Batch, DeliveryOptions
from eventmicro.events.publisher import Publisher
from eventmicro.events.publishing import Publishing
from eventmicro.handlers.depends import Depends
from eventmicro.memory import MemoryBroker
from eventmicro.middleware import Handler, Middleware, sides
from eventmicro.retry import Retry
from eventmicro.service import Service
from eventmicro.topic import Topic

__all__ = [
    "Ack",
    "AdapterNotFound",
    "BadRequest",
    "Batch",
    "BrokerNotFound",
    "CallTimeout",
    "Client",
    "CodecError",
    "Conflict",
    "ConnectionFailed",
    "Context",
    "DecodeError",
    "DeliveryOptions",
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
    "Nack",
    "NotAllPublished",
    "NotFound",
    "NotStored",
    "Publisher",
    "Publishing",
    "Reject",
    "Retry",
    "Service",
    "ServiceError",
    "Settlement",
    "Side",
    "SignatureError",
    "TooManyRequests",
    "Topic",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "Unconfirmed",
    "Unsupported",
    "UnsupportedMediaType",
    "UsageError",
    "current_context",
    "rpc",
    "sides",
    "subscribe",
]
