"""Layout: what a subscription needs in RabbitMQ: its queue, exchanges, bindings. Nothing here talks to the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eventmicro.errors import UsageError
from eventmicro_rabbitmq.places import RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.topology import Arguments


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding with all that it needs."""

    exchange: RabbitExchange
    key: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the events of a subject come from, and where they are kept.

    exchange: what they come from.
    queue: the queue as its subscriber describes it; None where it is one of ours.
    bound: how the queue is bound from here.
    """

    subject: str
    exchange: RabbitExchange
    queue: RabbitQueue | None
    bound: tuple[Bound, ...]

    @property
    def exchanges(self) -> tuple[RabbitExchange, ...]:
        """All that have to be there."""
        return tuple({bound.exchange.name: bound.exchange for bound in self.bound}.values())


def layout_of(subject: str, queue: str | None, exchange: RabbitExchange, place: RabbitQueue | None) -> Layout:
    """The layout of a subscription.

    Raises:
        UsageError: the exchange cannot bring the events of this subject to that queue.
    """
    return Layout(subject, exchange, place, tuple(_bound(subject, queue, exchange, place)))


def _bound(subject: str, queue: str | None, exchange: RabbitExchange, place: RabbitQueue | None) -> Iterator[Bound]:
    if exchange.is_default:
        if queue != subject:
            raise UsageError(
                f"subject {subject!r}: the default exchange hands an event to the queue that is named as its subject: "
                f"write queue=RabbitQueue({subject!r})"
            )
        if place is None or place.bind is None:
            return
    if place is None:
        yield Bound(exchange, exchange.key_of(subject), {})
        return
    for binding in place.bindings:
        source = binding.exchange or exchange
        key = source.key_of(subject) if binding.key is None else binding.key
        yield Bound(source, key, dict(binding.arguments))
