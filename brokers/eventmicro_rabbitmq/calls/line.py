"""What the subscriptions of calls share: what waits, and what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventmicro.broker import Receive
from eventmicro.intake import Intake
from eventmicro.message import Delivery
from eventmicro_rabbitmq.calls.addresses import reply_of
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.consuming.incoming import read_form

log = logging.getLogger(__name__)


class CallDelivery(Delivery):
    """A request, a reply, or what else is sent and not kept.

    event: how it came.
    """

    __slots__ = ("event",)

    event: Event


def read_call(event: Event) -> CallDelivery:
    """What is sent, as it came."""
    properties = event.properties
    delivery = CallDelivery(event.routing_key or "", event.body, read_form(properties), reply_of(properties))
    delivery.event = event
    return delivery


class Line:
    """What one subscription takes in: up to a limit waits, what comes beyond is dropped.

    Args:
        about: the subscription, for the log.
    """

    def __init__(self, about: str, receive: Receive, limit: int) -> None:
        self.dropped = 0
        self.intake: Intake[Delivery] = Intake(receive)
        self._about = about
        self._limit = limit

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over, in their turn; of those for which there is no room the newest are dropped."""
        room = self._limit - len(self.intake)
        if len(deliveries) > room:
            self._drop(len(deliveries) - room, "it is too slow")
            deliveries = deliveries[:room]
        self.intake.take_all(deliveries)

    def close(self) -> None:
        """Hand nothing over any more."""
        if left := len(self.intake.take_back()):
            self._drop(left, "it is closed")
        self.intake.close()

    def _drop(self, count: int, why: str) -> None:
        if not self.dropped or why == "it is closed":
            log.warning("%s: %s, messages are dropped: %d at first", self._about, why, count)
        self.dropped += count
