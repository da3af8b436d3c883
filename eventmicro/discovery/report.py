"""What a node tells of itself: what each of its endpoints and subscribers has done, as `service.stats` answers it."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from eventmicro.handlers.statistics import Statistics


class HandlerStatistics(BaseModel):
    """One endpoint's or subscriber's figures since the node's start."""

    name: str
    count: int
    """How many were handled to their end, whatever became of them."""
    errors: dict[int, int] = Field(default_factory=dict)
    """How many ended with an error, by code; a failed event counts as 500."""
    last_error: str = ""
    in_flight: int = 0
    """How many wait for something at this moment."""
    seconds: float = 0.0
    """How long all took together."""
    latency: dict[str, int] = Field(default_factory=dict)
    """How many took up to so many seconds, and longer than the bound before; `more`: longer than the last bound."""
    dropped: int = 0
    """How many were lost on this side, as they came faster than they were handled."""
    dead_letters: int = 0
    """How many events were given up."""


class NodeStatistics(BaseModel):
    """All figures of one node."""

    service: str
    version: str
    node: str
    started: datetime
    endpoints: list[HandlerStatistics] = Field(default_factory=list)
    subscribers: list[HandlerStatistics] = Field(default_factory=list)


def report(name: str, statistics: Statistics, *, in_flight: int, dropped: int, dead_letters: int) -> HandlerStatistics:
    """One handler's figures."""
    return HandlerStatistics(
        name=name,
        count=statistics.count,
        errors=dict(statistics.errors),
        last_error=statistics.last_error,
        in_flight=in_flight,
        seconds=statistics.seconds,
        latency={bound: count for bound, count in statistics.by_bound().items() if count},
        dropped=dropped,
        dead_letters=dead_letters,
    )


def at(seconds: float) -> datetime:
    """A moment, in seconds since 1970, with its time zone."""
    return datetime.fromtimestamp(seconds, UTC)
