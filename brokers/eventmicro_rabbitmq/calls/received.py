"""What is sent and not kept, as it comes: requests, replies, and what RabbitMQ says of those that nobody takes."""

from __future__ import annotations

from pamqp.commands import Basic

from eventmicro.wire import NO_RESPONDERS, STATUS
from eventmicro_rabbitmq.calls.addresses import reply_of
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.consuming.incoming import read_headers
from eventmicro_rabbitmq.consuming.live import LiveDelivery


def read_request(event: Event) -> LiveDelivery:
    """What came by a queue: on the subject that it was sent to."""
    properties = event.properties
    delivery = LiveDelivery(
        event.routing_key or "", event.body, read_headers(properties, is_call=True), reply_of(properties)
    )
    delivery.event, delivery.tag = event, event.delivery_tag or 0
    return delivery


def read_reply(event: Event) -> LiveDelivery:
    """A direct reply: on the subject that its request named, which it bears as its correlation id."""
    properties = event.properties
    delivery = LiveDelivery(properties.correlation_id or "", event.body, read_headers(properties, is_call=True))
    delivery.event, delivery.tag = event, 0
    return delivery


def read_returned(frame: Basic.Return, properties: Properties) -> LiveDelivery:
    """What nobody has taken, as the answer to it."""
    subject = properties.message_id or properties.correlation_id or ""
    delivery = LiveDelivery(subject, b"", {STATUS: NO_RESPONDERS})
    delivery.event = Event(0, False, frame.exchange or "", frame.routing_key, properties, b"")
    delivery.tag = 0
    return delivery
