"""A stranger's adapter that has the methods of the port and none of what is optional keeps the whole contract."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from eventmicro import Client, Service, Topic, conformance
from eventmicro.broker import (
    PUBLISH_TIMEOUT,
    Durable,
    Receive,
    SendsAtOnce,
    Subscription,
    sends_at_once,
)
from eventmicro.errors import Unsupported
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry


class Bare(Delivery):
    """A delivery that can be settled by `ack` and `nack`, and by nothing else."""

    def __init__(self, inner: Delivery) -> None:
        super().__init__(inner.subject, inner.body, inner.headers, inner.reply, inner.attempt, inner.arrived, inner.id)
        self._inner = inner

    async def ack(self) -> None:
        await self._inner.ack()

    async def nack(self, delay: float = 0.0) -> None:
        await self._inner.nack(delay)


class Minimal:
    """What `eventmicro.broker.Broker` asks for, and no more."""

    capabilities = replace(MemoryBroker.capabilities, objects=False, transactions=False)

    def __init__(self, url: str = "memory://minimal") -> None:
        self._inner = MemoryBroker(url)
        self.url = url

    @property
    def connected(self) -> bool:
        return self._inner.connected

    @property
    def online(self) -> bool:
        return self._inner.online

    async def connect(self) -> None:
        await self._inner.connect()

    async def close(self) -> None:
        await self._inner.close()

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._inner.publish(message, timeout=timeout)

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._inner.publish_many(messages, timeout=timeout)

    async def send(self, message: Message) -> None:
        await self._inner.send(message)

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Subscription:
        if durable is not None and durable.transactional:
            raise Unsupported("a stranger's adapter has no transactions")
        return await self._inner.subscribe(
            subject, lambda delivery: receive(Bare(delivery)), queue=queue, durable=durable
        )

    def inbox(self) -> str:
        return self._inner.inbox()

    async def flush(self) -> None:
        await self._inner.flush()


@pytest.mark.parametrize("case", conformance.cases(Minimal.capabilities), ids=str)
def test_minimal(case: conformance.Case) -> None:
    outcome = asyncio.run(case.run(Minimal))
    assert outcome.duplicates == 0


def test_it_has_nothing_that_is_optional() -> None:
    assert not isinstance(Minimal(), SendsAtOnce)
    assert sends_at_once(Minimal()) is None


class Delegating:
    """A stranger's wrapper that has nothing of its own."""

    def __init__(self, inner: MemoryBroker) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class Noting(Delegating):
    """One that notes what is published and sent."""

    def __init__(self, inner: MemoryBroker) -> None:
        super().__init__(inner)
        self.noted: list[str] = []

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        self.noted.append(f"publish {message.subject}")
        await self.inner.publish(message, timeout=timeout)

    async def send(self, message: Message) -> None:
        self.noted.append("send")
        await self.inner.send(message)


ORDERS = Topic("orders.placed", int)
MAKE = {
    "minimal": Minimal,
    "delegating": lambda: Delegating(MemoryBroker("memory://minimal")),
    "noting": lambda: Noting(MemoryBroker("memory://minimal")),
    "memory": lambda: MemoryBroker("memory://minimal"),
}


@pytest.mark.parametrize("kind", MAKE)
async def test_services_clients_events_and_calls_work_the_same_over_it(kind: str) -> None:
    broker = MAKE[kind]()
    service = Service("orders", broker=broker)  # type: ignore[arg-type]
    kept, live, attempts = list[int](), list[int](), list[int]()
    done = asyncio.Event()

    @service.rpc
    async def double(number: int) -> int:
        if number == 7:
            raise ValueError
        return 2 * number

    @service.subscribe(ORDERS)
    async def seen(number: int) -> None:
        live.append(number)

    @service.subscribe(ORDERS, durable=True, concurrency=1, retry=Retry(attempts=2, backoff=0))
    async def bill(number: int) -> None:
        if number == 3:
            attempts.append(number)
            if len(attempts) == 1:
                raise ValueError
        kept.append(number)
        if len(kept) == 50:
            done.set()

    async with service, Client(broker) as client:  # type: ignore[arg-type]
        outcomes = await asyncio.gather(
            *(client.call("orders.double", number, int) for number in range(20)), return_exceptions=True
        )
        assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2 * n for n in range(20) if n != 7]
        for number in range(50):
            await client.publish(ORDERS, number)
        await done.wait()
        assert sorted(kept) == live == list(range(50))
        assert attempts == [3, 3]
    if isinstance(broker, Noting):
        assert broker.noted.count("publish orders.placed") == 50
        assert broker.noted.count("send") == 40
