"""Shapes of handlers: plain functions, fields and tokens as parameters, what is returned is published, a router."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field

from eventmicro import Client, Context, Depends, Publish, Router, Service, Topic

BROKER = os.environ.get("BROKER", "memory://")


class Region(StrEnum):
    NORTH = "north"
    SOUTH = "south"


class Arrival(BaseModel):
    sku: str
    pieces: int


class Shortage(BaseModel):
    sku: str
    missing: int


ARRIVED = Topic("depot.{region}.arrived", Arrival)
SHORT = Topic("depot.short", Shortage)


def stock() -> Iterator[sqlite3.Connection]:  # a plain lifespan: opened and closed in a thread
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("create table stock (region text, sku text, pieces int)")
    yield database
    database.close()


service = Service("depot", broker=BROKER, lifespan=stock, threads=1)  # one connection, used by one at a time
ordered = asyncio.Event()
counting = Router(prefix="count_")


def transaction(context: Context) -> Iterator[sqlite3.Connection]:  # in the thread of the handler that asks for it
    with context.state:
        yield context.state


Database = Annotated[sqlite3.Connection, Depends(transaction)]


@service.subscribe(ARRIVED)  # on the wire `depot.*.arrived`
def put_away(arrival: Arrival, region: Region, database: Database) -> Annotated[Shortage | None, Publish(SHORT)]:
    database.execute("insert into stock values (?, ?, ?)", [region, arrival.sku, arrival.pieces])
    return Shortage(sku=arrival.sku, missing=10 - arrival.pieces) if arrival.pieces < 10 else None


@service.subscribe(SHORT)
async def order_more(shortage: Shortage) -> None:
    print("to be ordered:", shortage.missing, shortage.sku)
    ordered.set()


@counting.rpc
def pieces(database: Database, sku: str, region: Annotated[str, Field(description="or all")] = "%") -> int:
    query = "select coalesce(sum(pieces), 0) from stock where sku = ? and region like ?"
    found: tuple[int] = database.execute(query, [sku, region]).fetchone()
    return found[0]


@counting.rpc
def lines(database: Database) -> Iterator[str]:  # a stream, of a plain generator
    for region, sku, count in database.execute("select * from stock order by region"):
        yield f"{region}: {count} {sku}"


service.include(counting)  # as depot.count_pieces and depot.count_lines


async def main() -> None:
    async with service, Client(BROKER) as client:
        await client.publish(ARRIVED.at(region=Region.NORTH), Arrival(sku="tea", pieces=12))
        await client.publish(ARRIVED.at(region=Region.SOUTH), Arrival(sku="tea", pieces=4))
        await ordered.wait()  # that is published when both are put away
        print("in the south:", await client.call("depot.count_pieces", {"sku": "tea", "region": "south"}, int))
        print("all:", [line async for line in client.stream("depot.count_lines", reply=str)])


asyncio.run(main())
