"""eventmicro: bare, with middleware and a dependency on every message, with a trace header on every call, and more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

from benchmarks.messages import ENDPOINT, PROGRESS, READINGS, Order, Progress, Reading, Receipt, Tally, accept
from benchmarks.peer import Call, Hear, Publish
from eventmicro import CallRetry, Client, Context, Contract, Depends, Handler, Middleware, Service, Topic
from eventmicro.middlewares import CircuitBreaker

READING = Topic(READINGS, Reading)
MADE = Topic(PROGRESS, Progress)


class EventMicro:
    """What a first program looks like."""

    middleware: tuple[Middleware, ...] = ()
    """Around what is sent."""

    @property
    def takes_with(self) -> tuple[Middleware, ...]:
        """Around what is taken."""
        return self.middleware

    @asynccontextmanager
    async def server(self, url: str) -> AsyncIterator[None]:
        service = Service("orders", broker=url, middleware=self.takes_with)
        self.serve(service)
        async with service:
            yield

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with Client(url, middleware=self.middleware) as client:
            yield lambda order: client.call(ENDPOINT, order, Receipt)

    @asynccontextmanager
    async def subscriber(self, url: str, tally: Tally) -> AsyncIterator[None]:
        service = Service("archive", broker=url, middleware=self.takes_with)
        self.subscribe(service, tally)
        async with service:
            yield

    @asynccontextmanager
    async def publisher(self, url: str, hear: Hear) -> AsyncIterator[Publish]:
        service = Service("station", broker=url, middleware=self.middleware)

        @service.subscribe(MADE)
        async def take(progress: Progress) -> None:
            hear(progress)

        async with service:
            yield service.publisher(READING).publish

    def serve(self, service: Service) -> None:
        """Declare the endpoint."""

        @service.rpc
        async def place(order: Order) -> Receipt:
            return accept(order)

    def subscribe(self, service: Service, tally: Tally) -> None:
        """Declare the subscriber."""

        @service.subscribe(READING)
        async def take(reading: Reading) -> None:
            progress = tally.count(reading)
            if progress:
                await service.publish(MADE, progress)


class Stock:
    """What is injected."""


stock = Stock()


def current_stock() -> Stock:
    """A dependency."""
    return stock


async def passing(message: Any, context: Context, call_next: Handler) -> Any:
    """A middleware around every message, on the side that sends and on the side that receives."""
    return await call_next(message, context)


class WithMiddleware(EventMicro):
    """One middleware on each side and one injected dependency."""

    middleware = (passing,)

    def serve(self, service: Service) -> None:
        @service.rpc
        async def place(order: Order, stock: Annotated[Stock, Depends(current_stock)]) -> Receipt:
            return accept(order)

    def subscribe(self, service: Service, tally: Tally) -> None:
        @service.subscribe(READING)
        async def take(reading: Reading, stock: Annotated[Stock, Depends(current_stock)]) -> None:
            progress = tally.count(reading)
            if progress:
                await service.publish(MADE, progress)


class Directed(EventMicro):
    """Each call goes to a node that the client has chosen."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with Client(url, selector="two-choices") as client:
            yield lambda order: client.call(ENDPOINT, order, Receipt)


class Unregistered(EventMicro):
    """A service in no registry."""

    @asynccontextmanager
    async def server(self, url: str) -> AsyncIterator[None]:
        service = Service("orders", broker=url, registry="none")
        self.serve(service)
        async with service:
            yield


class Orders(Contract, Protocol, service="orders"):
    """The endpoint, as both sides know it."""

    async def place(self, request: Order) -> Receipt: ...


class WithStub(EventMicro):
    """Calls by a contract."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with Client(url) as client:
            orders = client.stub(Orders)
            yield lambda order: orders.place(order)


TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


class WithTrace(EventMicro):
    """A trace header with every call."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with Client(url) as client:
            yield lambda order: client.call(ENDPOINT, order, Receipt, metadata=TRACE)


class Resilient(EventMicro):
    """A deadline, a trace header, retries and a breaker on every call."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with Client(url, retry=CallRetry(attempts=3), middleware=[CircuitBreaker()]) as client:
            yield lambda order: client.call(ENDPOINT, order, Receipt, metadata=TRACE, timeout=2.0)
