"""Requests and replies on their way out, on the channel on which the direct replies to our requests come."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Mapping

from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Basic

from eventmicro.errors import Disconnected, MessageTooLarge, UsageError
from eventmicro_rabbitmq.calls.declaring import CallDeclarer
from eventmicro_rabbitmq.calls.own import OwnQueue
from eventmicro_rabbitmq.calls.received import read_reply, read_returned
from eventmicro_rabbitmq.calls.writing import Outgoing, write
from eventmicro_rabbitmq.connection.channel import Channel, borrowed_channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties, message_frames
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.consuming.consumer import Consumer
from eventmicro_rabbitmq.consuming.incoming import DIRECT_REPLY
from eventmicro_rabbitmq.errors import DriverError, plain, translate
from eventmicro_rabbitmq.rights import not_allowed
from eventmicro_rabbitmq.settings import RabbitSettings
from eventmicro_rabbitmq.topology import INBOX, call_exchange

log = logging.getLogger(__name__)

# How long `send` waits for a connection that takes nothing, in seconds.
SEND_TIMEOUT = 5.0
# How many bytes of requests and replies wait here for a connection that is away.
HELD = 1024 * 1024


class Sender:
    """Sends what is not kept, from the first use to `close`. Nothing is confirmed: who awaits a reply knows by that."""

    def __init__(self, link: Link, declarer: CallDeclarer, own: OwnQueue, settings: RabbitSettings, url: str) -> None:
        self._link = link
        self._declarer = declarer
        self._own = own
        self._exchange = call_exchange(settings.exchange)
        self._max_payload = settings.max_payload
        self._user = settings.user
        self._url = url
        self._consumer = Consumer(
            link,
            "direct replies",
            0,
            declarer.timeout,
            self._prepare,
            self._take,
            self._ended,
            self._begun,
            no_ack=True,
        )
        self._opened = False
        self._opening = asyncio.Lock()
        self._channel: Channel | None = None
        self._held: deque[Outgoing] = deque()
        self._held_size = 0
        self._releasing: asyncio.Task[None] | None = None
        self._tried: set[str] = set()

    def inbox(self) -> str:
        """A subject that nobody else has."""
        return f"{INBOX}.{secrets.token_urlsafe(16)}"

    async def open(self, connection: Connection) -> None:
        """Be ready to send, and for direct replies.

        Raises:
            UsageError, Disconnected, TimeoutError, DriverError: it cannot be had.
        """
        async with self._opening:
            if not self._opened:
                await self._consumer.open(connection)
                self._opened = True

    async def may_call(self) -> None:
        """Refuse a user who may not send requests, as RabbitMQ would end the channel at each, and tell no caller.

        Raises:
            UsageError, Disconnected, DriverError: as it says.
        """
        await self._try_right(self._exchange, "calls are made")

    async def may_answer(self) -> None:
        """Refuse a user who may not answer requests; errors as of `may_call`."""
        await self._try_right("", "calls are answered")

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> bool:
        """Send, where there is nothing to wait for; whether it was done."""
        channel = self._channel
        if channel is None or self._held or len(body) > self._max_payload or channel.link.is_full:
            return False
        if channel.link.blocked:
            return False
        self._put(channel, self._write(subject, body, headers, reply))
        return True

    async def send(self, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        """Send; while the connection is away it is held, as far as there is room.

        Raises:
            MessageTooLarge, UsageError: it cannot be sent.
            Disconnected: it is away, or takes nothing, and there is no room.
        """
        if len(body) > self._max_payload:
            text = f"{subject}: {len(body)} bytes, over the {self._max_payload} of max_payload"
            raise MessageTooLarge(text, limit=self._max_payload)
        outgoing = self._write(subject, body, headers, reply)
        if not self._opened:
            await self._open_within(subject)
        channel = self._channel
        if channel is not None and channel.link.is_full and not channel.link.blocked:
            await self._wait_for_room(channel, subject)
            channel = self._channel
        if channel is None or self._held or channel.link.blocked:
            self._hold(outgoing)
        else:
            self._put(channel, outgoing)

    async def flush(self) -> None:
        """Return when RabbitMQ has taken in what was sent."""
        if self._opened:
            await self._consumer.stands()
            if (channel := self._channel) is not None:
                await channel.basic_qos(prefetch_count=0)

    async def close(self) -> None:
        """End it when RabbitMQ has what was sent."""
        if self._releasing is not None:
            self._releasing.cancel()
            await asyncio.wait([self._releasing])
        if self._held:
            log.warning("%s: closed; %d requests or replies have not left", self._url, len(self._held))
        await self._consumer.close()

    # -- the channel -------------------------------------------------------------------------------------------

    async def _prepare(self, channel: Channel) -> str:
        await self._declarer.call_exchange(channel.link)
        channel.on_return = self._take_returned
        return DIRECT_REPLY

    def _begun(self, channel: Channel) -> None:
        self._channel = channel
        self._release()

    def _ended(self) -> None:
        self._channel = None

    async def _open_within(self, subject: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self.open(await self._link.wait())
        except TimeoutError:
            raise Disconnected(f"{subject}: {self._url} was away for {SEND_TIMEOUT:g} s") from None
        except DriverError as error:
            raise translate(error, subject) from error

    async def _wait_for_room(self, channel: Channel, subject: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                while channel.link.is_full and not channel.link.lost.done():
                    await channel.link.room()
        except TimeoutError:
            raise Disconnected(f"{subject}: {self._url} takes nothing and the outgoing buffer is full") from None

    async def _try_right(self, exchange: str, what: str) -> None:
        """RabbitMQ says nothing of a right but by ending the channel of who does not have it: a message to nobody."""
        if exchange in self._tried:
            return
        name = exchange or "amq.default"
        connection = await self._link.wait()
        async with borrowed_channel(connection, f"exchange {name!r}", self._declarer.timeout) as channel:
            data = message_frames(
                channel.number, exchange, f"{INBOX}.nobody", b"\x00\x00", b"", False, channel.frame_max
            )
            connection.send(data)
            try:
                await channel.basic_qos(prefetch_count=0)
                channel.check()
            except DriverError as error:
                if connection.lost.done():
                    raise
                if isinstance(error, ChannelNotFoundEntity):
                    raise UsageError(
                        f"{what} by publishing to the exchange {name!r}, which is missing: let it be made by "
                        f"`eventmicro declare`, or set declare=true"
                    ) from error
                said = (
                    f"{what} by publishing to the exchange {name!r}, which RabbitMQ refuses: {plain(error)}; "
                    f"give the user {self._user!r} the right to write to {name}"
                )
                raise not_allowed(plain(error), said, exchange=("write",)) from error
        self._tried.add(exchange)

    # -- what goes out -----------------------------------------------------------------------------------------

    def _write(self, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> Outgoing:
        return write(self._exchange, subject, body, headers, reply, direct=self._own.has_inbox(reply))

    def _put(self, channel: Channel, outgoing: Outgoing) -> None:
        channel.link.send(message_frames(channel.number, *outgoing, channel.frame_max))

    def _hold(self, outgoing: Outgoing) -> None:
        size = len(outgoing.body) + len(outgoing.described)
        if self._held_size + size > HELD and self._held:
            raise Disconnected(f"{outgoing.key}: {self._url} is away and the outgoing buffer is full")
        self._held.append(outgoing)
        self._held_size += size
        channel = self._channel
        if channel is not None and self._releasing is None:  # there is an alarm
            self._releasing = asyncio.create_task(self._release_after(channel.link))

    async def _release_after(self, connection: Connection) -> None:
        try:
            await connection.unblocked.wait()
        finally:
            self._releasing = None
        self._release()

    def _release(self) -> None:
        """Send what was held, in its order."""
        channel = self._channel
        if channel is None or channel.link.blocked:
            return
        held, self._held, self._held_size = self._held, deque(), 0
        for outgoing in held:
            try:
                self._put(channel, outgoing)
            except MessageTooLarge as error:
                log.warning("a request or a reply that was held is too large: %s", error)

    # -- what comes back ---------------------------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        self._own.hand_over([read_reply(event) for event in events])

    def _take_returned(self, frame: Basic.Return, properties: Properties) -> None:
        self._own.hand_over([read_returned(frame, properties)])
