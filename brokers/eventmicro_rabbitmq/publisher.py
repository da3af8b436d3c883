"""Publisher: publishes with confirms, any number of messages on their way at the same time."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from itertools import count

from pamqp.commands import Basic

from eventmicro.errors import Disconnected, NotStored, TransportError, Unconfirmed
from eventmicro_rabbitmq.connection.channel import Channel, close_channel, open_channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.frames import Properties, publish_frames
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.errors import DriverError, plain, translate, why_not_stored

# How often overdue messages are looked for, in seconds.
SWEEP = 0.1


class Unroutable(NotStored):
    """No queue takes the message."""


class Confirm(asyncio.Future[None]):
    """A message on its way: done when the server has it, or has refused it."""

    def __init__(self, subject: str, id: str, deadline: float) -> None:
        super().__init__()
        self.subject = subject
        self.id = id
        self.deadline = deadline
        self.returned: TransportError | None = None

    def settle(self, error: Exception | None) -> None:
        if self.done():  # who waited for it was cancelled
            return
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)
            self.exception()  # who waits for several may be gone


class Publisher:
    """One channel for publishing; it is opened again whenever it was lost.

    Args:
        link: the connection.
        prepare: what must be there before anything is published.
    """

    def __init__(self, link: Link, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        self._link = link
        self._prepare = prepare
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._tag = 0
        self._waiting: OrderedDict[int, Confirm] = OrderedDict()  # the first of a dict is far where many were taken out
        self._sweep: asyncio.TimerHandle | None = None
        self._prefix = secrets.token_hex(8)
        self._numbers = count()
        self._loop = asyncio.get_running_loop()

    def twin(self) -> Publisher:
        """Another one to the same exchange, on a channel of its own."""
        return Publisher(self._link, self._prepare)

    def new_id(self) -> str:
        """An id that no other message has."""
        return f"{self._prefix}{next(self._numbers):x}"

    def __len__(self) -> int:
        """How many messages are not confirmed yet."""
        return len(self._waiting)

    async def send(
        self, exchange: str, key: str, properties: Properties, body: bytes, *, mandatory: bool, deadline: float
    ) -> Confirm:
        """Send a message; the future that is returned says whether the server has stored it.

        Args:
            deadline: until when to try, in the event loop's time.

        Raises:
            Disconnected, NotStored, MessageTooLarge, UsageError: it was not sent.
        """
        channel = self._channel
        if channel is None or channel.link.blocked or channel.link.is_full:
            channel = await self._room(key, deadline)
        confirm = Confirm(key, properties.message_id or "", deadline)
        number = channel.number
        data = publish_frames(number, exchange, key, properties, body, mandatory, channel.frame_max)
        self._tag += 1
        self._waiting[self._tag] = confirm
        channel.link.send(data)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP, self._give_up_overdue)
        return confirm

    async def begin_anew(self) -> None:
        """Take another channel for what comes next; who has something on its way hears from RabbitMQ how it stands."""
        channel = self._channel
        if channel is not None and not self._waiting:
            await close_channel(channel)

    async def idle(self) -> None:
        """Return when nothing is on its way any more of what is now."""
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()))

    def close(self) -> None:
        """Let go of what is still on its way."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._fail_all(ConnectionError("closed"))

    async def _room(self, subject: str, deadline: float) -> Channel:
        """The channel, when it is open and the server takes messages."""
        link = self._link
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    connection = await link.wait()
                    channel = self._channel
                    if channel is None:
                        await self._open(connection)
                    elif connection.blocked:
                        await connection.unblocked.wait()
                    elif connection.is_full:
                        await connection.room()
                    else:
                        return channel
        except TimeoutError:
            raise self._why_not_sent(subject) from None

    def _why_not_sent(self, subject: str) -> TransportError:
        connection = self._link.connection
        if connection is not None and connection.blocked:
            return NotStored(f"{subject}: RabbitMQ takes nothing: {_alarm(connection)}")
        return Disconnected(f"{subject}: RabbitMQ is away; it was not sent")

    async def _open(self, connection: Connection) -> None:
        """Open the channel, unless another one does just now."""
        async with self._opening:
            if self._channel is not None:
                return
            try:
                await self._prepare(connection)
                channel = await open_channel(connection, confirms=True)
            except DriverError as error:
                if connection.lost.done():
                    return
                raise translate(error, "publishing") from error
            self._use(channel)

    def _use(self, channel: Channel) -> None:
        if channel.why_ended is None:
            channel.on_confirm = self._on_confirm
            channel.on_return = self._on_return
            channel.on_ended = self._on_ended
            self._channel, self._tag = channel, 0

    def _on_ended(self, why: BaseException) -> None:
        self._channel = None
        self._fail_all(why)

    def _fail_all(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        alone = len(waiting) == 1
        for confirm in waiting.values():
            refused = why_not_stored(error, confirm.subject, alone=alone)
            confirm.settle(refused or Unconfirmed(f"{confirm.subject}: {plain(error)}; RabbitMQ may have it or not"))

    def _on_confirm(self, tag: int, multiple: bool, stored: bool) -> None:
        if not multiple:
            self._confirmed(tag, stored)
            return
        while self._waiting and (first := next(iter(self._waiting))) <= tag:
            self._confirmed(first, stored)

    def _confirmed(self, tag: int, stored: bool) -> None:
        confirm = self._waiting.pop(tag, None)
        if confirm is None:  # it was given up as overdue
            return
        if stored:
            confirm.settle(confirm.returned)
        else:
            confirm.settle(
                NotStored(f"{confirm.subject}: RabbitMQ refuses it: a queue that it goes to is full or away")
            )

    def _on_return(self, frame: Basic.Return, properties: Properties) -> None:
        """A mandatory message that no queue takes; its confirm follows."""
        for confirm in self._waiting.values():
            is_it = confirm.subject == frame.routing_key and confirm.id == properties.message_id
            if is_it and confirm.returned is None:
                confirm.returned = Unroutable(f"{confirm.subject}: no queue takes it: {frame.reply_text}")
                return

    def _give_up_overdue(self) -> None:
        now = self._loop.time()
        for tag in [tag for tag, confirm in self._waiting.items() if confirm.deadline <= now or confirm.done()]:
            confirm = self._waiting.pop(tag)
            confirm.settle(Unconfirmed(f"{confirm.subject}: not confirmed in time{self.alarm()}"))
        self._sweep = self._loop.call_later(SWEEP, self._give_up_overdue) if self._waiting else None

    def alarm(self) -> str:
        """Why RabbitMQ takes nothing, where it says so, to be added to what is said of that."""
        connection = self._link.connection
        return f": {_alarm(connection)}" if connection is not None and connection.blocked else ""


def _alarm(connection: Connection) -> str:
    return f"an alarm stops all publishing there: {connection.blocked}"
