"""The budget of further attempts: what keeps retries from being most of what a service that fails gets."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

# How many further attempts an endpoint has for a start, and at most at any moment.
RESERVE = 10.0


class Budget:
    """What the calls of one client to one endpoint may spend on further attempts: a part of one for each call.

    Attributes:
        calls: how many were made; whoever makes one counts it here.
        spent: how many further attempts were made.
    """

    __slots__ = ("_counted", "_is_dry", "_tokens", "calls", "endpoint", "spent")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.calls = 0
        self.spent = 0
        self._counted = 0
        self._tokens = RESERVE
        self._is_dry = False

    def take(self, ratio: float | None) -> bool:
        """Whether one more attempt may be made, which is then counted; `ratio`: how much of one each call brings."""
        calls, self._counted = self.calls - self._counted, self.calls
        self._tokens = min(RESERVE, self._tokens + calls * (ratio or 0.0))
        if ratio is not None:
            self._say_dry()
            if self._tokens < 1:
                return False
            self._tokens -= 1
        self.spent += 1
        return True

    def _say_dry(self) -> None:
        """Say it once, until half of it is there again: while a service is away each tenth call brings an attempt."""
        if self._tokens >= RESERVE / 2:
            self._is_dry = False
        elif self._tokens < 1 and not self._is_dry:
            self._is_dry = True
            log.warning("%s fails too often: its retries are used up, and errors are raised", self.endpoint)
