"""RabbitMessage: what RabbitMQ knows of a message that is being handled, in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro.message import Delivery
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery
from eventmicro_rabbitmq.consuming.live import LiveDelivery


@dataclass(frozen=True, slots=True)
class RabbitMessage:
    """An event or a request as RabbitMQ has delivered it; what its publisher has not said is None.

    A handler has it by its parameter: `message: Annotated[RabbitMessage, Depends(RabbitMessage.of)]`.
    """

    exchange: str
    """Where it was published; empty: to its queue itself, as what waited for its next attempt."""
    routing_key: str
    delivery_tag: int
    """Its number on the channel; it is not to be settled by that, but by what the handler does."""
    redelivered: bool
    content_type: str | None
    content_encoding: str | None
    delivery_mode: int | None
    """1: not kept over a restart of RabbitMQ; 2: kept, where its queue is."""
    priority: int | None
    correlation_id: str | None
    reply_to: str | None
    expiration: str | None
    """After how many milliseconds it was to be dropped, as text."""
    message_id: str | None
    """Its name; where its publisher gave it none, one that is made of what it is."""
    timestamp: datetime | None
    """When it was published, as its publisher says, to the second."""
    type: str | None
    user_id: str | None
    app_id: str | None
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """In their types: text, numbers, bytes, lists, tables; those, too, that `Context.metadata` leaves out."""

    @classmethod
    def of(cls, context: Context) -> RabbitMessage:
        """What is known of the message that is being handled.

        Raises:
            UsageError: there is none, there are several, or it came over another broker.
        """
        messages = cls.all_of(context)
        if len(messages) != 1:
            raise UsageError(f"there are {len(messages)} messages here: a batch has RabbitMessage.all_of(context)")
        return messages[0]

    @classmethod
    def all_of(cls, context: Context) -> list[RabbitMessage]:
        """The same for each message of a batch, in their order.

        Raises:
            UsageError: there is none, or one came over another broker.
        """
        found = getattr(context, "delivery", None) or getattr(context, "came", None)
        if found is None:
            raise UsageError("RabbitMessage: there is no message here, as nothing came: this is the side that sends")
        return [_read(delivery) for delivery in (found if isinstance(found, list) else [found])]

    def values(self, name: str) -> list[Any]:
        """All values of a header, whatever the case of its name: those of a list, or of each that is called so."""
        found = [value for other, value in self.headers.items() if other.lower() == name.lower()]
        return [each for value in found for each in (value if isinstance(value, list) else [value])]


def _read(delivery: Delivery) -> RabbitMessage:
    if isinstance(delivery, RabbitDelivery):
        return _message(delivery.event, delivery.properties)
    if isinstance(delivery, LiveDelivery):
        return _message(delivery.event, delivery.event.properties)
    kind = type(delivery)
    raise UsageError(
        f"RabbitMessage is for what comes over RabbitMQ: {delivery.subject!r} came over another broker, as a "
        f"{kind.__module__}.{kind.__qualname__}"
    )


def _message(event: Any, properties: Properties) -> RabbitMessage:
    said: Event = event
    return RabbitMessage(
        exchange=said.exchange or "",
        routing_key=said.routing_key or "",
        delivery_tag=said.delivery_tag or 0,
        redelivered=bool(said.redelivered),
        content_type=properties.content_type or None,
        content_encoding=properties.content_encoding or None,
        delivery_mode=properties.delivery_mode,
        priority=properties.priority,
        correlation_id=properties.correlation_id or None,
        reply_to=properties.reply_to or None,
        expiration=properties.expiration or None,
        message_id=properties.message_id or None,
        timestamp=properties.timestamp,
        type=properties.message_type or None,
        user_id=properties.user_id or None,
        app_id=properties.app_id or None,
        headers=dict(properties.headers or {}),
    )
