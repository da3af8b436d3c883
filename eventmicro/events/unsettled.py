"""Unsettled: what handlers leave to be settled later, by `ack="manual"`, and a warning where that takes long."""

from __future__ import annotations

import asyncio
import logging

from eventmicro.fields import of_event, of_handler
from eventmicro.message import Delivery

log = logging.getLogger(__name__)

# How many seconds after its handler has returned an event may be unsettled before it is said.
PATIENCE = 30.0


class Unsettled:
    """The events of one subscriber whose handlers have returned, and that are not settled yet.

    Nothing runs out for them: the adapter extends their leases. One that is forgotten stays with this instance until
    its connection closes and takes a place of `prefetch`, which is said once in the life of the subscriber.

    Args:
        name: the subscriber's.
        patience: after how many seconds it is said.
    """

    __slots__ = ("_name", "_patience", "_said", "_since", "_timer")

    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._since: dict[int, tuple[float, Delivery]] = {}  # by identity, the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._said = False

    def add(self, delivery: Delivery) -> None:
        """Its handler has returned and left it unsettled."""
        if self._said:
            return
        loop = asyncio.get_running_loop()
        self._since[id(delivery)] = loop.time(), delivery
        if self._timer is None:
            self._timer = loop.call_later(self._patience, self._look)

    def remove(self, delivery: Delivery) -> None:
        """It is settled."""
        self._since.pop(id(delivery), None)

    def close(self) -> None:
        """Watch no more: the service stops."""
        self._said = True
        self._since.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._since:
            since, delivery = next(iter(self._since.values()))
            if since + self._patience > loop.time():
                self._timer = loop.call_at(since + self._patience, self._look)
                return
            self.remove(delivery)
            if not delivery.lapsed:
                self._say(delivery)

    def _say(self, delivery: Delivery) -> None:
        log.warning(
            "%s: event %s on %s is not settled %g s after its handler has returned, and is held until this service "
            "stops: with ack='manual' await context.ack(), nack() or reject(); further ones are not named",
            self._name,
            delivery.id,
            delivery.subject,
            self._patience,
            extra=of_event(of_handler(self._name), delivery),
        )
        self._said = True
        self._since.clear()
