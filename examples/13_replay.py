"""Replay: a service that comes later reads what has happened before, from the beginning or from a time on.

Needs a broker that keeps its events, JetStream or Kafka; without BROKER it joins or starts the embedded nats-server.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from eventmicro import Service, Topic, embedded

RUN = secrets.token_hex(4)  # in each name: the broker keeps events and queues, and every run is to begin anew


class Deposit(BaseModel):
    euros: int


def counter(
    name: str, topic: Topic[Deposit], start: datetime | Literal["new", "all"], wanted: int, broker: str
) -> tuple[Service, asyncio.Event]:
    """A service that adds up what it gets, and says so when it has got as much as is wanted."""
    service = Service(f"{name}-{RUN}", broker=broker)
    total = 0
    reached = asyncio.Event()

    @service.subscribe(topic, start=start)
    async def add(deposit: Deposit) -> None:
        nonlocal total
        total += deposit.euros
        if total == wanted:
            print(f"{name}: {total} euros")
            reached.set()

    return service, reached


async def main(broker: str) -> None:
    topic = Topic(f"bank.deposits-{RUN}", Deposit)
    now, all_now = counter("now", topic, "new", 30, broker)
    async with now:
        await now.publish(topic, Deposit(euros=10))
        await asyncio.sleep(0.01)  # brokers know the time of an event to the millisecond
        noon = datetime.now(UTC)
        await asyncio.sleep(0.01)
        await now.publish(topic, Deposit(euros=20))
        await all_now.wait()
    history, all_history = counter("history", topic, "all", 30, broker)
    afternoon, all_afternoon = counter("afternoon", topic, noon, 20, broker)
    async with history, afternoon:
        await all_history.wait()
        await all_afternoon.wait()


if __name__ == "__main__":
    given = os.environ.get("BROKER")
    with nullcontext(given) if given else embedded.running() as url:
        asyncio.run(main(url.replace("nats://", "jetstream://")))
