"""The service that takes orders, and knows what became of each."""

from __future__ import annotations

from eventmicro import NotFound, Service, from_thread
from examples.shop.database import Database, database
from examples.shop.models import ENDED, PLACED, Article, Ended, Order, Placed

service = Service(
    "orders",
    version="1.0.0",
    lifespan=database("orders", "create table if not exists orders (number text primary key, outcome text)"),
    threads=1,  # one connection, used by one handler at a time
)


@service.rpc(idempotent=True)
def place(order: Order) -> Placed:
    """Take an order at today's prices. Whoever has a reply knows that it is not lost: its event is stored."""
    articles = from_thread(service.call("stock.articles", None, dict[str, Article]))
    if unknown := order.basket.keys() - articles:
        raise NotFound(f"we do not sell {', '.join(unknown)}")
    placed = Placed(order=order, cents=sum(articles[sku].cents * pieces for sku, pieces in order.basket.items()))
    from_thread(service.publish(PLACED, placed))
    return placed


@service.subscribe(PLACED, durable=True)
def open_order(event: Placed, database: Database) -> None:
    database.execute("insert or ignore into orders values (?, 'open')", [event.order.number])


@service.subscribe(ENDED, durable=True)
def close_order(event: Ended, database: Database) -> None:
    """The end of an order may come before its beginning: these are different queues."""
    outcome = [event.order.number, type(event).__name__]
    database.execute("insert into orders values (?, ?) on conflict do update set outcome = excluded.outcome", outcome)


@service.rpc(idempotent=True)
def outcomes(database: Database) -> dict[str, int]:
    """How many orders are open, shipped, sold out, declined."""
    return dict(database.execute("select outcome, count(*) from orders group by outcome").fetchall())


if __name__ == "__main__":
    service.run()
