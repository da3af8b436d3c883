"""Priorities: what is held comes before them; RabbitMQ 4 serves those of 5 and more first, out of an order."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from eventmicro_rabbitmq.connection.event import Event

log = logging.getLogger(__name__)

# From this priority on an event comes before others, and from this version on.
FIRST, SERVES_FIRST = 5, 4


def say_held_first(queue: str, prefetch: int) -> None:
    """Say of a queue with priorities that what an instance holds comes before all that waits, however urgent."""
    if prefetch > 1:
        log.info(
            "queue %s has priorities, and an instance holds up to prefetch=%d events, which come before what is more "
            "urgent and published later: set prefetch to as few as are handled at the same time",
            queue,
            prefetch,
            extra={"queue": queue},
        )


class Priorities:
    """Says once what priorities do to an ordered queue."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._said_at_start = False
        self._met = False

    def begin(self, major: int) -> None:
        """The server is of this version."""
        if major >= SERVES_FIRST and not self._said_at_start:
            self._said_at_start = True
            log.info(
                "queue %s is ordered: RabbitMQ %d would serve events with a priority of %d or more first: publish to "
                "it without priorities",
                self._queue,
                major,
                FIRST,
                extra={"queue": self._queue},
            )

    def look_at(self, events: Iterable[Event], major: int) -> None:
        """Warn of the first of such events."""
        if self._met:
            return
        for event in events:
            if (event.properties.priority or 0) >= FIRST:
                self._met = True
                what = "comes before others" if major >= SERVES_FIRST else "would come before others on RabbitMQ 4"
                log.warning(
                    "queue %s is ordered, and an event on %s has priority %d, by which it %s: publish to it without "
                    "priorities",
                    self._queue,
                    event.routing_key,
                    event.properties.priority,
                    what,
                    extra={"queue": self._queue},
                )
                return
