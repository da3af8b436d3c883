"""Protobuf messages in the place of pydantic models; nothing else changes. The types are in protobuf/weather.proto."""

from __future__ import annotations

import asyncio
import os
import sys

from eventmicro import Client, Context, NotFound, Service, Topic

try:
    from protobuf.weather_pb2 import Place, Report
except ModuleNotFoundError:
    sys.exit("this example needs protobuf: pip install 'eventmicro[protobuf]'")

BROKER = os.environ.get("BROKER", "memory://")
MEASURED = Topic("weather.measured", Report)
CELSIUS = {"Oslo": -3.5, "Rome": 12.0}
service = Service("weather", broker=BROKER)


@service.subscribe(MEASURED)
async def archive(report: Report) -> None:
    print(f"archived: {report.place} {report.celsius} °C")


@service.rpc
async def measure(place: Place, context: Context) -> Report:
    print("called in", context.metadata.get("Content-Type", "application/json"))
    if place.name not in CELSIUS:
        raise NotFound(f"no thermometer in {place.name}")
    report = Report(place=place.name, celsius=CELSIUS[place.name])
    await service.publish(MEASURED, report)
    return report


async def main() -> None:
    async with service, Client(BROKER) as client:
        report = await client.call("weather.measure", Place(name="Oslo"), Report)
        print(f"reply: {report.place} {report.celsius} °C")
        # The same endpoint takes protobuf's JSON form too, from peers without the types, and answers in kind.
        print(await client.call("weather.measure", {"name": "Rome"}, dict[str, object]))


if __name__ == "__main__":
    asyncio.run(main())
