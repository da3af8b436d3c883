"""Needs: the rights without which a subscription cannot be. Nothing here talks to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from eventmicro.broker import Durable
from eventmicro_rabbitmq.layout import Layout
from eventmicro_rabbitmq.places import Declare
from eventmicro_rabbitmq.rights import RIGHTS, Right, rights_to
from eventmicro_rabbitmq.topology import (
    INBOX,
    call_exchange,
    call_queue,
    dead_exchange,
    exchanges_of,
    live_queue,
    retry_queue,
)

Mode = Callable[[Declare], str]
"""What is done about a place: `true`, `check` or `false`."""

# How the queues are named that RabbitMQ names, and the default exchange.
GENERATED, DEFAULT = "amq.gen-", "amq.default"


def needs_of_events(
    layout: Layout, queue: str | None, durable: Durable | None, events: str, mode: Mode
) -> Iterator[Right]:
    """What it takes to get events.

    Args:
        events: the exchange of the settings.
        queue: its queue's name, or that of its group, or none where it is alone.
    """
    is_made = mode(layout.queue.declare if layout.queue is not None else None) == "true"
    for exchange in layout.exchanges:
        if mode(exchange.declare) == "true" and not exchange.is_given:
            yield from rights_to("exchange", exchange.name, "configure")
            if exchange.alternate is not None:
                yield from rights_to("exchange", exchange.name, "read")
                yield from rights_to("exchange", exchange.alternate, "write")
    if layout.bound and (is_made or durable is None):
        for bound in layout.bound:
            yield from rights_to("exchange", bound.exchange.name, "read")
    if durable is None:
        yield from rights_to("queue", _live_queue(layout, queue), *RIGHTS)
        return
    assert queue is not None
    yield from rights_to("queue", queue, *(RIGHTS if is_made else ("read",)))
    if durable.dead_letter is not None:
        yield from rights_to("exchange", events, "write")
    if mode(None) == "true":
        yield from _kept(queue, durable, events)


def _kept(queue: str, durable: Durable, events: str) -> Iterator[Right]:
    """What retries and dead letters take, where that is made."""
    yield from rights_to("exchange", dead_exchange(events), *RIGHTS)
    if durable.dead_letter is not None:
        yield from rights_to("exchange", events, *RIGHTS)
        yield from rights_to("queue", durable.dead_letter, *RIGHTS)
    if not durable.ordered:
        yield from rights_to("queue", retry_queue(queue, 0), *RIGHTS)
        yield from rights_to("exchange", DEFAULT, "write")


def _live_queue(layout: Layout, queue: str | None) -> str:
    if layout.queue is not None:
        return layout.queue.name
    return GENERATED if queue is None else live_queue(layout.exchange.name, queue, layout.subject)


def needs_of_calls(subject: str, queue: str | None, events: str, mode: Mode) -> Iterator[Right]:
    """What it takes to get calls, and to answer them; or the answers to one's own."""
    calls = call_exchange(events)
    if mode(None) == "true":
        yield from rights_to("exchange", calls, "configure")
    if subject.startswith(f"{INBOX}."):
        yield from rights_to("exchange", calls, "write")
        return
    name = GENERATED if queue is None else call_queue(subject)
    yield from rights_to("queue", name, *RIGHTS)
    yield from rights_to("exchange", DEFAULT, "write")
    for exchange in exchanges_of(events, subject) if queue is not None else [calls]:
        yield from rights_to("exchange", exchange, "read")
        if mode(None) == "true":
            yield from rights_to("exchange", exchange, "configure")
