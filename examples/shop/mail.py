"""The service that tells customers what became of their orders; whose address is none is a dead letter."""

from __future__ import annotations

from eventmicro import Reject, Service
from examples.shop.database import Database, database
from examples.shop.models import ENDED, Ended

service = Service(
    "mail",
    version="1.0.0",
    lifespan=database("mail", "create table if not exists mails (number text primary key, text text)"),
    threads=1,
)


@service.subscribe(ENDED, queue="mails", durable=True)
def tell(event: Ended, database: Database) -> None:
    if "@" not in event.order.email:
        raise Reject(f"{event.order.email} is no address")
    text = f"{type(event).__name__}: {', '.join(event.order.basket)}"
    database.execute("insert or ignore into mails values (?, ?)", [event.order.number, text])


@service.rpc(idempotent=True)
def written(database: Database) -> int:
    """How many mails there are."""
    (total,) = database.execute("select count(*) from mails").fetchone()
    return int(total)


if __name__ == "__main__":
    service.run()
