"""What spans and measurements say of a message, in the words of OpenTelemetry's semantic conventions."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from eventmicro.context import Context, Side
from eventmicro.errors import ServiceError
from eventmicro.forwarding import CORRELATION_ID
from eventmicro.middlewares.watched import GIVEN_UP
from eventmicro.wire import header

log = logging.getLogger(__name__)

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
# What stands for values of which there are too many to be told apart.
OTHER = "_OTHER"
# What only some brokers have, by their name here: the attribute of a message's key, and of its subject.
KEYS = {"kafka": "messaging.kafka.message.key"}
ROUTING_KEYS = {"rabbitmq": "messaging.rabbitmq.destination.routing_key"}
OPERATIONS = {Side.PUBLISHER: ("publish", "send"), Side.SUBSCRIBER: ("process", "process")}


def describe_broker(side: Side, url: str) -> Attributes:
    """What is said on one side of each message: where the broker is, without user and password, and what it is."""
    scheme, _, rest = url.partition("://")
    about: Attributes = {} if side in CALLS else {"messaging.system": SYSTEMS.get(scheme, scheme)}
    first = urlsplit(f"//{rest.partition(',')[0]}")  # of several servers
    if first.hostname:
        about["server.address"] = first.hostname
    try:
        port = first.port
    except ValueError:  # what a name in memory has in its place
        port = None
    return about if port is None else about | {"server.port": port}


def describe(context: Context) -> Attributes:
    """A message, on any side."""
    return describe_call(context.service, context.endpoint) if context.side in CALLS else _describe_event(context)


def describe_call(service: str, endpoint: str) -> Attributes:
    """A call, on either side."""
    return {"rpc.system.name": "eventmicro", "rpc.method": f"{service}/{endpoint}"}


def _describe_event(context: Context) -> Attributes:
    """An event that is published or handled."""
    name, kind = OPERATIONS[context.side]
    about: Attributes = {
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": context.topic,
    }
    if context.pattern:
        about["messaging.destination.template"] = context.pattern
    if (course := header(context.metadata, CORRELATION_ID)) is not None:
        about["messaging.message.conversation_id"] = course
    message = getattr(context, "message", None)  # of one that is published
    if context.side is Side.SUBSCRIBER:
        _add_delivery(about, context)
    if named := getattr(message, "id", None) or context.id:
        about["messaging.message.id"] = named
    return about


def _add_delivery(about: Attributes, context: Context) -> None:
    about["messaging.consumer.group.name"] = f"{context.service}.{context.endpoint}"
    if context.attempt > 1:
        about["eventmicro.attempt"] = context.attempt


def describe_place(context: Context, system: object) -> Attributes:
    """What only the broker of an event has words for: its key, its routing key, where it is there."""
    about: Attributes = {}
    if (word := ROUTING_KEYS.get(str(system))) is not None:
        about[word] = context.topic
        if (tag := getattr(context.delivery, "tag", None)) is not None:
            about["messaging.rabbitmq.message.delivery_tag"] = tag
    if (word := KEYS.get(str(system))) is not None:
        of = getattr(context, "message", None) or context.delivery
        if (key := getattr(of, "key", None)) and key == sayable(key):  # one in bytes has no text to be said
            about[word] = key
        about |= _describe_record(context.delivery)
    return about


def _describe_record(delivery: Any) -> Attributes:
    """Where an event is in Kafka, that came from there; of one that was tried before, where it was at first."""
    if (record := getattr(delivery, "record", None)) is None:
        return {}
    partition = getattr(record, "partition", None)
    about: Attributes = {
        "messaging.destination.partition.id": str(delivery.place[1] if partition is None else partition),
        "messaging.kafka.offset": record.offset,
    }
    return about | {"messaging.kafka.message.tombstone": True} if delivery.null else about


def sayable(text: str) -> str:
    """The text as exporters can send it, who lose all that is sent with one that has half of a surrogate pair."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def describe_end(error: BaseException | None) -> Attributes:
    """What became of it."""
    if error is None:
        return {}
    return {"error.type": str(error.code) if isinstance(error, ServiceError) else type(error).__qualname__}


def status_code(error: BaseException | None) -> str:
    """The code of a call's outcome, as a caller sees it."""
    if error is None:
        return "200"
    if isinstance(error, GIVEN_UP):
        return "499"
    return str(error.code) if isinstance(error, ServiceError) else "500"


class Few:
    """The values that are told apart of what peers or ids may make endless: so many, and the rest is one.

    Args:
        what: what they are, for the log, which says once that there are too many.
        most: how many.
    """

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._known: set[object] = set()
        self._said = False

    def knows(self, value: object) -> bool:
        """Whether it is one of those that are told apart."""
        if value in self._known:
            return True
        if len(self._known) < self._most:
            self._known.add(value)
            return True
        if not self._said:
            self._said = True
            log.warning(
                "there are more than %d %s, as where they have ids in them: further ones are not told apart; publish "
                "to a Topic with named tokens, TOPIC.at(...), and they are counted as one",
                self._most,
                self._what,
            )
        return False
