"""How long events are of use, and which come first: kept by brokers that do so, and refused by others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventmicro.broker import Broker, Capabilities
from eventmicro.errors import Unsupported
from eventmicro.plugins import brokers_with
from eventmicro.topic import Topic


def check_keeps(topic: Topic[Any], broker: Broker) -> None:
    """Refuse a topic's `ttl` and `priority`, where the broker does not keep them.

    Raises:
        Unsupported: it does not; it is said which do.
    """
    for refusal in not_kept(topic, broker):
        raise refusal


def not_kept(topic: Topic[Any], broker: Broker) -> Iterator[Unsupported]:
    """Why a broker does not keep what a topic asks for, of each that it does not."""
    needed = Capabilities(ttl=topic.ttl is not None, priority=topic.priority is not None)
    for word in broker.capabilities.missing(needed):
        able = ", ".join(brokers_with(needed)) or "none of the brokers that are installed"
        more = f"; {broker.capabilities.more}" if broker.capabilities.more else ""
        yield Unsupported(
            f"{topic!r} has {word}={getattr(topic, word)!r}, which {broker.url} does not keep: leave it out; able are "
            f"{able}{more}"
        )
