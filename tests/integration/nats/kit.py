"""What the tests on core NATS share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from eventmicro.broker import Broker, Subscription
from eventmicro.message import Delivery, Message
from eventmicro.service import Service


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for something that another task or process brings about."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Inbox:
    """A consumer that keeps what it got, and can be waited for."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.deliveries) >= count)


async def listen(broker: Broker, subject: str, *, queue: str | None = None) -> tuple[Inbox, Subscription]:
    """Subscribe and make sure that the server knows of it."""
    inbox = Inbox()
    subscription = await broker.subscribe(subject, inbox, queue=queue)
    await broker.flush()
    return inbox, subscription


async def send(broker: Broker, subject: str, count: int) -> list[bytes]:
    """Publish this many numbered messages, one after the other."""
    bodies = [str(number).encode() for number in range(count)]
    for body in bodies:
        await broker.publish(Message(subject, body))
    return bodies


@asynccontextmanager
async def started(service: Service, url: str) -> AsyncIterator[None]:
    """A service that runs, and is stopped also where a test fails."""
    await service.start(url)
    try:
        yield
    finally:
        await service.stop()
