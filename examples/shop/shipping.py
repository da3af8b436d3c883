"""The service that packs parcels, those of one customer one after the other."""

from __future__ import annotations

from typing import Annotated

from eventmicro import Publish, Service, from_thread
from examples.shop.database import Database, database
from examples.shop.models import PAID, SHIPPED, Article, Paid, Sent, Shipped, customer

service = Service(
    "shipping",
    version="1.0.0",
    lifespan=database("shipping", "create table if not exists parcels (number text primary key, cents int, grams int)"),
    threads=1,
)


@service.subscribe(PAID, order_by=customer)
def ship(event: Paid, database: Database) -> Annotated[Shipped, Publish(SHIPPED)]:
    articles = from_thread(service.call("stock.articles", None, dict[str, Article]))
    grams = sum(articles[sku].grams * pieces for sku, pieces in event.order.basket.items())
    database.execute("insert or ignore into parcels values (?, ?, ?)", [event.order.number, event.cents, grams])
    return Shipped(order=event.order, cents=event.cents, grams=grams)


@service.rpc(idempotent=True)
def sent(database: Database) -> Sent:
    (parcels, cents, grams) = database.execute("select count(*), sum(cents), sum(grams) from parcels").fetchone()
    return Sent(parcels=parcels, cents=cents or 0, grams=grams or 0)


if __name__ == "__main__":
    service.run()
