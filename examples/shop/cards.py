"""The service that takes the money from cards, through a bank that is not always there."""

from __future__ import annotations

from typing import Annotated

from eventmicro import Publish, Retry, Service
from examples.shop.database import Database, database
from examples.shop.models import DECLINED, PAID, RESERVED, Declined, Event, Paid, Reserved

LIMIT = 20_000  # cents; no card pays more at once

service = Service(
    "cards",
    version="1.0.0",
    lifespan=database("cards", "create table if not exists payments (number text primary key, cents int)"),
    threads=1,
)
away = set[str]()


class BankAway(Exception):
    """Nobody answers; a moment later somebody will."""


@service.subscribe(RESERVED, retry=Retry(attempts=10, backoff=0.1, on=BankAway))
def charge(
    event: Reserved, database: Database
) -> tuple[Annotated[Paid | None, Publish(PAID)], Annotated[Declined | None, Publish(DECLINED)]]:
    ask_the_bank(event)
    if event.cents > LIMIT:
        return None, Declined(order=event.order, reason="the card does not bear that much")
    database.execute("insert or ignore into payments values (?, ?)", [event.order.number, event.cents])
    return Paid(order=event.order, cents=event.cents), None


def ask_the_bank(event: Event) -> None:
    """Every tenth order finds it away, the first time."""
    number = event.order.number
    if number.endswith("7") and number not in away:
        away.add(number)
        raise BankAway(f"for {number}")


@service.rpc(idempotent=True)
def taken(database: Database) -> int:
    """All the money, in cents."""
    (total,) = database.execute("select total(cents) from payments").fetchone()
    return int(total)


if __name__ == "__main__":
    service.run()
