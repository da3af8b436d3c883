"""Events that are too large for their broker: their bodies go into its object store, and come out of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

from eventmicro.broker import Broker, Capabilities, StoresObjects
from eventmicro.errors import BodyMissing, ContentTooLarge, Unsupported
from eventmicro.large import digest_of, read_stored, too_large, write_stored
from eventmicro.message import Bounded, Message
from eventmicro.plugins import brokers_with
from eventmicro.wire import LARGE


@dataclass(slots=True)
class LargeMessage(Bounded):
    """An event whose body may be kept apart, where it is too large for the broker."""


class Objects:
    """The object store of one broker, for its events.

    Args:
        max_large: how large a body may be that is fetched, in bytes.
    """

    def __init__(self, broker: Broker, max_large: int) -> None:
        self._broker = broker
        self._max_large = max_large

    async def fetch(self, text: str) -> bytes:
        """The body of which a header tells.

        Raises:
            BodyMissing: it is not there any more, or is not what was stored, or there is no object store here.
            ContentTooLarge: it is larger than is taken here.
            TransportError, UsageError: it could not be read now, for a reason that may pass.
        """
        stored = read_stored(text)
        if stored.size > self._max_large:
            raise ContentTooLarge(too_large("its body", stored.size, self._max_large))
        if not self._broker.capabilities.objects:
            raise BodyMissing(f"without its body, which is in an object store, and {self._broker.url} has none")
        body = await cast("StoresObjects", self._broker).fetch_object(stored)
        if len(body) != stored.size or await digest_of(body) != stored.digest:
            raise BodyMissing("without its body: what is in the object store is not what was put there")
        return body


def check_stores_objects(broker: Broker) -> None:
    """Refuse a broker that keeps no bodies apart.

    Raises:
        Unsupported: it does not; it is said which do.
    """
    if not broker.capabilities.objects:
        able = ", ".join(brokers_with(Capabilities(objects=True))) or "none of the brokers that are installed"
        more = f"; {broker.capabilities.more}" if broker.capabilities.more else ""
        raise Unsupported(f"large='object' needs a broker with an object store (objects); able are {able}{more}")


async def store(broker: Broker, message: Message, timeout: float) -> tuple[Message, float]:
    """Store the body of an event; the event that refers to it, and how many of the seconds are left.

    Raises:
        Disconnected, Unconfirmed, NotStored: as of `StoresObjects.store_object`.
    """
    started = time.monotonic()
    digest = await digest_of(message.body)
    stored = await cast("StoresObjects", broker).store_object(message.body, digest, timeout=timeout)
    event = Bounded(message.subject, b"", {**(message.headers or {}), LARGE: write_stored(stored)})
    if isinstance(message, Bounded):
        event.ttl, event.priority = message.ttl, message.priority
    event.key, event.id, event.content_type = message.key, message.id, message.content_type
    return event, timeout - (time.monotonic() - started)
