"""Unsettled: what handlers leave to be settled later, by `ack="manual"`, and a warning where that takes long."""

from __future__ import annotations

import asyncio
import logging

from eventmicro.fields import of_event, of_handler
from eventmicro.message import Delivery
from eventmicro.wire import one_line

log = logging.getLogger(__name__)

# How many seconds after its handler has returned an event may be unsettled before it is said.
PATIENCE = 30.0
# From how many on it is looked which of them have lapsed, and come again anyhow.
MANY = 1_000


class Unsettled:
    """The events of one subscriber whose handlers have returned, and that are not settled yet.

    Nothing runs out for them: the adapter extends their leases. One that is forgotten stays with this instance until
    its connection closes and takes a place of `prefetch`, which is said once in the life of the subscriber.

    Args:
        name: the subscriber's.
        patience: after how many seconds it is said.
    """

    __slots__ = ("_many", "_name", "_patience", "_said", "_since", "_timer")

    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._since: dict[int, tuple[float, Delivery]] = {}  # by identity, the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._said = False
        self._many = MANY

    def __len__(self) -> int:
        """How many there are."""
        self._forget_lapsed()
        return len(self._since)

    def add(self, delivery: Delivery) -> None:
        """Its handler has returned and left it unsettled."""
        loop = asyncio.get_running_loop()
        self._since[id(delivery)] = loop.time(), delivery
        if len(self._since) > self._many:
            self._forget_lapsed()
            self._many = max(MANY, 2 * len(self._since))
        if self._timer is None and not self._said:
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

    def _forget_lapsed(self) -> None:
        """What has lapsed comes again, and is settled then."""
        for key in [key for key, (_, delivery) in self._since.items() if delivery.lapsed]:
            del self._since[key]

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._since and not self._said:
            since, delivery = next(iter(self._since.values()))
            if since + self._patience > loop.time():
                self._timer = loop.call_at(since + self._patience, self._look)
                return
            if not delivery.lapsed:
                self._say(delivery)
                return
            self.remove(delivery)

    def _say(self, delivery: Delivery) -> None:
        log.warning(
            "%s: event %s on %s is not settled %g s after its handler has returned, and is held until this service "
            "stops: with ack='manual' await context.ack(), nack() or reject(); further ones are not named",
            self._name,
            one_line(delivery.id),
            one_line(delivery.subject),
            self._patience,
            extra=of_event(of_handler(self._name), delivery),
        )
        self._said = True
