"""Retry and dead letters: what fails is tried again, and what cannot be handled is kept, with the reason."""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from eventmicro import Context, Reject, Retry, Service, Topic

BROKER = os.environ.get("BROKER", "memory://")


class Payment(BaseModel):
    order: str
    euros: float


PAID = Topic("ledger.paid", Payment)
DEAD = Topic("ledger.dead", Payment)

service = Service("ledger", broker=BROKER)
ORDERS = {"plain": 5.0, "flaky": 7.0, "broken": 9.0, "wrong": -1.0}
ended: set[str] = set()
done = asyncio.Event()


@service.subscribe(PAID, retry=Retry(attempts=3, backoff=0.05), dead_letter=DEAD.name)
async def book(payment: Payment, context: Context) -> None:
    if payment.euros < 0:
        raise Reject("nobody pays less than nothing")  # at any depth of the code: it is of no use to try again
    if payment.order == "flaky" and context.attempt < 3:
        raise ConnectionError("the bank does not answer")
    if payment.order == "broken":
        raise ValueError("no such account")
    print(f"booked {payment.order} at attempt {context.attempt}")
    end(payment.order)


@service.subscribe(DEAD, queue=DEAD.name)  # dead letters are events, kept in a queue of their subject's name
async def look(payment: Payment, context: Context) -> None:
    print(f"dead: {payment.order}: {context.metadata['Dead-Letter-Reason']}")
    end(payment.order)


def end(order: str) -> None:
    ended.add(order)
    if ended == ORDERS.keys():
        done.set()


async def main() -> None:
    async with service:
        for order, euros in ORDERS.items():
            await service.publish(PAID, Payment(order=order, euros=euros))
        await done.wait()


if __name__ == "__main__":
    asyncio.run(main())
