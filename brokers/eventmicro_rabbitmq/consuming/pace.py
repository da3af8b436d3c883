"""Pace: how fast events are handled, and so how many an instance may hold before RabbitMQ takes them back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from math import inf

# How RabbitMQ says how long a consumer may have an event, where it was too long.
TIMED_OUT = re.compile(r"acknowledgement.* timed out\D*(\d+) ms")
# In which part of that time an event is to be begun.
BEGUN_WITHIN = 0.5
# How long a handler may take of which nothing is known yet, in seconds: so few are held at first.
SLOW = 120.0
# How many of them a measurement takes, and after which part of the time one is made of fewer.
MEASURED = 10
SHORT = 0.1
# How often is looked, as a part of the time, and at most and at least, in seconds.
OFTEN, SELDOM, SOON = 0.05, 10.0, 0.05


class Pace:
    """Says how many events may be held. It is asked now and then, and costs nothing per event.

    Args:
        most: how many may be held at most.
        timeout: after how many seconds RabbitMQ takes an event back, as far as is known.
        grows: whether it begins with few. What is held once is not given back: RabbitMQ would count that, and the next
            instance might do the same.

    learnt: is set when it is another time, so that it is to be asked soon.
    """

    def __init__(self, most: int, timeout: float, *, grows: bool = True) -> None:
        self.held = max(1, min(most, int(timeout * BEGUN_WITHIN / SLOW))) if grows else most
        self.learnt = asyncio.Event()
        self._most = most
        self._timeout = timeout
        self._rate = inf  # events a second
        self._at_least = 0.0  # the same, as the first of a measurement may have been almost done when it began
        self._began: float | None = None
        self._settled = 0

    @property
    def interval(self) -> float:
        """After how many seconds it is to be asked again."""
        return max(SOON, min(SELDOM, self._within * OFTEN))

    def learn(self, why: str) -> bool:
        """RabbitMQ has ended the consumer; whether that is because it was too slow, and then it says for what."""
        self._began = None
        if (said := TIMED_OUT.search(why)) is not None:
            self._timeout = min(self._timeout, int(said[1]) / 1000)
            self.held = self._may_hold()
            self.learnt.set()
        return said is not None

    def measure(self, now: float, settled: int, *, busy: bool) -> None:
        """How many have been settled by now, in all; where more could be handled than there are that says nothing."""
        if not busy or self._began is None:
            self._began, self._settled = (now if busy else None), settled
            return
        elapsed, count = now - self._began, settled - self._settled
        if count >= MEASURED or (count and elapsed >= SHORT * self._within):
            self._rate = count / elapsed if elapsed > 0 else inf
            self._at_least = (count - 1) / elapsed if elapsed > 0 else 0.0
        elif elapsed >= SHORT * self._within:
            self._rate = min(self._rate, 1 / elapsed)  # or less
            self._at_least = 0.0
        if count >= MEASURED or elapsed >= self._within:
            self._began, self._settled = now, settled

    def in_time(self, waited: Sequence[float]) -> int:
        """How many of those that wait, and have waited for so long, will be begun in time."""
        late = (n for n, age in enumerate(waited) if age + (n + 1) / self._rate > self._within)
        return next(late, len(waited))

    def slow_down(self, held: int) -> None:
        """Hold no more than these."""
        self.held = max(1, min(held, self.held))
        self._began = None

    def hold_all(self) -> None:
        """Hold as many as may be from the beginning on, where a further consumer would get nothing."""
        self.held = self._most

    def may_grow(self, *, all_begun: bool) -> bool:
        """Whether so many more may be held that it is worth it; they then are.

        Args:
            all_begun: whether all that may be held came, and none of them waits.
        """
        worth_it = min(2 * self.held, self._most)
        more = max(worth_it if all_begun else 1, self._may_hold())
        if self.held < worth_it <= more:
            self.held = more
            return True
        return False

    @property
    def _within(self) -> float:
        return self._timeout * BEGUN_WITHIN

    def _may_hold(self) -> int:
        return max(1, int(min(self._most, self._at_least * self._within)))
