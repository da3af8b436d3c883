"""Intake: what a live subscription takes in; what waits for its consumer is bounded, and beyond that dropped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import cached_property

from eventmicro.broker import Receive
from eventmicro.intake import Intake as Unbounded
from eventmicro.message import Delivery


class Intake(Unbounded[Delivery]):
    """One subscription's messages on their way in.

    Args:
        receive: what they are handed to.
        drop: what is called for each that is dropped, because too many wait.
        messages, size: how many may wait, and how many bytes.
    """

    def __init__(self, receive: Receive, drop: Callable[[], None], messages: int, size: int) -> None:
        super().__init__(receive)
        self._drop = drop
        self._room_for_messages = messages
        self._room_for_bytes = size
        self._bytes = 0

    @cached_property
    def _sizes(self) -> deque[int]:
        """Those of what waits."""
        return deque()

    def give_back(self) -> list[Delivery]:
        """Hand over no more; return what waits. What still comes is dropped."""
        waiting = self.take_back()
        self.close()
        return waiting

    def _keep(self, first: int) -> None:
        while len(self._sizes) > first:  # so many have been handed over since
            self._bytes -= self._sizes.popleft()
        line, now = self._waiting, time.monotonic()
        came = [line.pop() for _ in range(len(line) - first)]
        for delivery in reversed(came):
            size = len(delivery.body) + sum(len(k) + len(v) for k, v in (delivery.headers or {}).items())
            if len(line) >= self._room_for_messages or self._bytes + size > self._room_for_bytes:
                self._drop()
                continue
            delivery.arrived = now
            line.append(delivery)
            self._sizes.append(size)
            self._bytes += size
