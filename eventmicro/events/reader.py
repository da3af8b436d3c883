"""EventReader: an event outside of a handler, out of what came; loaded by those who read some."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import NotReady
from eventmicro.codecs import Body
from eventmicro.events.objects import Objects
from eventmicro.events.settling import Live
from eventmicro.events.subscriber import Apart, Subscriber, Work
from eventmicro.message import Delivery


class EventReader:
    """Decodes the events of one topic, with what their headers say, and their bodies where those are kept apart."""

    def __init__(self, name: str, body: Body, objects: Objects) -> None:
        self._objects = objects
        self._work = Work("reader", name, _nothing, body, None, None, Live(name), objects)
        self._subscriber: Subscriber | None = None

    async def read(self, delivery: Delivery) -> Any:
        """The event.

        Raises:
            DecodeError, UnsupportedMediaType, ContentTooLarge, BodyMissing, TransportError: it cannot be had.
        """
        if self._subscriber is None:
            self._subscriber = Subscriber(self._work, 1)
        while True:
            try:
                return self._subscriber.read(delivery)
            except Apart as apart:
                return self._subscriber.decode_as(await self._objects.fetch(apart.where), apart.form)
            except NotReady as missing:
                await missing.fetch()


async def _nothing(message: Any, context: Any) -> None:
    """The handler of what is only read."""
