"""A circuit: closed while calls go well, open for a while when too many have failed, then half open for some probes."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from threading import RLock
from typing import NamedTuple

from eventmicro.errors import Unavailable
from eventmicro.middlewares.window import Window


class State(StrEnum):
    """What a circuit lets through."""

    CLOSED = "closed"  # all
    OPEN = "open"  # nothing
    HALF_OPEN = "half-open"  # some probes, by which it is seen whether to close or to open


class Rules(NamedTuple):
    """When circuits open and close; see `CircuitBreaker` for the words."""

    threshold: float
    minimum: int
    window: float
    open_for: float
    probes: int


class Circuit:
    """What is known of one endpoint, or of one node.

    Attributes:
        name: `service.endpoint`, or `service`.
        node: the id of the node; empty where it is about an endpoint.
        state: what it lets through.
        era: how often that has changed; the outcome of a call counts only in the era in which it began.
    """

    __slots__ = (
        "_admitted",
        "_changed",
        "_changing",
        "_passed",
        "_rules",
        "_until",
        "_window",
        "era",
        "name",
        "node",
        "state",
    )

    def __init__(self, name: str, node: str, rules: Rules, changed: Callable[[Circuit], None]) -> None:
        self.name = name
        self.node = node
        self.state = State.CLOSED
        self.era = 0
        self._rules = rules
        self._changed = changed
        self._changing = RLock()  # not around counting while it is closed; a stream that is nobody's may end within it
        self._window = Window(rules.window)
        self._until = 0.0
        self._admitted = self._passed = 0

    def __repr__(self) -> str:
        node = self.node and f" node {self.node}"
        return f"<Circuit {self.name}{node}: {self.state}, {self.failures} of {self.calls} calls failed>"

    @property
    def calls(self) -> int:
        """How many calls have ended within the window."""
        return sum(self._window.counts())

    @property
    def failures(self) -> int:
        """How many of them have failed."""
        return self._window.counts()[1]

    def admits(self) -> bool:
        """Whether a call may be made now."""
        if self.state is State.OPEN:
            return time.monotonic() >= self._until
        if self.state is State.CLOSED or self._admitted < self._rules.probes:
            return True
        return time.monotonic() >= self._until  # the probes take long, or for ever: others may be quicker

    def enter(self) -> int:
        """A call is made: the era in which it begins.

        Raises:
            Unavailable: it may not be made now.
        """
        with self._changing:
            if not self.admits():
                raise self._refusal()
            if is_first := self.state is State.OPEN:
                self._become(State.HALF_OPEN)
            if self.state is State.HALF_OPEN:
                self._until = time.monotonic() + self._rules.open_for
                self._admitted = min(self._admitted, self._rules.probes - 1) + 1
            era = self.era
        if is_first:
            self._changed(self)
        return era

    def succeeded(self, era: int) -> None:
        """A call that began in this era has gone well."""
        if era != self.era:
            return
        if self.state is State.CLOSED:
            self._window.succeeded()
            return
        with self._changing:
            if era != self.era:
                return
            self._passed += 1
            if self._passed < self._rules.probes:
                return
            self._window.clear()
            self._become(State.CLOSED)
        self._changed(self)

    def failed(self, era: int) -> None:
        """A call that began in this era has failed."""
        if era != self.era:
            return
        self._window.failed()
        if self.state is State.CLOSED and not self._is_too_much():
            return
        with self._changing:
            if era != self.era:
                return
            self._until = time.monotonic() + self._rules.open_for
            self._become(State.OPEN)
        self._changed(self)

    def left(self, era: int) -> None:
        """A call that began in this era has ended, and nothing is known of how: another one may probe."""
        if era != self.era or self.state is not State.HALF_OPEN:
            return
        with self._changing:
            if era == self.era:
                self._admitted = max(0, self._admitted - 1)

    def _is_too_much(self) -> bool:
        well, failed = self._window.counts()
        return well + failed >= self._rules.minimum and failed >= self._rules.threshold * (well + failed)

    def _become(self, state: State) -> None:
        self.state = state
        self.era += 1
        self._admitted = self._passed = 0

    def _refusal(self) -> Unavailable:
        left = self._until - time.monotonic()
        until = f"for another {left:.3g} s" if left > 0 else "until those that probe it have ended"
        return Unavailable(
            f"{self.name} was not called: too many calls to it have failed, and it is called no more {until}",
            id=self.name,
            retry_after=round(left, 3) if left > 0 else None,
        )
