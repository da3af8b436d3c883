"""Where a handler's messages go: in frames to a side that speaks them, as plain messages to any other client."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from eventmicro.broker import Broker, Subscription, sends_at_once
from eventmicro.errors import EventMicroError, InternalError, MessageTooLarge
from eventmicro.message import Delivery, Message
from eventmicro.rpc.streams.channel import Channel
from eventmicro.wire import CONTENT_TYPE, NO_RESPONDERS, STATUS, header

# A client that cannot give credit gets no more than so many messages, and bytes of them, in so many seconds.
PACE_SECONDS = 0.1
PACE_ITEMS = 1000
PACE_BYTES = 1024 * 1024
# What is asked for without a reply subject nobody can read: it is cancelled after so many seconds, if it has not ended.
UNREAD_SECONDS = 10.0


class Answering(Protocol):
    """One stream's way back to its caller."""

    @property
    def is_over(self) -> bool:
        """Whether the caller is told nothing any more: it has gone, or the stream has failed."""
        ...

    @property
    def failure(self) -> EventMicroError | None:
        """How the stream has ended, where not by its handler."""
        ...

    def announce(self, content_type: str) -> None:
        """What is sent from now on is in this content type."""
        ...

    def send(self, item: bytes) -> Awaitable[None] | None:
        """Send a message; what to await where there is no room for more."""
        ...

    async def end(self) -> None:
        """Nothing follows."""
        ...

    async def fail(self, body: bytes, headers: dict[str, str] | None) -> None:
        """The stream has failed, with this error in the form of a reply."""
        ...


class Framed:
    """Answers in frames."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._outgoing = channel.outgoing

    @property
    def is_over(self) -> bool:
        return self._channel.over

    @property
    def failure(self) -> EventMicroError | None:
        return self._channel.failure

    def announce(self, content_type: str) -> None:
        self._outgoing.announce(content_type)

    def send(self, item: bytes) -> Awaitable[None] | None:
        return None if self._outgoing.put(item) else self._outgoing.put_later(item)

    async def end(self) -> None:
        if not self._channel.over:  # else the last frame says how it has failed, and may wait yet
            self._outgoing.end()
        await self._channel.finish()

    async def fail(self, body: bytes, headers: dict[str, str] | None) -> None:
        self._outgoing.end(body)
        with suppress(EventMicroError):  # the other side is told of that instead
            await self._channel.finish()


class Plain:
    """Answers a client that knows nothing of frames: each message as it is, an empty one at the end (ADR-47).

    It cannot say how fast it reads, so there is a pace. It is gone where the broker says that nobody listens.

    Args:
        reply: where it awaits the messages; empty: nowhere.
        gone: is told of that.
    """

    def __init__(self, broker: Broker, reply: str, gone: Callable[[], object]) -> None:
        self.is_over = not reply
        self.failure: EventMicroError | None = None
        self._gone = gone
        self._broker = broker
        self._try_send = None if (able := sends_at_once(broker)) is None else able.try_send
        self._reply = reply
        self._probe = ""
        self._headers: dict[str, str] | None = None
        self._loop = asyncio.get_running_loop()
        self._unread = None if reply else self._loop.call_later(UNREAD_SECONDS, self._tell_gone)
        self._pace_ends = 0.0
        self._items = self._bytes = 0

    def announce(self, content_type: str) -> None:
        self._headers = {CONTENT_TYPE: content_type}

    def send(self, item: bytes) -> Awaitable[None] | None:
        if not item:
            raise InternalError("an empty message would be taken for the end by a client that knows nothing of frames")
        if self.is_over:
            return asyncio.sleep(PACE_SECONDS / PACE_ITEMS)  # about to be cancelled, or nobody asked for an answer
        now = self._loop.time()
        probe = ""
        if now >= self._pace_ends:
            self._pace_ends, self._items, self._bytes = now + PACE_SECONDS, 0, 0
            probe = self._probe
        self._items += 1
        self._bytes += len(item)
        if self._items > PACE_ITEMS or self._bytes > max(PACE_BYTES, len(item)):
            return self._send_later(item)
        if self._try_send is not None and self._try_send(self._reply, item, self._headers, probe):
            return None
        return self._broker.send(Message(self._reply, item, self._headers, probe))

    async def begin(self, probes: Probes) -> None:
        """Find out from now on whether the client has gone."""
        if self._unread is None:
            self._probe = await probes.begin(self._tell_gone)

    def forget(self, probes: Probes) -> None:
        """Find it out no more."""
        probes.end(self._probe)
        if self._unread is not None:
            self._unread.cancel()

    def _tell_gone(self) -> None:
        self.is_over = True
        self._gone()

    async def end(self) -> None:
        await self._send_last(b"", None)

    async def fail(self, body: bytes, headers: dict[str, str] | None) -> None:
        await self._send_last(body, headers)

    async def _send_later(self, item: bytes) -> None:
        await asyncio.sleep(self._pace_ends - self._loop.time())
        if (waits := self.send(item)) is not None:
            await waits

    async def _send_last(self, body: bytes, headers: dict[str, str] | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        try:
            await self._broker.send(Message(self._reply, body, headers))
        except MessageTooLarge:  # an error, whose headers say enough
            await self._broker.send(Message(self._reply, b"", headers))


class Probes:
    """What tells of plain clients that have gone: the broker answers that nobody listens, where it can.

    A message of such a stream has a reply subject from here now and then, to which only the broker says something.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._inbox = ""
        self._gone: dict[str, Callable[[], None]] = {}
        self._subscription: Subscription | None = None
        self._opening = asyncio.Lock()

    async def begin(self, gone: Callable[[], None]) -> str:
        """Where the broker is to say that a client has gone; `gone` is told. Empty: it never says so."""
        if not self._broker.capabilities.no_responders:
            return ""
        async with self._opening:
            if self._subscription is None:
                self._inbox = self._broker.inbox()
                self._subscription = await self._broker.subscribe(f"{self._inbox}.>", self)
        subject = f"{self._inbox}.{secrets.token_hex(8)}"  # a client sees its own, and is not to guess those of others
        self._gone[subject] = gone
        return subject

    def end(self, subject: str) -> None:
        """Nobody waits for that any more."""
        self._gone.pop(subject, None)

    async def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            await self._subscription.drain()

    def __call__(self, delivery: Delivery) -> None:
        if header(delivery.headers, STATUS) == NO_RESPONDERS and not delivery.body:
            gone = self._gone.pop(delivery.subject, None)
            if gone is not None:
                gone()
