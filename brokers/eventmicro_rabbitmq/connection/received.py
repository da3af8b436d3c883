"""What comes on a connection: the stream that aiormq opens it with, and from then on the frames that are left to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiormq.exceptions import AMQPConnectionError

from eventmicro_rabbitmq.connection.reader import FrameReader, Recipient
from eventmicro_rabbitmq.errors import plain

Frame = tuple[int, int, Any]
"""How long it is, its channel, what it says."""

# How many frames may wait for aiormq; with more, nothing further is read.
FRAMES = 1000


class Frames(AsyncIterator[Frame]):
    """Reads what comes as it comes: events and confirms go to their channels at once, the rest waits for aiormq.

    Args:
        channels: the connection's, by number.
        on_life: called whenever something comes.
        pause: called with True where too much waits to read more, and with False when that is over.
    """

    def __init__(
        self,
        channels: Mapping[int, Recipient | None],
        on_life: Callable[[], None],
        pause: Callable[[bool], None],
    ) -> None:
        self._on_life = on_life
        self._pause = pause
        self._read = FrameReader(channels, self._leave).feed
        self._waiting: deque[Frame] = deque()
        self._news = asyncio.Event()
        self._paused = False
        self._why_ended: Exception | None = None

    def feed(self, chunk: bytes) -> None:
        """Take what comes."""
        if self._why_ended is not None:
            return
        self._on_life()
        try:
            self._read(chunk)
        except Exception as error:
            self.end(error)

    def end(self, why: Exception) -> None:
        """Take no more; aiormq is told why, when it has had all that waits."""
        if self._why_ended is None:
            self._why_ended = why
            self._news.set()

    async def __anext__(self) -> Frame:
        while not self._waiting:
            if self._why_ended is not None:
                raise self._why_ended
            self._go_on_reading()
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def _leave(self, size: int, channel: int, frame: Any) -> None:
        self._waiting.append((size, channel, frame))
        self._news.set()
        if len(self._waiting) > FRAMES and not self._paused:
            self._paused = True
            self._pause(True)

    def _go_on_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._pause(False)


class Stream(asyncio.StreamReader):
    """A stream that is read by `Frames` from some time on, and by who asks it until then."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit, loop=asyncio.get_running_loop())
        self._limit_of_read = limit
        self._frames: Frames | None = None

    async def read_by(self, frames: Frames) -> None:
        """Have it read by them; what waits to be read goes there at once."""
        inside: Any = self
        while inside._buffer:
            frames.feed(await self.read(self._limit_of_read))
        self._frames = frames
        if (error := self.exception()) is not None:
            self.set_exception(error)
        elif self.at_eof():
            self.feed_eof()

    def feed_data(self, data: Any) -> None:
        if self._frames is None:
            super().feed_data(data)
        else:
            self._frames.feed(data)

    def feed_eof(self) -> None:
        super().feed_eof()
        if self._frames is not None:
            self._frames.end(AMQPConnectionError("the server has ended it"))

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        if self._frames is not None:
            self._frames.end(AMQPConnectionError(plain(exc)))
