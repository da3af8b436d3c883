"""Publishing events: how long the broker is waited for, what is done while it is away, and how many it has
confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from eventmicro.broker import PUBLISH_TIMEOUT, Broker, PublishesAndAcks, StoresObjects, sends_at_once
from eventmicro.checks import check_count, check_kind, check_seconds, names_words
from eventmicro.cloudevents import Binding
from eventmicro.errors import (
    Disconnected,
    EventMicroError,
    MessageTooLarge,
    NotAllPublished,
    TransportError,
    Unconfirmed,
    UsageError,
)
from eventmicro.events.keeping import check_keeps
from eventmicro.events.objects import LargeMessage, check_stores_objects, store
from eventmicro.events.placing import check_places
from eventmicro.message import Delivery, Message
from eventmicro.places import Exchange
from eventmicro.topic import Topic

log = logging.getLogger(__name__)

WhileAway = Literal["wait", "fail", "buffer"]
# How long the sender of buffered events pauses before it tries again, in seconds.
PAUSE = 0.05


@names_words
@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """How publishing waits for the broker, and what it does while that is away."""

    timeout: float = PUBLISH_TIMEOUT
    """How long a publish waits, for a lost connection and for the confirmation together, in seconds."""
    while_away: WhileAway = "wait"
    """`wait` for the connection, `fail` at once, or `buffer` the event and return: it is sent when the broker is back,
    in order, and is lost if the process ends before; `flush` says whether it was sent. One of which the broker does not
    say whether it has it is sent again."""
    buffer: int = 10_000
    """How many events may be buffered; further ones are refused."""
    buffer_bytes: int = 64 * 1024 * 1024
    """How many bytes of them may be."""

    def __post_init__(self) -> None:
        if self.while_away not in ("wait", "fail", "buffer"):
            raise UsageError(f"while_away={self.while_away!r}: write 'wait', 'fail' or 'buffer'")
        check_seconds("timeout", self.timeout)
        check_count("buffer", self.buffer)
        check_count("buffer_bytes", self.buffer_bytes)


def check_publishing(publishing: Any) -> None:
    """Refuse what is neither Publishing nor None.

    Raises:
        UsageError: it is something else.
    """
    check_kind("publishing", publishing, Publishing | None, "Publishing(timeout=...)")


class Outgoing:
    """What one client publishes on its broker. Lives as long as the client.

    confirmed: how many events the broker has taken.
    failed: how many it has not; whoever published them got an error, or for buffered ones the log did.
    """

    def __init__(self, broker: Broker, options: Publishing) -> None:
        self.confirmed = 0
        self.failed = 0
        self._broker = broker
        self._options = options
        self._waits = options.while_away == "wait"
        self._buffer: deque[Message] = deque()
        self._buffered_bytes = 0
        self._sending: asyncio.Task[None] | None = None
        able = sends_at_once(broker) if self._waits else None
        self._try_publish = None if able is None else able.try_publish

    @property
    def url(self) -> str:
        """The broker's."""
        return self._broker.url

    @property
    def forgets(self) -> str | None:
        """The broker, by its URL, if it recognises no event by its id."""
        return None if self._broker.capabilities.dedupe else self._broker.url

    @property
    def labels(self) -> bool:
        """Whether the broker wants to be told what events are written in."""
        return bool(getattr(self._broker, "labels_events", False))

    def seconds(self, timeout: float | None) -> float:
        """How long is waited for the broker, where something else is said or nothing."""
        return self._options.timeout if timeout is None else timeout

    @property
    def binding(self) -> Binding:
        """How the broker carries the attributes of CloudEvents."""
        return self._broker.capabilities.cloudevents

    @property
    def buffered(self) -> int:
        """How many events wait in the buffer."""
        return len(self._buffer)

    def try_publish(self, message: Message) -> bool:
        """Publish an event where that has nothing to wait for; whether it was done. Where not, `publish` does it."""
        try_publish = self._try_publish
        if try_publish is None:
            return False
        try:
            done = try_publish(message)
        except TransportError:
            if isinstance(message, LargeMessage):
                return False
            self.failed += 1
            raise
        self.confirmed += done
        return done

    async def publish(self, message: Message, timeout: float | None) -> None:
        """Publish an event; see `Broker.publish` for the errors."""
        error: Exception | None = None if self._waits else self._away()
        if error is None:
            seconds = self.seconds(timeout)
            try:
                await self._broker.publish(message, timeout=seconds)
                self.confirmed += 1
                return
            except TransportError as raised:
                error = raised
            if isinstance(error, MessageTooLarge) and isinstance(message, LargeMessage):
                error = await self._publish_apart(message, seconds)
                if error is None:
                    return
        error = self._set_aside(message, error)
        if error is not None:
            raise error

    async def _publish_apart(self, message: Message, seconds: float) -> TransportError | None:
        """Publish an event with its body apart; why it was not."""
        try:
            event, left = await store(self._broker, message, seconds)
            await self._broker.publish(event, timeout=left)
        except TransportError as error:
            return error
        self.confirmed += 1
        return None

    async def store_large(self, messages: list[Message], timeout: float | None) -> None:
        """Store the bodies of those of several events that do not fit, before any of them is published.

        Raises:
            NotAllPublished: one was not; none of them is published.
        """
        if self._away() is not None:
            return
        seconds = self.seconds(timeout)
        for number, message in enumerate(messages):
            if cast("StoresObjects", self._broker).fits(message):
                continue
            try:
                messages[number], _ = await store(self._broker, message, seconds)
            except TransportError as error:
                self.failed += len(messages)
                raise NotAllPublished(failed=dict.fromkeys(range(len(messages)), error)) from error

    def check_stores_objects(self) -> None:
        """Refuse to publish events that are too large, where the broker keeps none of these."""
        check_stores_objects(self._broker)

    def check_knows_exchange(self, subject: str, exchange: Exchange) -> None:
        """Refuse to publish to an exchange of another broker's kind."""
        check_places(subject, self._broker, exchange)

    def check_keeps(self, topic: Topic[Any]) -> None:
        """Refuse what a topic says of its events, where the broker does not keep it."""
        check_keeps(topic, self._broker)

    async def publish_many(self, messages: Sequence[Message], timeout: float | None) -> None:
        """Publish several events, in order; see `Broker.publish_many` for the errors."""
        away, failed = self._away(), dict[int, Exception]()
        if away is not None:
            failed = dict.fromkeys(range(len(messages)), away)
        else:
            try:
                await self._broker.publish_many(messages, timeout=self.seconds(timeout))
            except NotAllPublished as error:
                failed = error.failed
        self.confirmed += len(messages) - len(failed)
        left = {number: self._set_aside(messages[number], failed[number]) for number in sorted(failed)}
        refused = {number: error for number, error in left.items() if error is not None}
        if refused:
            raise NotAllPublished(failed=refused, confirmed=len(messages) - len(refused))

    async def publish_and_ack(self, messages: Sequence[Message], deliveries: Sequence[Delivery]) -> None:
        """Publish events in one transaction with the acknowledgement of others; without any of these as ever.

        See `eventmicro.broker.PublishesAndAcks` for the errors. What is not published is not buffered: the events stay,
        and are handled again.
        """
        if not deliveries:
            await self.publish_many(messages, None)
            return
        away = self._away() if self._options.while_away == "fail" else None
        try:
            if away is not None:
                raise away
            broker = cast("PublishesAndAcks", self._broker)
            await broker.publish_and_ack(messages, deliveries, timeout=self._options.timeout)
        except EventMicroError:
            self.failed += len(messages)
            raise
        self.confirmed += len(messages)

    async def flush(self) -> None:
        """Return when the broker has taken in all that was published so far, and all that was buffered.

        Raises:
            Disconnected: it has not, within the timeout.
        """
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=self._options.timeout)
        if self._buffer:
            raise Disconnected(f"{self._broker.url} is away, {len(self._buffer)} events are still buffered")
        await self._broker.flush()

    async def close(self) -> None:
        """Send what is buffered if the broker is there; else say how much is lost."""
        sending, self._sending = self._sending, None
        if sending is None:
            return
        if self._broker.online:
            await asyncio.wait([sending], timeout=self._options.timeout)
        sending.cancel()
        await asyncio.wait([sending])
        if self._buffer:
            log.error("%s: %d buffered events are lost: the broker is away", self._broker.url, len(self._buffer))
            self.failed += len(self._buffer)
            self._buffer.clear()
            self._buffered_bytes = 0

    def _away(self) -> Disconnected | None:
        """Why an event is not to be sent now."""
        if self._waits or (self._broker.online and not self._buffer):
            return None
        return Disconnected(f"{self._broker.url} is away")

    def _set_aside(self, message: Message, error: Exception) -> Exception | None:
        """Buffer an event that was not taken; where that cannot be, the error for who published it."""
        if self._options.while_away == "buffer" and isinstance(error, Disconnected) and self._broker.connected:
            if self._has_room(message):
                self._keep(message)
                return None
            error = Disconnected(f"{error}, and the buffer is full, {len(self._buffer)} events")
        self.failed += 1
        return error

    def _has_room(self, message: Message) -> bool:
        size = self._buffered_bytes + len(message.body)
        return len(self._buffer) < self._options.buffer and size <= self._options.buffer_bytes

    def _keep(self, message: Message) -> None:
        self._buffer.append(message)
        self._buffered_bytes += len(message.body)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_buffered(), name="eventmicro buffered events")

    async def _publish_buffered(self, message: Message) -> None:
        seconds = self._options.timeout
        try:
            await self._broker.publish(message, timeout=seconds)
        except MessageTooLarge:
            if not isinstance(message, LargeMessage):
                raise
            event, left = await store(self._broker, message, seconds)
            await self._broker.publish(event, timeout=left)

    async def _send_buffered(self) -> None:
        while self._buffer and self._broker.connected:
            message = self._buffer[0]
            try:
                await self._publish_buffered(message)
                self.confirmed += 1
            except (Disconnected, Unconfirmed):  # nobody is there to be asked, and twice is better than not at all
                await asyncio.sleep(PAUSE)
                continue
            except Exception as error:  # its own fault, whatever it is: those behind it are to go on
                self.failed += 1
                log.error("a buffered event is lost: %s", error, exc_info=not isinstance(error, EventMicroError))
            self._buffer.popleft()
            self._buffered_bytes -= len(message.body)
