"""Telling: where the messages of a service's handlers are, on a broker where their subjects do not say it."""

from __future__ import annotations

from typing import Any

from eventmicro.broker import Bindings, Broker, TellsBindings
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.wire import ENDPOINT_QUEUE


def told_of_events(broker: Broker | None, subscriber: SubscriberDeclaration) -> Bindings | None:
    """Where a subscriber's events are, if its broker has more to say of that than their subject."""
    if not isinstance(broker, TellsBindings):
        return None
    options = subscriber.options
    durable = options.to_durable() if options.is_durable(broker.capabilities) else None
    places: dict[str, Any] = {**options.places()}  # those of this broker's kind: see `Needs`
    return broker.bindings(subscriber.subject, queue=options.queue_name, durable=durable, **places)


def told_of_calls(broker: Broker | None, subject: str) -> Bindings | None:
    """The same of the calls of an endpoint."""
    return broker.bindings(subject, queue=ENDPOINT_QUEUE) if isinstance(broker, TellsBindings) else None
