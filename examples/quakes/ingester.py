"""The ingester: reads a feed of the USGS and publishes what it holds as typed events.

eventmicro run examples.quakes.ingester:service
eventmicro call ingester.replay '{"speed": 50000}'
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eventmicro import Service
from examples.quakes.models import REJECTED, REPORTED, Position, Quake, Rejected, Replay, Totals

FEED = Path(__file__).with_name("usgs_all_week.geojson")

service = Service("ingester", version="1.0.0")


@service.rpc
async def replay(request: Replay) -> Totals:
    """Publish the week in the order in which it happened, only faster."""
    totals = Totals()
    async for feature in paced(read_feed(), request.speed):
        totals.read += 1
        event = to_event(feature)
        if isinstance(event, Quake):
            await service.publish(REPORTED, event)
            totals.published += 1
        else:
            await service.publish(REJECTED, event)
            totals.rejected += 1
    await service.flush()
    return totals


def read_feed() -> list[dict[str, Any]]:
    """The entries of the feed, as they are, the oldest first."""
    features: list[dict[str, Any]] = json.loads(FEED.read_bytes())["features"]
    return sorted(features, key=seconds)


def to_event(feature: dict[str, Any]) -> Quake | Rejected:
    """The types decide: what is no Quake is rejected, with what is wrong as the reason."""
    properties = feature["properties"]
    longitude, latitude, depth_km = feature["geometry"]["coordinates"]
    try:
        return Quake(
            id=feature["id"],
            kind=properties["type"],
            time=properties["time"],
            place=properties["place"],
            position=Position(latitude=latitude, longitude=longitude),
            depth_km=depth_km,
            magnitude=properties["mag"],
            felt_reports=properties["felt"],
            pager_level=properties["alert"],
            stations=properties["nst"],
        )
    except ValidationError as error:
        reasons = [f"{wrong['loc'][0]} is {wrong['input']!r}" for wrong in error.errors()]
        return Rejected(id=feature["id"], reason=", ".join(reasons))


async def paced(features: list[dict[str, Any]], speed: float) -> AsyncIterator[dict[str, Any]]:
    """Each feature when its time has come, `speed` times faster than it came in reality."""
    clock = asyncio.get_running_loop().time
    started = clock()
    for feature in features:
        due = started + (seconds(feature) - seconds(features[0])) / speed
        if due > clock():
            await asyncio.sleep(due - clock())
        yield feature


def seconds(feature: dict[str, Any]) -> float:
    """When it happened, in seconds since 1970."""
    return float(feature["properties"]["time"]) / 1000


if __name__ == "__main__":
    service.run()
