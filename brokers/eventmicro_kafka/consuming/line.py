"""Line: the next events of a partition, handed over together; what the consumer does not take is taken back."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any

from eventmicro.broker import Receive
from eventmicro.intake import ReceiveMany
from eventmicro_kafka.consuming.lane import Holder, KafkaDelivery, Lane
from eventmicro_kafka.records import delivery_headers

log = logging.getLogger(__name__)

# How many events are made ready at most before the first of them is handled.
AT_ONCE = 128
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
        many: ReceiveMany | None = getattr(receive, "many", None)  # as `eventmicro.intake` looks for it
        self._receive_many: ReceiveMany = many or (lambda line: receive(line.popleft()))
        self._most = self._size = AT_ONCE if many else 1

    def offer(
        self, lane: Lane, records: Sequence[Any], first: int, most: int, arrived: float | None
    ) -> tuple[int, Awaitable[None] | None]:
        """Hand over the next records of a partition; none of them is finished.

        Args:
            first: the place of the next one among them.
            most: how many there is room for.
            arrived: when they came, where they have waited since.

        Returns:
            How many were taken, and what ends when the consumer has room; None: it has.
        """
        held, self._taken_back = self._holder.held, 0
        offered = self._fill(lane, records[first : first + min(most, self._size)], arrived)
        lane.quiet = True
        try:
            room = self._hand_over(offered)
        finally:
            lane.quiet = False
            self.take_back()
        taken = len(offered) - self._taken_back
        # As many as it took, and more each time: no more are made ready than are likely to be taken.
        self._size = min(2 * self._size, self._most) if taken == len(offered) else max(taken, 1)
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

    def _fill(self, lane: Lane, records: Sequence[Any], arrived: float | None) -> list[KafkaDelivery]:
        subject, repeats = self._subject, lane.repeats
        offered = [
            KafkaDelivery(
                subject,
                record.value or b"",
                delivery_headers(record.headers) if record.headers else None,
                1 + repeats.get(record.offset, 0) if repeats else 1,
                arrived,
                lane,
                record.offset,
                record.key,
            )
            for record in records
        ]
        lane.hand_over_all(offered)
        self._line.extend(offered)
        return offered

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
        log.exception("a consumer of %s raised", self._subject)
        for delivery in deliveries:
            delivery.lane.fail(delivery, AFTER_FAILURE)
