"""Statistics of one handler: how many messages, how long they took, what went wrong. Counted by run, not by message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from types import MappingProxyType

# The upper bounds of the latency histogram's buckets, in seconds; Prometheus' default ones, finer at the lower end. The
# last bucket holds what took longer.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BOUNDS = (*(f"{bound:g}" for bound in BUCKETS), "more")
NO_ERRORS: Mapping[int, int] = MappingProxyType({})
NO_LATENCY = (0,) * (len(BUCKETS) + 1)
# How many different codes are counted each; further ones are counted as 0.
MAX_CODES = 100
# The longest text of the last error that is kept, in characters.
MAX_LAST_ERROR = 200


class Statistics:
    """What one endpoint or subscriber of this process has done since its start.

    count: how many were handled to their end, whatever became of them.
    errors: how many of them ended with an error, by code; a failed event counts as 500, one that could not be decoded
        as 400.
    seconds: how long all of them took together, in which those that waited at the same time each count in full.
    latency: how many took up to each bound of `BUCKETS`, not cumulated, and in a last bucket the rest. Of those that
        came together and did not wait each counts with their mean.
    """

    __slots__ = ("count", "errors", "last_error", "latency", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.errors: Mapping[int, int] = NO_ERRORS  # there may be very many of these, and nothing in most
        self.last_error = ""
        self.seconds = 0.0
        self.latency: Sequence[int] = NO_LATENCY

    def by_bound(self) -> dict[str, int]:
        """`latency` by the text of each bound in seconds, and `more` for the rest."""
        return dict(zip(BOUNDS, self.latency, strict=True))

    def handled(self, count: int, seconds: float) -> None:
        """So many have ended, which took so long together."""
        self.count += count
        self.seconds += seconds
        if not isinstance(self.latency, list):
            self.latency = list(NO_LATENCY)
        self.latency[bisect_left(BUCKETS, seconds / count)] += count

    def failed(self, code: int, detail: str) -> None:
        """One has ended, or will, with an error."""
        if not isinstance(self.errors, dict):
            self.errors = {}
        if code not in self.errors and len(self.errors) >= MAX_CODES:
            code = 0
        self.errors[code] = self.errors.get(code, 0) + 1
        self.last_error = f"{code}:{detail[:MAX_LAST_ERROR]}"
