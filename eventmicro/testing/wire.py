"""WatchedBroker: any broker, with a world around it that sees what is sent, and does to it what a test says."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from typing import Any

from eventmicro.broker import PUBLISH_TIMEOUT, Broker, Durable, Receive, Subscription
from eventmicro.errors import NotAllPublished
from eventmicro.large import StoredObject
from eventmicro.message import Copy, Delivery, Message
from eventmicro.testing.faults import Fault, Faults
from eventmicro.testing.golden import Example, Kind
from eventmicro.testing.names import endpoint_of
from eventmicro.testing.records import Journal, Sent
from eventmicro.topic import Topic
from eventmicro.wire import DEAD_QUEUE, ENDPOINT_QUEUE, ERROR, STREAM, header

log = logging.getLogger(__name__)

Forward = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class Wire:
    """What the connections of one world have in common.

    prefix: what stands before each subject and queue, so that worlds on one server do not meet; empty: nothing does.
    read: the value of a message to a subject, for faults that ask.
    queues: the durable queues that are subscribed to, each with its subject and a broker that can tell of it.
    delayed: what is held back, by the subject.
    inboxes: where replies are awaited: these subjects get no prefix.
    asked: the requests that are not answered yet, by where their reply is awaited.
    """

    journal: Journal
    faults: Faults
    prefix: str
    read: Callable[[Message, Topic[Any] | None], Any]
    queues: dict[str, tuple[str, Any]] = field(default_factory=dict)
    delayed: dict[asyncio.Task[None], str] = field(default_factory=dict)
    inboxes: tuple[str, ...] = ()
    asked: dict[str, Example] = field(default_factory=dict)
    connections: list[Broker] = field(default_factory=list)

    def outer(self, name: str) -> str:
        """A subject or a queue as the server knows it."""
        return name if not self.prefix or name.startswith(self.inboxes) else self.prefix + name

    def inner(self, name: str) -> str:
        """The same as the services know it."""
        return name.removeprefix(self.prefix)

    def asks(self, message: Message) -> None:
        """A request is sent."""
        if header(message.headers, STREAM) is None:
            endpoint = endpoint_of(message.subject)
            self.asked[message.reply] = Example("request", endpoint, dict(message.headers or {}), message.body)

    def answers(self, message: Message) -> None:
        """Perhaps a request is answered."""
        request = self.asked.pop(message.subject, None)
        if request is not None:
            kind: Kind = "reply" if header(message.headers, ERROR) is None else "error"
            reply = Example(kind, request.subject, dict(message.headers or {}), message.body)
            self.journal.exchanged += (request, reply)

    def later(self, seconds: float, message: Message, forward: Forward) -> None:
        """Send a message in so many seconds."""

        async def send() -> None:
            await asyncio.sleep(seconds)
            await forward(message)

        task = asyncio.get_running_loop().create_task(send(), name=message.subject)
        self.delayed[task] = message.subject
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self.delayed[task]
        error = None if task.cancelled() else task.exception()
        if error is not None:  # the same as for who has sent it and does not wait: it is lost
            log.warning("a message to %s that was delayed could not be sent: %s", self.inner(task.get_name()), error)

    async def flush(self) -> None:
        """Let all connections have what was sent to them so far."""
        for broker in self.connections:
            if broker.online:
                await broker.flush()

    async def close(self) -> None:
        """What is held back is never sent."""
        for task in self.delayed:
            task.cancel()
        await asyncio.gather(*self.delayed, return_exceptions=True)


class WatchedBroker:
    """The connection of one service, or of the world's client. What its broker has beside `Broker` it has, too, see
    `watched`; but nothing is sent at once, past what is here.

    Args:
        inner: the broker.
        wire: what is seen, and done.
        owner: whose connection it is.
    """

    def __init__(self, inner: Broker, wire: Wire, owner: str) -> None:
        self._inner: Any = inner
        self._wire = wire
        self._owner = owner

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        sent = self._seen(message)

        async def forward(message: Message) -> None:
            await self._inner.publish(message, timeout=timeout)

        try:
            await self._forward(message, forward, sent)
        except BaseException:
            sent.outcome = "failed"
            raise

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        if not self._wire.faults.all:
            several = [self._seen(each) for each in messages]
            try:
                await self._inner.publish_many([self._out(each) for each in messages], timeout=timeout)
            except BaseException as error:
                for number in error.failed if isinstance(error, NotAllPublished) else range(len(several)):
                    several[number].outcome = "failed"
                raise
            return
        failed: dict[int, Exception] = {}
        for number, message in enumerate(messages):
            try:
                await self.publish(message, timeout=timeout)
            except Exception as error:
                failed[number] = error
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))

    async def send(self, message: Message) -> None:
        if message.reply:
            self._wire.asks(message)
            await self._forward(message, self._inner.send)
        else:  # a reply, or what belongs to a call that is on its way
            self._wire.answers(message)
            await self._inner.send(self._out(message))

    async def subscribe(
        self,
        subject: str,
        receive: Receive,
        *,
        queue: str | None = None,
        durable: Durable | None = None,
        **places: Any,
    ) -> Subscription:
        wire = self._wire
        if wire.prefix:
            receive = _Inner(receive, wire.prefix)
            keeps_name = queue == ENDPOINT_QUEUE or places.get("place") is not None  # which has its name in it
            queue = queue and (queue if keeps_name else wire.outer(queue))
            if durable is not None and durable.dead_letter is not None:
                durable = replace(durable, dead_letter=wire.outer(durable.dead_letter))
        subject = wire.outer(subject)
        subscription: Subscription = await self._inner.subscribe(
            subject, receive, queue=queue, durable=durable, **places
        )
        if durable is not None and queue is not None:
            wire.queues[queue] = subject, self._inner
        return subscription

    def inbox(self) -> str:
        inbox: str = self._inner.inbox()
        self._wire.inboxes += (inbox,)
        return inbox

    # -- what is done to a message ---------------------------------------------------------------------------------

    def _seen(self, message: Message) -> Sent:
        sent = Sent(self._owner, message)
        journal = self._wire.journal
        is_letter = header(message.headers, DEAD_QUEUE) is not None
        (journal.letters if is_letter else journal.sent).append(sent)
        return sent

    async def _forward(self, message: Message, forward: Forward, sent: Sent | None = None) -> None:
        met = self._met(message, is_call=sent is None)
        delay = sum(fault.seconds for fault in met)
        copies = 1 + sum(fault.kind == "duplicate" for fault in met)
        for fault in met:
            if fault.kind == "fail":
                raise fault.error  # type: ignore[misc]  # it is an exception, or a class of such
        if any(fault.kind == "drop" for fault in met):
            copies = 0
        if sent is not None and met:
            sent.outcome = "dropped" if not copies else "delayed" if delay else "stored"
        for _ in range(copies):
            if delay:
                self._wire.later(delay, self._out(message), forward)
            else:
                await forward(self._out(message))

    def _met(self, message: Message, *, is_call: bool) -> list[Fault]:
        faults, read = self._wire.faults, self._wire.read
        if not faults.all:
            return []
        subject = endpoint_of(message.subject) if is_call else message.subject
        return list(faults.of_message(subject, partial(read, message), is_call=is_call))

    def _out(self, message: Message) -> Message:
        """As the server is to get it."""
        wire = self._wire
        if not wire.prefix:
            return message
        message = replace(message, subject=wire.outer(message.subject))
        if isinstance(message, Copy) and message.queue is not None:
            message.queue = wire.outer(message.queue)
        return message


class _Inner:
    """Takes deliveries under the subjects that its service knows; who settles them finds them under the server's."""

    def __init__(self, receive: Receive, prefix: str) -> None:
        self._receive = receive
        self._prefix = prefix
        many = getattr(receive, "many", None)
        if many is not None:
            self.many = lambda line: self._many(many, line)

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        self._rename(delivery)
        return self._receive(delivery)

    def _many(self, many: Callable[[deque[Any]], Awaitable[None] | None], line: deque[Any]) -> Awaitable[None] | None:
        for delivery in line:
            self._rename(delivery)
        return many(line)

    def _rename(self, delivery: Delivery) -> None:
        if delivery.subject.startswith(self._prefix):
            delivery.subject = delivery.subject.removeprefix(self._prefix)
            kind: Any = type(delivery)
            delivery.__class__ = _given_back_as_it_came(kind, self._prefix)


@lru_cache(16)
def _given_back_as_it_came(kind: Any, prefix: str) -> Any:
    """The same class, where an adapter that publishes an event anew to have it come again finds its subject."""

    async def nack(delivery: Delivery, delay: float = 0.0) -> None:
        delivery.subject = prefix + delivery.subject.removeprefix(prefix)
        await kind.nack(delivery, delay)

    return type(kind.__name__, (kind,), {"__slots__": (), "nack": nack})


class _Renamed:
    """What brokers have beside `Broker` that names subjects and queues, and what a world does with these. Each is there
    only where the broker has it.
    """

    _inner: Any
    _wire: Wire
    _seen: Callable[[Message], Sent]
    _forward: Callable[[Message, Forward, Sent], Awaitable[None]]

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        together, later = list[Message](), False

        async def forward(message: Message) -> None:
            await (self._inner.publish(message) if later else _take(together, message))

        several = [self._seen(each) for each in messages]
        try:
            for message, sent in zip(messages, several, strict=True):
                await self._forward(message, forward, sent)
            later = True
            if together:
                await self._inner.publish_and_ack(together, deliveries, timeout=timeout)
            else:  # all of them are lost, or late
                await asyncio.gather(*(delivery.ack() for delivery in deliveries))
        except BaseException:
            for sent in several:
                sent.outcome = "failed"
            raise

    async def store_object(self, body: bytes, digest: str, *, timeout: float) -> StoredObject:
        stored: StoredObject = await self._inner.store_object(body, digest, timeout=timeout)
        self._wire.journal.bodies[stored.name] = body
        return stored

    async def queue_state(self, queue: str, *, subject: str | None = None) -> Any:
        wire = self._wire
        state = await self._inner.queue_state(wire.outer(queue), subject=subject and wire.outer(subject))
        return state and replace(state, queue=queue)

    async def queue_states(self) -> Any:
        states, prefix = await self._inner.queue_states(), self._wire.prefix
        if states is None or not prefix:
            return states
        return [replace(each, queue=self._wire.inner(each.queue)) for each in states if each.queue.startswith(prefix)]

    async def read_kept(self, subject: str, start: Any) -> AsyncGenerator[Delivery, None]:
        async for delivery in self._inner.read_kept(self._wire.outer(subject), start):
            delivery.subject = self._wire.inner(delivery.subject)
            yield delivery

    async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
        found = await self._inner.stores([self._wire.outer(each) for each in subjects])
        return None if found is None else {self._wire.inner(subject): names for subject, names in found.items()}


async def _take(messages: list[Message], message: Message) -> None:
    messages.append(message)


def watched(inner: Broker, wire: Wire, owner: str) -> Broker:
    """The broker with a world around it."""
    kind: type[Any] = _kind_around(type(inner))
    wire.connections.append(inner)
    broker: Broker = kind(inner, wire, owner)
    return broker


@cache
def _kind_around(kind: type) -> type[WatchedBroker]:
    """A class that has what this has: the core asks classes for what their brokers can do."""
    has = {name for name in dir(kind) if not name.startswith("_")} | {"url", "capabilities", "connected", "online"}
    has -= {"try_publish", "try_send", "registry"}
    members = {name: _passed_on(name) for name in has - set(dir(WatchedBroker))}
    members |= {name: member for name, member in vars(_Renamed).items() if name in has}
    return type(f"Watched{kind.__name__}", (WatchedBroker,), members)


def _passed_on(name: str) -> Any:
    return property(lambda broker: getattr(broker._inner, name))
