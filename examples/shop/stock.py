"""The service that knows what is there, reserves it, and takes it back where nobody pays."""

from __future__ import annotations

import sqlite3
from typing import Annotated

from eventmicro import Publish, Service
from examples.shop.database import Database, database
from examples.shop.models import (
    DECLINED,
    PLACED,
    RESERVED,
    SOLD_OUT,
    Article,
    Declined,
    Order,
    Placed,
    Reserved,
    SoldOut,
)

ARTICLES = {  # and the shelves as they are on the first day
    "tea": Article(cents=450, grams=100, pieces=5_000),
    "cup": Article(cents=1_200, grams=350, pieces=2_500),
    "pot": Article(cents=3_900, grams=1_100, pieces=900),
}
SHELVES = ", ".join(f"('{sku}', {article.pieces})" for sku, article in ARTICLES.items())

service = Service(
    "stock",
    version="1.0.0",
    lifespan=database(
        "stock",
        "create table if not exists articles (sku text primary key, pieces int)",
        "create table if not exists reservations (number text primary key, missing text, returned int default 0)",
        f"insert or ignore into articles values {SHELVES}",
    ),
    threads=1,  # one connection, used by one handler at a time
)


@service.rpc(idempotent=True)
def articles(database: Database) -> dict[str, Article]:
    left = database.execute("select sku, pieces from articles").fetchall()
    return {sku: ARTICLES[sku].model_copy(update={"pieces": pieces}) for sku, pieces in left}


@service.subscribe(PLACED, durable=True)
def reserve(
    event: Placed, database: Database
) -> tuple[Annotated[Reserved | None, Publish(RESERVED)], Annotated[SoldOut | None, Publish(SOLD_OUT)]]:
    """An event that comes twice has the same answer twice, and takes from the shelves once."""
    missing = reservation(event.order, database)
    if missing is None:
        return Reserved(order=event.order, cents=event.cents), None
    return None, SoldOut(order=event.order, sku=missing)


def reservation(order: Order, database: sqlite3.Connection) -> str | None:
    """What is missing for an order, if anything is; otherwise it is taken from the shelves."""
    known = database.execute("select missing from reservations where number = ?", [order.number]).fetchone()
    if known is not None:
        return known[0]  # type: ignore[no-any-return]
    left = dict(database.execute("select sku, pieces from articles").fetchall())
    missing = next((sku for sku, pieces in order.basket.items() if left[sku] < pieces), None)
    database.execute("insert into reservations (number, missing) values (?, ?)", [order.number, missing])
    if missing is None:
        move(order, -1, database)
    return missing


@service.subscribe(DECLINED, durable=True)
def put_back(event: Declined, database: Database) -> None:
    mine = "update reservations set returned = 1 where number = ? and returned = 0"
    if database.execute(mine, [event.order.number]).rowcount:
        move(event.order, 1, database)


def move(order: Order, direction: int, database: sqlite3.Connection) -> None:
    moved = [(direction * pieces, sku) for sku, pieces in order.basket.items()]
    database.executemany("update articles set pieces = pieces + ? where sku = ?", moved)


if __name__ == "__main__":
    service.run()
