"""The alerter: asks for the big city nearest to each strong earthquake, and publishes an alert where it is near.

eventmicro run examples.quakes.alerter:service
eventmicro subscribe quakes.alerts
"""

from __future__ import annotations

from eventmicro import Service
from examples.quakes.models import ALERTS, DISMISSED, REPORTED, Assessment, City, Quake, Rule

RULE = Rule(magnitude=4.5, distance_km=200)

service = Service("alerter", version="1.0.0")


@service.subscribe(REPORTED, concurrency=10)
async def assess(quake: Quake) -> None:
    if quake.magnitude < RULE.magnitude:
        return
    city = await service.call("geo.nearest", quake.position, City)
    topic = ALERTS if city.distance_km <= RULE.distance_km else DISMISSED
    await service.publish(topic, Assessment(quake=quake, city=city))


@service.rpc
async def rule() -> Rule:
    return RULE


if __name__ == "__main__":
    service.run()
