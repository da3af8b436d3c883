"""What a case works with: connected brokers, a subject of its own, a consumer that can be waited for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from eventmicro.broker import Broker, Capabilities, Subscription
from eventmicro.message import Delivery, Message

# How long a case may take, in seconds.
TIMEOUT = 30.0

MakeBroker = Callable[[], Broker]


class Bench:
    """What a case works with: connected brokers that are closed at its end, and a subject of its own."""

    def __init__(self, make_broker: MakeBroker, stack: AsyncExitStack) -> None:
        self.make_broker = make_broker
        self.subject = f"conformance-{secrets.token_hex(6)}"
        self._stack = stack

    async def broker(self) -> Broker:
        """A new connected broker."""
        broker = self.make_broker()
        await broker.connect()
        self._stack.push_async_callback(broker.close)
        return broker


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the suite, with the capabilities it needs."""

    function: Callable[[Bench], Awaitable[None]]
    needs: Capabilities

    def __str__(self) -> str:
        return self.function.__name__

    async def run(self, make_broker: MakeBroker) -> None:
        """Run the case.

        Raises:
            AssertionError: the adapter breaks a promise; the message says which.
            TimeoutError: something that was promised did not happen within 30 s.
        """
        async with asyncio.timeout(TIMEOUT), AsyncExitStack() as stack:
            await self.function(Bench(make_broker, stack))


_CASES: list[Case] = []


def cases(capabilities: Capabilities) -> list[Case]:
    """The cases for a broker that declares these capabilities."""
    return [case for case in _CASES if not capabilities.missing(case.needs)]


def case(
    *needs: str,
) -> Callable[[Callable[[Bench], Awaitable[None]]], Callable[[Bench], Awaitable[None]]]:
    def add(function: Callable[[Bench], Awaitable[None]]) -> Callable[[Bench], Awaitable[None]]:
        _CASES.append(Case(function, Capabilities(**dict.fromkeys(needs, True))))
        return function

    return add


class Inbox:
    """A consumer that keeps what it got, and can be waited for."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._arrived = asyncio.Event()

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self._arrived.set()

    @property
    def bodies(self) -> list[bytes]:
        return [d.body for d in self.deliveries]

    async def wait_for(self, count: int) -> None:
        """Return when this many have arrived."""
        while len(self.deliveries) < count:
            self._arrived.clear()
            await self._arrived.wait()


async def listen(broker: Broker, subject: str, *, queue: str | None = None) -> tuple[Inbox, Subscription]:
    """Subscribe and make sure that the broker knows of it."""
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
