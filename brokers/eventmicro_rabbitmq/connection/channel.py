"""aiormq's channel, which hands over what comes where it is read, and says when it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiormq.channel
from pamqp.commands import Basic

from eventmicro.errors import Disconnected
from eventmicro_rabbitmq.connection.connection import CLOSE_TIMEOUT, Connection, cancelled_by_us_only, ours
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties, close_frame
from eventmicro_rabbitmq.connection.received import FRAMES
from eventmicro_rabbitmq.errors import plain

log = logging.getLogger(__name__)

# How long the server may take to open a channel, in seconds.
CALL_TIMEOUT = 10.0


def _nothing(*_: Any) -> None:
    """For what a channel does not care about."""


class Channel(aiormq.channel.Channel):
    """A channel that calls back, at once and in order, for each frame that concerns messages, and when it has ended.

    on_ended: called once, with the reason, before the server hears of the end: what is sent behind that costs the
    connection. Nothing else is called after it.
    """

    def __init__(self, connection: Connection, number: int, *, confirms: bool) -> None:
        super().__init__(connection, number, publisher_confirms=confirms, frame_buffer=FRAMES)
        self.link = connection
        self.why_ended: BaseException | None = None
        self.on_events: Callable[[list[Event]], None] = _nothing
        self.on_confirm: Callable[[int, bool, bool], None] = _nothing
        self.on_return: Callable[[Basic.Return, Properties], None] = _nothing
        self.on_ended: Callable[[BaseException], None] = _nothing

    def create_task(self, coro: Any) -> Any:
        with ours():
            return super().create_task(coro)

    @property
    def frame_max(self) -> int:
        return int(self.link.connection_tune.frame_max) or 131_072

    def end(self, why: BaseException) -> None:
        """Send what was sent on it, and call back no more."""
        if self.why_ended is not None:
            return
        self.why_ended = why
        self.link.send_now()
        self.on_events = self.on_confirm = self.on_return = _nothing
        self.on_ended(why)

    def check(self) -> None:
        """Raise why it has ended, if it has."""
        if self.why_ended is not None:
            raise self.why_ended

    def ask_to_close(self) -> None:
        """Ask the server to close it, unless that was done: a second time would cost the connection.

        aiormq would ask again where it does not get the answer in time, or is cancelled.
        """
        inside: Any = self
        if not self._is_closing:
            inside._Channel__close_event.set()
            self.link.send(close_frame(self.number))

    def take_events(self, events: list[Event]) -> None:
        try:
            self.on_events(events)
        except Exception as error:  # it never should; an ack of those after it would settle this one, too
            log.exception("what came with an event on %s could not be handed over", events[0].routing_key)
            self.end(ConnectionError(f"an event could not be handed over: {plain(error)}"))

    def take_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None:
        self.on_confirm(tag, multiple, stored)

    def take_return(self, frame: Basic.Return, properties: Properties) -> None:
        self.on_return(frame, properties)

    async def rpc(self, frame: Any, timeout: float | None = None) -> Any:
        with cancelled_by_us_only():
            return await super().rpc(frame, timeout=timeout)

    async def _Channel__close_after_failure(self, frame: Any) -> None:  # noqa: N802
        # aiormq does so where a call is cancelled, and also where the server has just closed it, and was answered.
        inside: Any = super()
        if not self._is_closing:
            await inside._Channel__close_after_failure(frame)

    @property
    def _is_closing(self) -> bool:
        inside: Any = self
        return bool(inside._Channel__close_event.is_set())

    async def _on_close(self, exc: Any = None) -> None:
        self.end(exc if isinstance(exc, BaseException) else ConnectionError("the channel is closed"))
        await super()._on_close(exc)

    async def _on_close_frame(self, frame: Any) -> None:
        self.end(aiormq.channel.exception_by_code(frame))
        await super()._on_close_frame(frame)

    async def _on_cancel_frame(self, frame: Basic.CancelOk | Basic.Cancel) -> None:
        await super()._on_cancel_frame(frame)
        if isinstance(frame, Basic.Cancel):
            self.end(ConnectionError("the queue was deleted, or has moved"))


async def open_channel(connection: Connection, *, confirms: bool = False) -> Channel:
    """A new channel.

    Raises:
        UsageError: the connection has as many as the server allows.
        TimeoutError, DriverError: the server did not open it.
    """
    number = connection.new_number()
    channel = Channel(connection, number, confirms=confirms)
    connection.channels[number] = channel
    async with asyncio.timeout(CALL_TIMEOUT):
        with ours():
            await channel.open()
    return channel


async def close_channel(channel: Channel) -> None:
    """Close it when the server has got all that was sent on it; where it does not answer, leave it."""
    channel.end(ConnectionError("closed"))
    if not channel.is_closed and not channel.link.lost.done():
        channel.ask_to_close()
        await asyncio.wait([channel.closing], timeout=CLOSE_TIMEOUT)


Asking = Callable[[str], AbstractAsyncContextManager[Channel]]
"""A channel to ask something of the server that it may refuse, by what it is about."""


@asynccontextmanager
async def borrowed_channel(connection: Connection, about: str, timeout: float) -> AsyncIterator[Channel]:
    """A channel for something that may fail: the server then closes it.

    Raises:
        Disconnected: the server did not answer within `timeout` seconds.
    """
    async with answered(about, timeout):
        channel = await open_channel(connection)
        try:
            yield channel
        finally:
            await close_channel(channel)


@asynccontextmanager
async def answered(about: str, timeout: float) -> AsyncIterator[None]:
    """What is to be answered within `timeout` seconds: the setting declare_timeout.

    Raises:
        Disconnected: it was not; it says what it was about.
    """
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise Disconnected(
            f"{about}: RabbitMQ did not answer within {timeout:g} s; where it is busy set a longer declare_timeout"
        ) from None
