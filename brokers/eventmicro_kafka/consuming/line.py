"""Line: the next events of a partition, handed over together; what the consumer does not take is taken back."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable

from eventmicro.broker import Receive
from eventmicro.intake import ReceiveMany, many_of
from eventmicro_kafka.consuming.lane import Holder, KafkaDelivery, Lane

log = logging.getLogger(__name__)

# How many events are made ready at most before the first of them is handled. With what is decoded of them they are gone
# before Python looks for garbage, as it does after 700 objects: each look makes those that it finds alive older, and to
# look through the old ones takes tens of milliseconds.
AT_ONCE = 64
# In how many seconds an event comes again whose consumer raised, which it never should.
AFTER_FAILURE = 1.0


class Line:
    """Events on their way to one consumer; there are some only while it is called.

    They count as handed over, for what the consumer takes may be settled before it returns.

    Args:
        subject: what they are events of.
        receive: what they are handed to: together, where it takes many, else one by one.
        holder: whose they are.
    """

    def __init__(self, subject: str, receive: Receive, holder: Holder) -> None:
        self._subject = subject
        self._receive = receive
        self._holder = holder
        self._line: deque[KafkaDelivery] = deque()
        self._taken_back = 0
        many = many_of(receive)
        self._receive_many: ReceiveMany = many or (lambda line: receive(line.popleft()))
        self._most = AT_ONCE if many else 1
        self.size = self._most
        """How many are to be offered at most: as many as were taken last, and more each time that all were."""

    def offer(self, lane: Lane, offered: list[KafkaDelivery]) -> tuple[int, Awaitable[None] | None]:
        """Hand over the next events of a partition, `size` of them at most.

        Returns:
            How many were taken, and what ends when the consumer has room; None: it has.
        """
        held, self._taken_back = self._holder.held, 0
        lane.hand_over_all(offered)
        self._line.extend(offered)
        lane.quiet = True
        try:
            room = self._hand_over(offered)
        finally:
            lane.tell()
            self.take_back()
        taken = len(offered) - self._taken_back
        self.size = min(2 * self.size, self._most) if taken == len(offered) else max(taken, 1)
        if self._holder.held < held + taken:
            self._holder.settled()
        return taken, room

    def offer_again(self, delivery: KafkaDelivery) -> Awaitable[None] | None:
        """Hand over one that is to be delivered again; what it returns is what ends when the consumer has room."""
        delivery.lane.hand_over(delivery)
        try:
            return self._receive(delivery)
        except Exception:
            self._fail([delivery])
            return None

    def take_back(self) -> None:
        """Have back what the consumer has not taken by now, as if it had not been offered."""
        line = self._line
        if line:
            self._taken_back += len(line)
            line[0].lane.put_back(line)
            line.clear()

    def _hand_over(self, offered: list[KafkaDelivery]) -> Awaitable[None] | None:
        line, room = self._line, None
        try:
            while line and room is None:
                room = self._receive_many(line)
        except Exception:  # nobody knows which of those that it took it has begun with
            taken = offered[: len(offered) - len(line) - self._taken_back]
            if line and not taken:
                taken.append(line.popleft())
            self._fail(taken)
        return room

    def _fail(self, deliveries: list[KafkaDelivery]) -> None:
        log.exception("a consumer of %s raised", self._subject, extra={"subject": self._subject})
        for delivery in deliveries:
            delivery.lane.fail(delivery, AFTER_FAILURE)
