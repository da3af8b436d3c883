"""Retry: when an event whose handler failed is handled again, and when it is given up."""

from __future__ import annotations

import random
from dataclasses import dataclass

from eventmicro.checks import check_count, check_number, check_seconds
from eventmicro.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and when an event is tried again; the broker counts the attempts and waits, not this process.

    `Retry(attempts=3)`; by default five attempts, 1, 2, 4 and 8 seconds apart.
    """

    attempts: int = 5
    """How many times in all an event is handed to the handler before it is given up; 1: no second try."""
    backoff: float = 1.0
    """How long to wait before the second attempt, in seconds."""
    factor: float = 2.0
    """How many times as long as the one before each further wait is."""
    longest: float = 60.0
    """No wait is longer than this, apart from its jitter, in seconds."""
    jitter: float = 0.1
    """By how much a wait may be longer by chance, as a share of it, so that what failed together does not come
    together."""
    on: type[Exception] | tuple[type[Exception], ...] = Exception
    """The errors that are worth another attempt; any other gives the event up at once."""

    def __post_init__(self) -> None:
        check_count("Retry: attempts", self.attempts)  # the first one counts
        check_seconds("Retry: backoff", self.backoff, or_none_at_all=True)
        check_seconds("Retry: longest", self.longest, or_none_at_all=True)
        check_number("Retry: factor", self.factor, 1)
        check_number("Retry: jitter", self.jitter, 0)
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise UsageError(f"Retry(on={self.on!r}): write an exception class, or a tuple of them")

    def again(self, error: BaseException, attempt: int) -> bool:
        """Whether an event that failed with this error at this attempt is worth another one."""
        return attempt < self.attempts and isinstance(error, self.on)

    def delay(self, attempt: int) -> float:
        """How long to wait after this attempt, in seconds."""
        steps = min(attempt - 1, 1000)
        wait = self.longest if self.backoff > self.longest else self._grown(steps)
        return wait * (1 + random.uniform(0, self.jitter))  # noqa: S311  it spreads load, it hides nothing

    def _grown(self, steps: int) -> float:
        try:
            return min(self.backoff * self.factor**steps, self.longest)
        except OverflowError:
            return self.longest
