"""Delayed: what is to be delivered again later waits on this side until it is due, most of it from the retry topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from eventmicro_kafka.consuming.lane import KafkaDelivery, Lane
from eventmicro_kafka.consuming.retry import Waiting, read_copy
from eventmicro_kafka.settings import KafkaSettings


class Delayed:
    """A queue's events that are not due yet; the broker is to keep them where too many are here.

    Args:
        hold: has the broker keep what is in the retry topic, or no longer.
        ring: is called when one is due.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        queue: str,
        subject: str,
        hold: Callable[[bool], None],
        ring: Callable[[], None],
    ) -> None:
        self.holding = False
        self._queue = queue
        self._subject = subject
        self._waiting = Waiting(settings.retry_messages, settings.retry_bytes)
        self._hold = hold
        self._ring = ring
        self._alarm: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def full(self) -> bool:
        """Whether no more may wait here."""
        return self._waiting.full

    @property
    def next_due(self) -> float | None:
        """When the next one is due, in seconds of `time.time()`."""
        return self._waiting.next_due

    def take_in(self, lane: Lane, records: list[Any]) -> None:
        """Copies have come from the retry topic."""
        for record in records:
            lane.next = record.offset + 1
            if lane.is_finished(record.offset):
                continue
            copy = read_copy(record, lane, self._queue, self._subject)
            if copy is not None:
                lane.wait(record.offset)
                self.add(*copy)
        if self.full:
            self._set_hold(True)

    def add(self, due: float, delivery: KafkaDelivery) -> None:
        """One is to wait until it is due, in seconds of `time.time()`."""
        self._waiting.add(due, delivery)
        if self.next_due == due:
            self._set_alarm()

    def take_due(self) -> KafkaDelivery | None:
        """The next one; None: none is due, and it rings when one is."""
        delivery = self._waiting.take_due()
        if delivery is None:
            self._set_alarm()
        elif self.holding and not self._waiting.crowded:
            self._set_hold(False)
        return delivery

    def drop_gone(self) -> None:
        """Forget those whose partitions are somebody else's."""
        self._waiting.drop_gone()

    def stop(self) -> None:
        """Ring no more."""
        self._stopped = True
        self._cancel_alarm()

    def _set_hold(self, hold: bool) -> None:
        self.holding = hold
        self._hold(hold)

    def _set_alarm(self) -> None:
        self._cancel_alarm()
        if self.next_due is not None and not self._stopped:
            delay = max(0.0, self.next_due - time.time())
            self._alarm = asyncio.get_running_loop().call_later(delay, self._ring)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
