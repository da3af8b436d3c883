"""A process that bills orders, each in one transaction, and dies by SIGKILL where it is told to: at a step of one.

python -m tests.integration.kafka.program_transactions URL SUBJECT [STEP]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from eventmicro_kafka.consuming import transactions
from eventmicro_kafka.producing import transactor
from pydantic import BaseModel

from eventmicro import Context, Publish, Retry, Service, Topic

# So that who is killed is soon missed, and who waits for a busy machine is not.
SETTINGS = "session_timeout=3&rebalance_wait=0.5&transaction_timeout=5"
STEPS = ("begun", "stored", "committed", "ended")


class Order(BaseModel):
    number: int
    customer: str


class Bill(BaseModel):
    number: int
    customer: str


def returning(handler: Callable[..., Any], kind: Any) -> Callable[..., Any]:
    """A handler that returns this: to a topic that only this test has."""
    handler.__annotations__["return"] = kind
    return handler


def die_at(step: str) -> None:
    """Die as soon as a transaction has come so far: nobody has heard of it, and all that was sent is on the broker."""
    asked: dict[str, tuple[Any, str]] = {
        "begun": (transactor, "add_group"),
        "stored": (transactor.Transactor, "_send"),
        "committed": (transactions, "commit_places"),
        "ended": (transactor, "end"),
    }
    owner, name = asked[step]
    does: Callable[..., Awaitable[None]] = getattr(owner, name)

    async def do_and_die(*args: Any, **words: Any) -> None:
        await does(*args, **words)
        if step == "committed":
            await asyncio.sleep(0.1)  # its messages are stored, too
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, do_and_die)


def main(url: str, subject: str, step: str = "") -> None:
    service = Service(subject)
    bills = Topic(f"{subject}.bills", Bill, key="customer")

    async def bill(order: Order, context: Context) -> Any:
        if order.number % 10 == 0 and context.attempt == 1:
            raise ValueError("the first attempt fails")
        return Bill(**order.model_dump())

    service.subscribe(
        Topic(subject, Order, key="customer"),
        transactional=True,
        concurrency=16,
        start="all",
        retry=Retry(backoff=0.05),
    )(returning(bill, Annotated[Bill, Publish(bills)]))
    if step:
        die_at(step)
    service.run(f"{url}?{SETTINGS}")


if __name__ == "__main__":
    main(*sys.argv[1:])
