"""The exchange of `eventmicro publish` and `subscribe`, on a broker that has several, as RabbitMQ."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eventmicro.broker import Broker
from eventmicro.errors import UsageError
from eventmicro.places import Exchange
from eventmicro.topic import Topic

ExchangeName = Annotated[
    str | None,
    typer.Option(
        "--exchange",
        metavar="NAME",
        help="RabbitMQ: the exchange, one that is there. Default: that of the broker's settings.",
        show_default=False,
    ),
]
ExchangeType = Annotated[
    str | None,
    typer.Option(
        "--exchange-type",
        metavar="TYPE",
        help="Of which type that is, such as fanout or direct. Default: topic.",
        show_default=False,
    ),
]


def read_exchange(broker: Broker, name: str | None, kind: str | None, *, checked: bool) -> dict[str, Exchange]:
    """The exchange that is named, as the word for it that `Broker.subscribe` takes; empty where none is.

    Args:
        checked: whether its type is to be what is said; else it has only to be there.

    Raises:
        UsageError: the broker has no exchanges, or none can be named so.
    """
    if name is None:
        if kind is not None:
            raise UsageError("--exchange-type is that of --exchange: name the exchange, too")
        return {}
    known: tuple[type[Any], ...] = getattr(broker, "places", ())
    made = next((each for each in known if issubclass(each, Exchange)), None)
    if made is None:
        raise UsageError(f"--exchange: {broker.url} has no exchanges: leave it out, or name another broker")
    return {"exchange": made.of_others(name, kind, checked=checked or kind is not None)}


def topic_on(subject: str, exchange: dict[str, Exchange]) -> Topic[Any] | str:
    """What to publish to: a subject, on an exchange if one is named."""
    return Topic(subject, Any, exchange=exchange["exchange"]) if exchange else subject
