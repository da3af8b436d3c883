"""Telling: where a subscription's messages come from and are kept, in the words of AsyncAPI's bindings for AMQP."""

from __future__ import annotations

from typing import Any

from eventmicro.broker import Bindings, Durable, QueueState
from eventmicro_rabbitmq.layout import Bound, Layout
from eventmicro_rabbitmq.places import RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.topology import Arguments, call_exchange, call_queue, queue_arguments

VERSION = "0.3.0"
# The types of exchanges that AsyncAPI knows, but for the default one, which it calls so.
TYPES = ("topic", "direct", "fanout", "headers")

Part = dict[str, Any]


def events_told(layout: Layout, events: str, queue: str | None, durable: Durable | None, vhost: str) -> Bindings:
    """How the events of a subscription are to be published, and how its queue is bound.

    Args:
        events: the exchange of the settings.
    """
    exchange, place = layout.exchange, layout.queue
    channel = {"is": "routingKey", "exchange": _exchange(exchange, vhost)}
    if exchange.is_default:
        channel = {"is": "queue", "queue": _queue(place or RabbitQueue(layout.subject), {}, vhost)}
    operation: Part = {"ack": True}
    if place is not None:
        operation["x-queue"] = _queue(place, place.said, vhost)
    elif durable is not None and queue is not None:
        arguments = queue_arguments(events, queue, ordered=durable.ordered)
        operation["x-queue"] = _queue(RabbitQueue(queue), arguments, vhost)
    operation["x-bindings"] = [_bound(each, vhost) for each in layout.bound]
    return _bindings(exchange.name, channel, operation)


def calls_told(events: str, subject: str, vhost: str) -> Bindings:
    """How an endpoint is called: by its queue, or by the exchange for calls."""
    exchange = RabbitExchange(call_exchange(events))
    queue = {"name": call_queue(subject), "durable": True, "exclusive": False, "autoDelete": True, "vhost": vhost}
    bound = _bound(Bound(exchange, subject, {}), vhost)
    return _bindings(exchange.name, {"is": "queue", "queue": queue}, {"ack": True, "x-bindings": [bound]})


def unbound(events: str, state: QueueState) -> str:
    """What is to be done so that calls get to a queue that is there."""
    name, exchange = state.queue, call_exchange(events)
    consumers = "a consumer" if state.consumers == 1 else f"{state.consumers} consumers"
    return (
        f"the queue {name!r} is there, with {consumers}, and no call gets to it: bind it to the exchange {exchange!r}, "
        f"by its name, as by `rabbitmqadmin declare binding source={exchange} destination={name} routing_key={name}`"
    )


def _bindings(exchange: str, channel: Part, operation: Part) -> Bindings:
    version = {"bindingVersion": VERSION}
    said = {word: value for word, value in operation.items() if value != []}
    return Bindings(exchange, {"amqp": channel | version}, {"amqp": said | version})


def _exchange(exchange: RabbitExchange, vhost: str) -> Part:
    kind = "type" if exchange.kind in TYPES else "x-type"
    durable = exchange.durable and not exchange.is_default
    told: Part = {"name": exchange.name, kind: exchange.kind, "durable": durable, "autoDelete": exchange.auto_delete}
    return told | {"vhost": vhost}


def _queue(place: RabbitQueue, arguments: Arguments, vhost: str) -> Part:
    told: Part = {"name": place.name, "durable": place.durable, "exclusive": place.exclusive}
    told |= {"autoDelete": place.auto_delete, "vhost": vhost}
    return told | ({"arguments": arguments} if arguments else {})


def _bound(bound: Bound, vhost: str) -> Part:
    told: Part = {"exchange": _exchange(bound.exchange, vhost), "routingKey": bound.key}
    return told | ({"arguments": bound.arguments} if bound.arguments else {})
