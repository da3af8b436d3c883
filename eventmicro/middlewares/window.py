"""A rolling window: how many have gone well and how many have failed in the last seconds, a tenth of it at a time."""

from __future__ import annotations

import time
from collections import deque

PARTS = 10


class Window:
    """Counts of the last `seconds`; what is older is forgotten by tenths of that."""

    __slots__ = ("_now", "_part", "_parts", "_until")

    def __init__(self, seconds: float) -> None:
        self._part = seconds / PARTS
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._now = [0, 0]
        self._parts = deque([self._now], PARTS)
        self._until = time.monotonic() + self._part

    def succeeded(self) -> None:
        """One has gone well."""
        now = time.monotonic()
        if now >= self._until:
            self._go_on(now)
        self._now[0] += 1

    def failed(self) -> None:
        """One has failed."""
        now = time.monotonic()
        if now >= self._until:
            self._go_on(now)
        self._now[1] += 1

    def counts(self) -> tuple[int, int]:
        """How many have gone well, and how many have failed."""
        now = time.monotonic()
        if now >= self._until:
            self._go_on(now)
        parts = list(self._parts)  # in one step, as other threads may go on meanwhile
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    def _go_on(self, now: float) -> None:
        behind = int((now - self._until) / self._part) + 1
        for _ in range(min(behind, PARTS)):
            self._parts.append([0, 0])
        self._now = self._parts[-1]
        self._until += behind * self._part
