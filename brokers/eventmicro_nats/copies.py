"""The headers of an event that is published again as it came: with all values of those that repeat."""

from __future__ import annotations

from collections.abc import Mapping

from eventmicro.message import Copy, Message
from eventmicro_nats.connection.headers import is_order, read_pairs, write_headers
from eventmicro_nats.deliveries import NatsDelivery


def written_headers(message: Message, headers: Mapping[str, str]) -> bytes:
    """The lines of a message's headers; of a copy the values that one name has no room for, too.

    Raises:
        UsageError: a name that is none.
    """
    lines = write_headers(headers)
    if isinstance(message, Copy) and isinstance(message.of, NatsDelivery):
        for name, value in _earlier_values(message.of.raw_headers, headers):
            lines = write_headers({name: value}) + lines
    return lines


def _earlier_values(raw: bytes, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Those before the last of their name, the latest first; a name that the copy has otherwise is its own."""
    pairs, last = read_pairs(raw), dict[str, str]()
    earlier = list[tuple[str, str]]()
    for name, value in reversed(pairs):
        if name in last:
            if headers.get(name) == last[name] and not is_order(name):
                earlier.append((name, value))
        else:
            last[name] = value
    return earlier
