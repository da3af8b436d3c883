"""aiormq's connection with a shorter way in and out. All that is touched of its inside is here and in channel.py.

aiormq would start a task for each message that comes, and take a lock, a queue and a random number for each that goes.
Here `Frames` reads what comes, and hands messages over where it has read them, and frames are written in one piece.
Logging in, heartbeats and calls to the server are aiormq's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import count
from typing import Any, cast

import aiormq.connection
from aiormq.exceptions import ConnectionNotAllowed
from pamqp import commands
from yarl import URL

from eventmicro.errors import UsageError
from eventmicro_rabbitmq.connection.reader import Recipient
from eventmicro_rabbitmq.connection.received import FRAMES, Frames, Stream
from eventmicro_rabbitmq.errors import DriverError, plain

# How long a connection that is closed is waited for, in seconds; then it is cut.
CLOSE_TIMEOUT = 2.0
# How many bytes may wait to be read, and to be sent before publishers wait, a connection.
BUFFER = 256 * 1024
# How many bytes are read at once, where asyncio lets us say so: others may run before the next.
READ_SIZE = 64 * 1024
# How often in a heartbeat is looked whether the event loop stands still.
BEATS = 4
# RabbitMQ's own limit for the channels of a connection, where it says none.
CHANNELS = 2047

# Whether what aiormq logs is about a connection of ours, of which we tell in our own words.
_ours: ContextVar[bool] = ContextVar("eventmicro_rabbitmq", default=False)
for _name in ("aiormq.connection", "aiormq.channel"):
    logging.getLogger(_name).addFilter(lambda record: not _ours.get() or record.levelno < logging.INFO)


class Transport(aiormq.connection.TransportFactory):
    """Opens the socket, and can cut it without a word."""

    def __init__(self, context: ssl.SSLContext | None, hostname: str | None) -> None:
        self._context = context
        self._hostname = hostname
        self.writer: asyncio.StreamWriter | None = None
        self.stream = Stream(BUFFER)

    async def create(self, url: URL, **__: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        hostname = (self._hostname or url.host) if self._context else None
        loop: Any = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self.stream, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol,
            url.host,
            url.port,
            ssl=self._context,
            server_hostname=hostname,
            ssl_shutdown_timeout=CLOSE_TIMEOUT if self._context else None,  # a silent peer holds it up for so long
        )
        if hasattr(transport, "max_size"):
            transport.max_size = READ_SIZE
        self.writer = asyncio.StreamWriter(transport, protocol, self.stream, loop)
        self.writer.transport.set_write_buffer_limits(high=BUFFER)  # TLS lets twice as much wait before it says so
        return self.stream, self.writer

    def pause(self, paused: bool) -> None:
        """Read no more, or go on."""
        transport: Any = self.writer and self.writer.transport
        if transport is not None and not transport.is_closing():
            (transport.pause_reading if paused else transport.resume_reading)()

    def abort(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()


class Connection(aiormq.connection.Connection):
    """A connection that says when it is lost, and why the server takes nothing."""

    FRAME_BUFFER_SIZE = FRAMES  # where it is full aiormq drops its answer to the end of a channel
    HEARTBEAT_GRACE_MULTIPLIER = 2
    READER_CLOSE_TIMEOUT = 1

    def __init__(self, url: URL, transport: Transport) -> None:
        super().__init__(url, transport_factory=transport)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.blocked = ""
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self._transport = transport
        self._beat: asyncio.TimerHandle | None = None
        self._due = self._late = 0.0
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._numbers = count()

    @property
    def major(self) -> int:
        """The first number of the server's version; 3 where it says none."""
        number, _, _ = str(self.server_properties.get("version", "")).partition(".")
        return int(number) if number.isdigit() else 3

    def new_number(self) -> int:
        """The number of a new channel, not used for long: aiormq calls one free that the server has not let go yet.

        Raises:
            UsageError: there are as many channels as the server allows.
        """
        allowed = self.connection_tune.channel_max or CHANNELS
        if len(self.channels) >= allowed:
            raise UsageError(f"RabbitMQ allows {allowed} channels a connection, one a subscription")
        return next(n for n in (1 + i % allowed for i in self._numbers) if n not in self.channels)

    def create_task(self, coro: Any) -> Any:
        with ours():
            return super().create_task(coro)

    @property
    def heartbeat(self) -> float:
        """How long RabbitMQ is content without a sign of life, in seconds; 0: for ever."""
        return float(self.connection_tune.heartbeat or 0)

    @property
    def stood_still(self) -> float:
        """For how many seconds nothing has run here until a moment ago, where RabbitMQ is not content with that; 0: it
        is. It is the event loop that stood still, by a handler that blocks it, and not the connection.
        """
        late = max(self._late, self.loop.time() - self._due if self._beat is not None else 0.0)
        return late if 0 < self.heartbeat < late else 0.0

    def watch_the_loop(self) -> None:
        """Note from now on when it stands still."""
        if self.heartbeat > 0:
            self._due = self.loop.time()
            self._tick()

    def _tick(self) -> None:
        every = self.heartbeat / BEATS
        self._late = self.loop.time() - self._due
        self._due = self.loop.time() + every
        self._beat = self.loop.call_later(every, self._tick)

    def send(self, frames: bytes) -> None:
        """Send whole frames; what is sent in one turn of the event loop travels in one piece, unless it is much."""
        if not self._outgoing:
            self.loop.call_soon(self.send_now)
        self._outgoing.append(frames)
        self._outgoing_size += len(frames)
        if self._outgoing_size > BUFFER:  # from now on `is_full` counts it
            self.send_now()

    def send_now(self) -> None:
        """Send what waits for the end of this turn."""
        frames, self._outgoing, self._outgoing_size = self._outgoing, [], 0
        writer = self._transport.writer
        if frames and writer is not None and not writer.is_closing():
            writer.write(b"".join(frames))

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that who sends more should wait for `room`."""
        writer = self._transport.writer
        return writer is not None and writer.transport.get_write_buffer_size() > BUFFER

    async def room(self) -> None:
        """Return when less waits to be sent, or the connection is lost; not before others have run."""
        await asyncio.sleep(0)  # `drain` alone returns at once where the transport does not say that it is full
        if self._transport.writer is not None:
            with suppress(OSError):
                await self._transport.writer.drain()

    async def end(self) -> None:
        """Close it in order, or cut it where that takes too long."""
        self.send_now()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                with cancelled_by_us_only():
                    await self.close()
        except (TimeoutError, *DriverError):
            self._transport.abort()
            with suppress(TimeoutError, *DriverError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    with cancelled_by_us_only():
                        await self.close()
        finally:
            self._transport.abort()

    def _on_reader_done(self, task: asyncio.Task[Any]) -> None:
        if not self.lost.done():
            why = "no heartbeat" if task.cancelled() else plain(task.exception() or EOFError("closed"))
            self.lost.set_result(f"{why}{self._why_so()}")
        if self._beat is not None:
            self._beat.cancel()
        self.blocked = ""
        self.unblocked.set()  # who waits for it is to go on with the next connection
        channels: list[Any] = list(self.channels.values())
        for channel in channels:
            channel.end(ConnectionError(self.lost.result()))
        super()._on_reader_done(task)

    def _why_so(self) -> str:
        if (still := self.stood_still) == 0:
            return ""
        return (
            f"; the event loop stood still for {still:.0f} s, by a handler that blocks it, and a connection without a "
            f"sign of life is ended: the heartbeat is {self.heartbeat:g} s; let it await asyncio.to_thread(...)"
        )

    async def _Connection__reader(self, _: aiormq.connection.FrameReceiver) -> None:  # noqa: N802
        inside: Any = super()
        stream, channels = self._transport.stream, cast("dict[int, Recipient | None]", self.channels)
        frames = Frames(channels, self._is_alive, self._transport.pause)
        try:
            await stream.read_by(frames)
            await inside._Connection__reader(frames)
        finally:
            frames.end(EOFError("closed"))

    def _is_alive(self) -> None:
        """Whatever comes says so, for heartbeats may be far behind it."""
        inside: Any = self
        inside._Connection__last_frame_time = self.loop.time()

    async def _Connection__handle_connection_blocked(self, frame: commands.Connection.Blocked) -> None:  # noqa: N802
        self.blocked = str(frame.reason)
        self.unblocked.clear()

    async def _Connection__handle_connection_unblocked(self, _: commands.Connection.Unblocked) -> None:  # noqa: N802
        self.blocked = ""
        self.unblocked.set()

    @staticmethod
    async def _rpc(
        request: Any,
        writer: asyncio.StreamWriter,
        frame_receiver: aiormq.connection.FrameReceiver,
        wait_response: bool = True,
    ) -> Any:
        # aiormq would say that it got an unexpected frame where the virtual host is refused.
        receiver: Any = _Refusable(frame_receiver)
        return await aiormq.connection.Connection._rpc(request, writer, receiver, wait_response)


class _Refusable:
    """Reads frames while a connection is opened, and raises where the server refuses the virtual host."""

    def __init__(self, frames: aiormq.connection.FrameReceiver) -> None:
        self._frames = frames

    async def get_frame(self) -> Any:
        received = await self._frames.get_frame()
        frame = received[2]
        if isinstance(frame, commands.Connection.Close) and frame.reply_code == 530:
            raise ConnectionNotAllowed(frame.reply_text)
        return received


@contextmanager
def ours() -> Iterator[None]:
    """What aiormq logs in here, and in the tasks that it starts, is about a connection of ours."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


@contextmanager
def cancelled_by_us_only() -> Iterator[None]:
    """aiormq cancels what waits for a connection that is lost, though nobody cancelled the one who waits."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection is lost") from None


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it is done: aiormq swallows a cancellation that comes together with an answer."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
