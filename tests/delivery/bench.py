"""What a delivery test works with: a broker, a topic of its own, services on it, and what they gave up."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import BaseModel

from eventmicro import Client, Context, Service, Topic
from eventmicro.broker import Broker, Capabilities
from eventmicro.message import Delivery
from eventmicro.plugins import open_broker

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Number(BaseModel):
    """The event of these tests."""

    value: int = 0
    key: str | None = None
    id: str | None = None


def numbers(count: int, keys: int = 0) -> list[Number]:
    """So many events, of so many keys in turn."""
    return [Number(value=value, key=f"k{value % keys}" if keys else None) for value in range(count)]


class Bench:
    """One broker, and a topic and a service name that no other test has.

    Args:
        url: of the broker.
        name: of the service; default: a new one.
    """

    def __init__(self, url: str, name: str = "") -> None:
        self.url = url
        self.name = name or f"t-{secrets.token_hex(5)}"
        self.topic = Topic(f"{self.name}.numbers", Number, key="key", id="id")

    @property
    def capabilities(self) -> Capabilities:
        return open_broker(self.url).capabilities

    def service(self, handle: Callable[..., Awaitable[None]], *, stop_timeout: float = 10.0, **words: Any) -> Service:
        """A service whose subscriber `see` is this handler; one of several instances, if it is made again."""
        service = Service(self.name, broker=self.url, stop_timeout=stop_timeout)
        service.subscribe(self.topic, name="see", **words)(handle)
        return service

    @asynccontextmanager
    async def run(
        self, handle: Callable[..., Awaitable[None]], *, instances: int = 1, **words: Any
    ) -> AsyncIterator[Client]:
        """So many instances of that service, and a client to publish by."""
        async with AsyncExitStack() as running:
            for _ in range(instances):
                await running.enter_async_context(self.service(handle, **words))
            yield await running.enter_async_context(Client(self.url))

    @asynccontextmanager
    async def letters(self, subject: str | None = None) -> AsyncIterator[list[Delivery]]:
        """The dead letters of `see`: those that are there, and those that come."""
        letters: list[Delivery] = []
        subject = subject or f"dead.{self.name}.see"
        undertaker = Service(f"{self.name}-undertaker", broker=self.url)

        @undertaker.subscribe(subject, queue=subject, durable=True)
        async def take(context: Context) -> None:
            letters.append(context.delivery)

        async with undertaker:
            yield letters

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        """A connection of one's own, without a service around it."""
        broker = open_broker(self.url)
        await broker.connect()
        try:
            yield broker
        finally:
            await broker.close()


def values(letters: Iterable[Delivery]) -> list[int]:
    """What the events of these dead letters were, sorted."""
    return sorted(Number.model_validate_json(letter.body).value for letter in letters)
