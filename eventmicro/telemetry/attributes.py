"""What spans and measurements say of a message, in the words of OpenTelemetry's semantic conventions."""

from __future__ import annotations

import asyncio

from eventmicro.context import Context, Side
from eventmicro.errors import ServiceError

Attributes = dict[str, str | int]

# What a broker is called by its scheme; what is not here is called by that.
SYSTEMS = {
    "nats": "nats",
    "tls": "nats",
    "jetstream": "nats",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "kafka": "kafka",
    "kafkas": "kafka",
    "kafka+ssl": "kafka",
}
CALLS = (Side.CLIENT, Side.ENDPOINT)
OPERATIONS = {Side.PUBLISHER: ("publish", "send"), Side.SUBSCRIBER: ("process", "process")}


def describe_broker(side: Side, url: str) -> Attributes:
    """What is said on one side of each message: the broker's address, without user and password, and what it is."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("?")[0].partition("/")[0].rpartition("@")[2]
    about: Attributes = {} if side in CALLS else {"messaging.system": SYSTEMS.get(scheme, scheme)}
    return about | ({"server.address": host} if host else {})


def describe(context: Context) -> Attributes:
    """A message, on any side."""
    return _describe_call(context) if context.side in CALLS else _describe_event(context)


def _describe_call(context: Context) -> Attributes:
    """A call, on either side."""
    return {"rpc.system.name": "eventmicro", "rpc.method": f"{context.service}/{context.endpoint}"}


def _describe_event(context: Context) -> Attributes:
    """An event that is published or handled."""
    name, kind = OPERATIONS[context.side]
    about: Attributes = {
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": context.topic,
    }
    if context.side is Side.SUBSCRIBER:
        about["messaging.consumer.group.name"] = f"{context.service}.{context.endpoint}"
        if context.attempt > 1:
            about["eventmicro.attempt"] = context.attempt
    message = getattr(context, "message", None)  # of one that is published
    if named := getattr(message, "id", None) or context.id:
        about["messaging.message.id"] = named
    return about


def describe_end(error: BaseException | None) -> Attributes:
    """What became of it."""
    if error is None:
        return {}
    return {"error.type": str(error.code) if isinstance(error, ServiceError) else type(error).__qualname__}


def status_code(error: BaseException | None) -> str:
    """The code of a call's outcome, as a caller sees it."""
    if error is None:
        return "200"
    if isinstance(error, asyncio.CancelledError):
        return "499"
    return str(error.code) if isinstance(error, ServiceError) else "500"
