"""What a case works with: connected brokers, subjects of its own, consumers that can be waited for, and the count."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from eventmicro.broker import Broker, Durable, Receive, Subscription
from eventmicro.message import Delivery, Message

# How long what was published may take to arrive, in seconds; Watermill's.
ARRIVAL_TIMEOUT = 45.0
# How long nothing may come that must not come, in seconds, before it counts as not coming.
QUIET = 0.2
# How long closing a connection may take, in seconds, whatever its consumers do.
CLOSE_TIMEOUT = 20.0

T = TypeVar("T")
MakeBroker = Callable[[], Broker]
Settle = Callable[[Delivery], Coroutine[Any, Any, None]]


class Server(Protocol):
    """The server that the brokers of a case connect to, for cases that must end it. It keeps its address and data."""

    async def start(self) -> None:
        """Start it again; return when it serves."""

    async def stop(self) -> None:
        """End it in order; return when it is gone."""

    async def kill(self) -> None:
        """End it as a crash would, by SIGKILL; return when it is gone."""


@dataclass(slots=True)
class Outcome:
    """What a case has counted."""

    received: int = 0
    """Deliveries that were accounted for."""
    duplicates: int = 0
    """Those of them that came again though they had been settled, or were published again after a fault."""


async def ack(delivery: Delivery) -> None:
    """What most consumers do with an event."""
    await delivery.ack()


async def hold(delivery: Delivery) -> None:
    """Leave it unsettled."""


class Consumer:
    """What a subscription hands its messages to: it keeps them, settles them, and can be waited for."""

    subscription: Subscription

    def __init__(self, broker: Broker, settle: Settle | None = None) -> None:
        self.broker = broker
        self.deliveries: list[Delivery] = []
        self._settle = settle
        self._settling: set[asyncio.Task[None]] = set()

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self._settle is not None:
            task = asyncio.create_task(self._settle(delivery))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    async def wait_for(self, count: int) -> None:
        """Return when this many have arrived."""
        await until(lambda: len(self.deliveries) >= count)

    async def settled(self) -> None:
        """Return when all that has come so far is settled."""
        await asyncio.gather(*self._settling)

    async def close(self) -> None:
        """Settle, then close the connection."""
        await self.settled()
        await self.broker.close()


class Bench:
    """One case's own subject, and all that it opens on it, closed at its end."""

    def __init__(self, make_broker: MakeBroker, stack: AsyncExitStack, server: Server | None = None) -> None:
        self.make_broker = make_broker
        self.subject = f"conformance-{secrets.token_hex(6)}"
        self.queue = f"{self.subject}.worker"
        self.outcome = Outcome()
        self._stack = stack
        self._server = server
        self._publisher: Broker | None = None

    async def broker(self) -> Broker:
        """A new connected broker."""
        broker = self.make_broker()
        self._stack.push_async_callback(_close, broker)
        await broker.connect()
        return broker

    async def publisher(self) -> Broker:
        """A connected broker from which this case publishes; always the same."""
        if self._publisher is None:
            self._publisher = await self.broker()
        return self._publisher

    async def listen(
        self, subject: str | None = None, *, queue: str | None = None, broker: Broker | None = None
    ) -> Consumer:
        """A live subscription that the broker knows of, on a connection of its own if none is named."""
        consumer = Consumer(broker or await self.broker())
        consumer.subscription = await consumer.broker.subscribe(subject or self.subject, consumer, queue=queue)
        await consumer.broker.flush()
        return consumer

    async def work(
        self,
        queue: str | None = None,
        *,
        subject: str | None = None,
        broker: Broker | None = None,
        settle: Settle = ack,
        receive: Receive | None = None,
        **durable: Any,
    ) -> Consumer:
        """A durable subscription, on a connection of its own if none is named; it acks unless told otherwise."""
        consumer = Consumer(broker or await self.broker(), settle)
        consumer.subscription = await consumer.broker.subscribe(
            subject or self.subject, receive or consumer, queue=queue or self.queue, durable=Durable(**durable)
        )
        self._stack.push_async_callback(consumer.settled)
        await consumer.broker.flush()
        return consumer

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something beside the case, until its end at the latest."""
        task = asyncio.create_task(work)
        self._stack.push_async_callback(_end, task)
        return task

    async def publish(self, bodies: int | Iterable[bytes], subject: str | None = None) -> list[bytes]:
        """Publish events, numbered where only their count is given, under one key; return their bodies."""
        sent = numbered(bodies) if isinstance(bodies, int) else list(bodies)
        publisher = await self.publisher()
        await publisher.publish_many([Message(subject or self.subject, body, key="key") for body in sent])
        return sent

    async def all_arrive(self, sent: Sequence[bytes], *consumers: Consumer, twice: bool = False) -> None:
        """Wait until the consumers together have got each of the bodies, and account for them."""
        wanted = Counter(sent)
        with suppress(TimeoutError):
            async with asyncio.timeout(ARRIVAL_TIMEOUT):
                await until(lambda: _count(consumers) >= len(sent) and wanted <= Counter(bodies_of(consumers)))
        await asyncio.sleep(QUIET)
        self.account(sent, bodies_of(consumers), twice=twice)

    @asynccontextmanager
    async def server_away(self, *, in_order: bool = False) -> AsyncIterator[None]:
        """The server is killed, or stopped in order, and started again at the end."""
        assert self._server is not None
        await (self._server.stop() if in_order else self._server.kill())
        try:
            yield
        finally:
            await self._server.start()

    def account(self, sent: Sequence[bytes], received: Sequence[bytes], *, twice: bool = False) -> None:
        """Count what was received; fail where it is not what was sent, or, without `twice`, came more than once."""
        missing, extra = Counter(sent) - Counter(received), Counter(received) - Counter(sent)
        self.outcome.received += len(received)
        self.outcome.duplicates += extra.total()
        assert not missing, f"{missing.total()} of {len(sent)} never came: {sorted(missing)[:10]}"
        foreign = set(extra) - set(sent)
        assert not foreign, f"what was never published, or not for here, came: {sorted(foreign)[:10]}"
        assert twice or not extra, f"{extra.total()} of {len(sent)} came twice: {sorted(extra)[:10]}"


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as it is true; the case's own bound ends what never is."""
    while not condition():  # noqa: ASYNC110  what is waited for is told by nobody
        await asyncio.sleep(0.005)


async def raises(kind: type[Exception] | tuple[type[Exception], ...], refused: Awaitable[object]) -> Exception:
    """Await what must fail in this way; the error."""
    names = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
    try:
        await refused
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"{names} should have been raised, and it was {error!r}") from error
    raise AssertionError(f"{names} should have been raised")


def stuck(taken: list[Delivery]) -> Receive:
    """A consumer that takes one message and never has room for another."""
    room: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(delivery: Delivery) -> Awaitable[None]:
        taken.append(delivery)
        return room

    return receive


async def cancel_at_once(bench: Bench, subscription: Subscription) -> None:
    """Begin to drain it, and cancel that when it has just begun."""
    draining = bench.start(subscription.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait([draining])
    assert subscription.ended


def numbered(count: int) -> list[bytes]:
    """This many bodies, each another."""
    return [str(number).encode() for number in range(count)]


def bodies_of(consumers: Iterable[Consumer]) -> list[bytes]:
    """What several consumers have got."""
    return [body for consumer in consumers for body in consumer.bodies]


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _close(broker: Broker) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await broker.close()
    except TimeoutError:
        raise AssertionError(f"close() took longer than {CLOSE_TIMEOUT:g} s") from None


def _count(consumers: Iterable[Consumer]) -> int:
    return sum(len(consumer.deliveries) for consumer in consumers)
