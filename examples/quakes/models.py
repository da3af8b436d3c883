"""What travels between the services: the types, and the topics on which they travel."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from eventmicro import Topic


class Position(BaseModel):
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class Quake(BaseModel):
    """An earthquake, as its network reported it; None is what the network does not know."""

    id: str
    kind: Literal["earthquake"]
    time: AwareDatetime
    place: str
    position: Position
    depth_km: float
    magnitude: float
    felt_reports: int | None
    pager_level: Literal["green", "yellow", "orange", "red"] | None
    stations: int | None


class Rejected(BaseModel):
    """An entry of the feed that is no Quake, and why."""

    id: str
    reason: str


class City(BaseModel):
    """A big city, and how far away it is."""

    name: str
    country: str
    population: int
    distance_km: float


class Assessment(BaseModel):
    """A strong earthquake and the big city nearest to it."""

    quake: Quake
    city: City


class Replay(BaseModel):
    """How to replay the feed: with `speed` 50,000 its week takes 12 seconds."""

    speed: float = Field(default=50_000, gt=0)


class Totals(BaseModel):
    """What a replay did."""

    read: int = 0
    published: int = 0
    rejected: int = 0


class Rule(BaseModel):
    """What is worth an alert: this magnitude or more, this near to a big city or nearer."""

    magnitude: float
    distance_km: float


REPORTED = Topic("quakes.reported", Quake)
REJECTED = Topic("quakes.rejected", Rejected)
ALERTS = Topic("quakes.alerts", Assessment)
DISMISSED = Topic("quakes.dismissed", Assessment)
