"""From a contract to a .proto file and back: what is written for others is read by protoc, and gives the same contract
with protobuf messages, whose stub calls the service that was written with pydantic models.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from pydantic import BaseModel

from eventmicro import Client, Contract, Service, UsageError
from eventmicro.generating.proto import write_proto

BROKER = os.environ.get("BROKER", "memory://")


class Leg(BaseModel):
    to: str
    miles: int


class Trip(BaseModel):
    """Where one goes."""

    legs: list[Leg] = []
    note: str | None = None


class Distance(BaseModel):
    miles: int


class Trips(Contract, Protocol, service="trips"):
    async def length(self, trip: Trip) -> Distance:
        """How far it is."""
        ...

    def legs(self, trip: Trip) -> AsyncIterator[Leg]: ...


service = Service("trips", broker=BROKER)


@service.implements(Trips)
class TripsHandler:
    async def length(self, trip: Trip) -> Distance:
        return Distance(miles=sum(leg.miles for leg in trip.legs))

    async def legs(self, trip: Trip) -> AsyncIterator[Leg]:
        for leg in trip.legs:
            yield leg


def generate(text: str, folder: Path) -> tuple[Any, Any]:
    """What `eventmicro generate proto trips.proto` writes, imported: messages and contracts."""
    from eventmicro.generating.protoc import generate

    (folder / "trips.proto").write_text(text)
    try:
        generate([folder / "trips.proto"], folder, [folder])
    except UsageError as error:
        sys.exit(f"this example needs protoc: {error}")
    sys.path.insert(0, str(folder))
    return importlib.import_module("trips_pb2"), importlib.import_module("trips_contracts")


def methods(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if "rpc " in line]


async def main() -> None:
    text = write_proto(Trips)  # as `eventmicro generate proto-of app:Trips`
    print(*methods(text), sep="\n")
    with TemporaryDirectory() as folder:
        messages, contracts = generate(text, Path(folder))
        print("the same again:", methods(write_proto(contracts.Trips)) == methods(text))
        trip = messages.Trip(legs=[messages.Leg(to="Rome", miles=3), messages.Leg(to="Oslo", miles=4)])
        # The service has models and reads JSON: so these messages travel as protobuf's JSON.
        as_json = {"Content-Type": "application/json"}
        async with service, Client(BROKER) as client:
            trips = client.stub(contracts.Trips, metadata=as_json)
            print("length:", (await trips.length(trip)).miles)
            print("legs:", [leg.to async for leg in trips.legs(trip)])


if __name__ == "__main__":
    asyncio.run(main())
