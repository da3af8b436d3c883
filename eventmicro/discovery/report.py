"""What a node tells of itself: what each of its endpoints and subscribers has done, as `service.stats` answers it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from eventmicro.handlers.statistics import Statistics


class QueueFigures(BaseModel):
    """How it is with a durable queue, as its broker says; None stands for what it does not say."""

    name: str
    waiting: int | None = None
    """How many events wait that no consumer has."""
    unsettled: int | None = None
    """How many are with a consumer of any instance, or come again."""
    consumers: int | None = None
    """How many take its events."""
    oldest: datetime | None = None
    """When the oldest event was stored that is not settled."""


class BrokerFigures(BaseModel):
    """How it is with a node's connection to a broker."""

    url: str
    online: bool
    """Whether the connection stands."""
    reconnects: int | None = None
    """How often it was made again after it was lost; None: the adapter does not count that."""


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
    retried: int = 0
    """How many attempts at events failed and come again."""
    unsettled: int = 0
    """How many events this node's handlers have left to be settled later, by `ack="manual"`."""
    queue: QueueFigures | None = None
    """How it is with the durable queue of a subscriber, where the broker has just said that."""
    letters: QueueFigures | None = None
    """Likewise with the queue of its dead letters, which several subscribers may share."""


class NodeStatistics(BaseModel):
    """All figures of one node."""

    service: str
    version: str
    node: str
    started: datetime
    endpoints: list[HandlerStatistics] = Field(default_factory=list)
    subscribers: list[HandlerStatistics] = Field(default_factory=list)
    brokers: list[BrokerFigures] = Field(default_factory=list)
    published: int = 0
    """How many events of its client the broker has taken."""
    publish_failed: int = 0
    """How many it has not."""
    publish_buffered: int = 0
    """How many wait for it in the buffer of `Publishing(while_away="buffer")`."""


def report(name: str, statistics: Statistics, **more: Any) -> HandlerStatistics:
    """One handler's figures; `more` are those that its statistics do not have."""
    return HandlerStatistics(
        name=name,
        count=statistics.count,
        errors=dict(statistics.errors),
        last_error=statistics.last_error,
        seconds=statistics.seconds,
        latency={bound: count for bound, count in statistics.by_bound().items() if count},
        **more,
    )


def at(seconds: float) -> datetime:
    """A moment, in seconds since 1970, with its time zone."""
    return datetime.fromtimestamp(seconds, UTC)
