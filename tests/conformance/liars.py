"""Brokers that break one promise each: the suite has to find every one of them out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

from eventmicro.broker import PUBLISH_TIMEOUT, Durable, Receive
from eventmicro.errors import BodyMissing, MessageTooLarge, TransportError
from eventmicro.large import StoredObject
from eventmicro.memory import MemoryBroker
from eventmicro.memory.durable import DurableSubscription
from eventmicro.memory.queue import DurableQueue
from eventmicro.message import Delivery, Message

Liar = type[MemoryBroker]


def handing_over(change: Callable[[Receive], Receive]) -> Liar:
    """A broker that does something else with its deliveries than handing them over as they are."""

    class HandsOverOtherwise(MemoryBroker):
        async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
            return await super().subscribe(subject, change(receive), **options)

    return HandsOverOtherwise


def delivering(change: Callable[[Delivery], object]) -> Liar:
    """A broker that changes its deliveries."""

    def changed(receive: Receive) -> Receive:
        def take(delivery: Delivery) -> Awaitable[None] | None:
            replaced = change(delivery)
            return receive(replaced if isinstance(replaced, Delivery) else delivery)

        return take

    return handing_over(changed)


def asking(**otherwise: Any) -> Liar:
    """A broker that ignores what a durable subscription asks for."""

    class AsksForSomethingElse(MemoryBroker):
        async def subscribe(
            self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
        ) -> Any:
            durable = durable and replace(durable, **otherwise)
            return await super().subscribe(subject, receive, queue=queue, durable=durable)

    return AsksForSomethingElse


def publishing(change: Callable[[Message], Message | None]) -> Liar:
    """A broker that publishes something else, or nothing."""

    class PublishesSomethingElse(MemoryBroker):
        async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
            if (changed := change(message)) is not None:
                await super().publish(changed, timeout=timeout)

    return PublishesSomethingElse


class PublishesAndMayAck(MemoryBroker):
    """Publishes first, one after the other, and then acknowledges: what it calls one is two."""

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        for message in messages:
            await self.publish(message, timeout=timeout)
        await asyncio.gather(*(delivery.ack() for delivery in deliveries))


class PublishesAlone(MemoryBroker):
    """Forgets to acknowledge."""

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        await super().publish_and_ack(messages, (), timeout=timeout)


class Settled(Delivery):
    """A delivery whose settlement is another one's business."""

    def __init__(self, inner: Delivery) -> None:
        headers, reply = inner.headers, inner.reply
        super().__init__(inner.subject, inner.body, headers, reply, inner.attempt, inner.arrived, inner.id)
        self.inner = inner

    async def ack(self) -> None:
        await self.inner.ack()

    async def nack(self, delay: float = 0.0) -> None:
        await self.inner.nack(delay)


# -- deliveries ------------------------------------------------------------------------------------------------


def lose_every_tenth(receive: Receive) -> Receive:
    numbers = count(1)
    return lambda delivery: None if next(numbers) % 10 == 0 else receive(delivery)


def twice(receive: Receive) -> Receive:
    return lambda delivery: receive(delivery) or receive(delivery)


def in_pairs_swapped(receive: Receive) -> Receive:
    waiting: list[Delivery] = []

    def take(delivery: Delivery) -> Awaitable[None] | None:
        waiting.append(delivery)
        if len(waiting) < 2:
            return None
        second, first = waiting
        waiting.clear()
        return receive(first) or receive(second)

    return take


def without_waiting(receive: Receive) -> Receive:
    def take(delivery: Delivery) -> None:
        receive(delivery)

    return take


def ack_at_once(receive: Receive) -> Receive:
    acking: set[asyncio.Task[None]] = set()

    def take(delivery: Delivery) -> Awaitable[None] | None:
        acking.add(asyncio.ensure_future(delivery.ack()))
        return receive(delivery)

    return take


def redelivered_soon(receive: Receive) -> Receive:
    """A lease that nobody extends."""

    def take(delivery: Delivery) -> Awaitable[None] | None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, lambda: loop.create_task(delivery.nack()))
        return receive(delivery)

    return take


class TakesMany:
    """A consumer in the place of another, which is handed what came together as this changes it."""

    def __init__(self, receive: Receive, change: Callable[[Receive, deque[Delivery]], Awaitable[None] | None]) -> None:
        self._receive = receive
        self._change = change

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        return self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> Awaitable[None] | None:
        return self._change(self._receive, line)


def together(change: Callable[[Receive, deque[Delivery]], Awaitable[None] | None]) -> Liar:
    """A broker that does something else with what came together; one by one all is well."""

    def changed(receive: Receive) -> Receive:
        return TakesMany(receive, change) if hasattr(receive, "many") else receive

    return handing_over(changed)


def the_last_first(receive: Any, line: deque[Delivery]) -> Awaitable[None] | None:
    line.reverse()
    return receive.many(line)  # type: ignore[no-any-return]


def without_what_is_left(receive: Any, line: deque[Delivery]) -> Awaitable[None] | None:
    room = receive.many(line)
    for delivery in line:
        delivery.try_ack()
    line.clear()
    return room  # type: ignore[no-any-return]


def what_is_left_again(receive: Any, line: deque[Delivery]) -> Awaitable[None] | None:
    first = line[0]
    room = receive.many(line)
    if line and first.body == b"6":
        line.append(first)
    return room  # type: ignore[no-any-return]


def without_room(receive: Any, line: deque[Delivery]) -> None:
    while line:
        receive.many(line)


def attempts_of_what_waited(receive: Any, line: deque[Delivery]) -> Awaitable[None] | None:
    room = receive.many(line)
    for delivery in line:
        delivery.event.attempts += 1  # type: ignore[attr-defined]
    return room  # type: ignore[no-any-return]


def first_attempt(delivery: Delivery) -> None:
    delivery.attempt = 1


def counted_by_connection(receive: Receive) -> Receive:
    """Attempts counted by the process: a new subscription begins anew."""
    seen: dict[str, int] = {}

    def take(delivery: Delivery) -> Awaitable[None] | None:
        delivery.attempt = seen[delivery.id] = seen.get(delivery.id, 0) + 1
        return receive(delivery)

    return take


def without_headers(delivery: Delivery) -> None:
    delivery.headers = None


def ascii_headers(delivery: Delivery) -> None:
    headers = delivery.headers or {}
    delivery.headers = {k: v.encode("ascii", "replace").decode() for k, v in headers.items()} or None


def without_empty_headers(delivery: Delivery) -> None:
    delivery.headers = {k: v for k, v in (delivery.headers or {}).items() if v} or None


_ids = count(1)


def new_id(delivery: Delivery) -> None:
    delivery.id = str(next(_ids))


def same_id(delivery: Delivery) -> None:
    delivery.id = "1"


def without_id(delivery: Delivery) -> None:
    delivery.id = ""


class NackIsAck(Settled):
    async def nack(self, delay: float = 0.0) -> None:
        await self.inner.ack()


class NackWithoutDelay(Settled):
    async def nack(self, delay: float = 0.0) -> None:
        await self.inner.nack()


class AckIsNothing(Settled):
    async def ack(self) -> None: ...


class LastSettlementCounts(Settled):
    """It waits a moment for a second word."""

    _timer: asyncio.TimerHandle | None = None

    async def ack(self) -> None:
        self._soon(self.inner.ack)

    async def nack(self, delay: float = 0.0) -> None:
        self._soon(self.inner.nack)

    def _soon(self, settle: Callable[[], Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(0.05, lambda: loop.create_task(settle()))


# -- queues ----------------------------------------------------------------------------------------------------


class ForgetsQueues(MemoryBroker):
    """A queue goes with its last connection."""

    async def close(self) -> None:
        hub = self._hub
        await super().close()
        if hub is not None:
            for name in [name for name, queue in hub._queues.items() if not queue._members]:
                hub.remove(hub._queues.pop(name))  # type: ignore[arg-type]


class ForgetsWhatIsHeld(MemoryBroker):
    """What was not settled when its connection closed is gone."""

    async def close(self) -> None:
        for subscription in self._subscriptions:
            if isinstance(subscription, DurableSubscription):
                subscription._held.clear()
        await super().close()


class ForgetsToCountWhatIsHeld(MemoryBroker):
    """What was not settled when its connection closed comes again as if for the first time."""

    async def close(self) -> None:
        for subscription in self._subscriptions:
            if isinstance(subscription, DurableSubscription):
                for delivery in subscription._held.values():
                    delivery.event.attempts -= 1
        await super().close()


class SettlesAfterClose(MemoryBroker):
    """A late ack is taken though the event is with another consumer by now."""

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)
        if isinstance(subscription, DurableSubscription):
            subscription.close = subscription._handover.close  # type: ignore[method-assign]
        return subscription


class DrainDropsWhatWaits(MemoryBroker):
    """What a drained durable subscription has not handed over is acked instead of given back."""

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)
        if isinstance(subscription, DurableSubscription):
            drain, queue = subscription.drain, subscription._queue

            async def drain_and_drop() -> None:
                queue._new.clear()
                await drain()

            subscription.drain = drain_and_drop  # type: ignore[method-assign]
        return subscription


class NackedGoToTheEnd(MemoryBroker):
    """What is nacked is put behind all that waits."""

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)
        if isinstance(subscription, DurableSubscription):
            queue: DurableQueue = subscription._queue
            queue.take_back = lambda event, delay=0.0: (queue._new.append(event), queue.wake())  # type: ignore
        return subscription


class AnyQueueWillDo(MemoryBroker):
    """A durable subscription without a queue gets one that nobody knows."""

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Any:
        queue = queue or ("none" if durable else None)
        return await super().subscribe(subject, receive, queue=queue, durable=durable)


class OneQueueForAll(MemoryBroker):
    """Queues of one subject are mixed up."""

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Any:
        queue = subject if queue else None
        return await super().subscribe(subject, receive, queue=queue, durable=durable)


class QueueNamesEndAtTheDot(MemoryBroker):
    """`a.one` and `a.two` are the same queue."""

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Any:
        queue = queue and queue.partition(".")[0]
        return await super().subscribe(subject, receive, queue=queue, durable=durable)


class StartsWithAll(MemoryBroker):
    """A new queue begins with all that was ever published on its subject."""

    _published: ClassVar[list[Message]] = []

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        self._published.append(message)
        await super().publish(message, timeout=timeout)

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)
        if isinstance(subscription, DurableSubscription):
            for message in self._published:
                if message.subject == subject:
                    subscription._queue.put(message)
        return subscription


# -- live ------------------------------------------------------------------------------------------------------


class QueuesAreIgnored(MemoryBroker):
    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Any:
        return await super().subscribe(subject, receive, queue=durable and queue, durable=durable)


class EveryoneSharesAQueue(MemoryBroker):
    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Any:
        return await super().subscribe(subject, receive, queue=queue or "q", durable=durable)


class StarIsArrow(MemoryBroker):
    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        return await super().subscribe(subject.replace("*", ">"), receive, **options)


class ArrowIsStar(MemoryBroker):
    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        return await super().subscribe(subject.replace(">", "*"), receive, **options)


class DrainDrops(MemoryBroker):
    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)

        async def drain() -> None:
            subscription.close()

        subscription.drain = drain  # type: ignore[method-assign]
        return subscription


class CancelledDrainDrops(MemoryBroker):
    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)
        drain = subscription.drain

        async def drain_or_drop() -> None:
            try:
                await drain()
            finally:
                subscription.close()

        subscription.drain = drain_or_drop  # type: ignore[method-assign]
        return subscription


class SubscriptionsComeBack(MemoryBroker):
    """Connected again, it takes up what it had subscribed to before it was closed."""

    async def close(self) -> None:
        self._hub = None


# -- publishing ------------------------------------------------------------------------------------------------


class RefusesAllForOne(MemoryBroker):
    """A batch with one event too large is refused as a whole."""

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        for message in messages:
            self._hub_for(message)
        await super().publish_many(messages, timeout=timeout)


class BatchesBackwards(MemoryBroker):
    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await super().publish_many(messages[::-1], timeout=timeout)


class PassesOverWhatIsTooLarge(MemoryBroker):
    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        try:
            await super().publish(message, timeout=timeout)
        except MessageTooLarge:
            return


class TakesBackWhatItCanNot(MemoryBroker):
    """The largest size is one too large."""

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        if len(message.body) <= 1024 * 1024 - 10:
            await super().publish(message, timeout=timeout)
        elif len(message.body) > 1024 * 1024:
            raise MessageTooLarge


class ForgetsObjects(MemoryBroker):
    """Whoever reads an object takes it away."""

    async def fetch_object(self, stored: StoredObject) -> bytes:
        body = await super().fetch_object(stored)
        self._connected_hub().objects.delete(stored.name)
        return body


class CutsObjectsOff(MemoryBroker):
    async def fetch_object(self, stored: StoredObject) -> bytes:
        return (await super().fetch_object(stored))[:1_000_000]


class AnyObjectWillDo(MemoryBroker):
    async def fetch_object(self, stored: StoredObject) -> bytes:
        try:
            return await super().fetch_object(stored)
        except BodyMissing:
            return b""


class EverythingFits(MemoryBroker):
    def fits(self, message: Message) -> bool:
        return True


class OvertakesItself(MemoryBroker):
    """Every other message takes its time."""

    _numbers = count(1)

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        if next(self._numbers) % 2:
            await super().publish(message, timeout=timeout)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, lambda: loop.create_task(MemoryBroker.publish(self, message)))


# -- connection ------------------------------------------------------------------------------------------------


class ClosesOnce(MemoryBroker):
    async def close(self) -> None:
        if not self.connected:
            raise TransportError("closed already")
        await super().close()


class ConnectsOnce(MemoryBroker):
    async def connect(self) -> None:
        if self.connected:
            raise TransportError("connected already")
        await super().connect()


class TakesAfterClose(MemoryBroker):
    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        if self.connected:
            await super().publish(message, timeout=timeout)


class ClosesWhenHandlersAreDone(MemoryBroker):
    """close() waits until all that it has handed over is settled, and all lines are empty."""

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription._handover.idle()
        await super().close()


class LosesWhenCancelled(MemoryBroker):
    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        try:
            await asyncio.sleep(0)
            await super().publish(message, timeout=timeout)
        except asyncio.CancelledError:
            await self.close()
            raise


# -- requests --------------------------------------------------------------------------------------------------


class OneInboxForAll(MemoryBroker):
    def inbox(self) -> str:
        return "_INBOX.1"


class SaysNothingWhereNobodyIs(MemoryBroker):
    async def send(self, message: Message) -> None:
        await super().send(replace(message, reply=""))


class SendsTheLastFirst(MemoryBroker):
    _before: Message | None = None

    async def send(self, message: Message) -> None:
        before, self._before = self._before, message
        if before is not None:
            self._before = None
            await super().send(message)
            await super().send(before)


class SendsAnything(MemoryBroker):
    async def send(self, message: Message) -> None:
        if len(message.body) < 1024 * 1024:
            await super().send(message)
