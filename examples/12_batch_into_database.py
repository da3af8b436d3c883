"""Batches: a thousand events into a database, a hundred in one transaction, and each of them exactly once.

An event may be delivered twice, where a broker or this process ends between the commit and the acknowledgement; its id
as the primary key makes the second time harmless.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3

from pydantic import BaseModel

from eventmicro import Batch, Service, Topic

BROKER = os.environ.get("BROKER", "memory://")


class Reading(BaseModel):
    id: int
    celsius: float


READINGS = Topic("sensors.readings", Reading)

service = Service("archive", broker=BROKER)
database = sqlite3.connect(":memory:")
database.execute("create table readings (id integer primary key, celsius real)")
done = asyncio.Event()


def stored() -> int:
    return int(database.execute("select count(*) from readings").fetchone()[0])


@service.subscribe(READINGS, batch=Batch(size=100, within=0.5))
async def store(readings: list[Reading]) -> None:
    with database:  # one transaction: all of them or none, and where none they come again one by one
        database.executemany(
            "insert or ignore into readings values (?, ?)", [(reading.id, reading.celsius) for reading in readings]
        )
    if stored() == 1000:
        done.set()


async def main() -> None:
    async with service:
        await service.publish_many(READINGS, [Reading(id=number, celsius=number / 50) for number in range(1000)])
        await done.wait()
    print(stored(), "readings are in the database")


if __name__ == "__main__":
    asyncio.run(main())
