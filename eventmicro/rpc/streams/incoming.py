"""What one side of a stream gets: frames in the order of their numbers, and the messages that wait to be read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from eventmicro.errors import StreamBroken
from eventmicro.rpc.streams.credit import Given
from eventmicro.rpc.streams.frames import Frame


class Incoming:
    """One side's way in.

    Args:
        window: how many bytes may be on their way, and wait to be read; asked anew each time.
        give: tells the other side of more credit.

    Attributes:
        waiting: what waits to be read; a str among it is the content type of what is behind it.
        ended: whether nothing more comes, as the other side has ended it.
        failure: why nothing more comes otherwise.
        readers: the tasks that wait for the next message.
        told: the one that was told of the failure.
    """

    __slots__ = ("_give", "_more", "_number", "_window", "credit", "ended", "failure", "readers", "told", "waiting")

    def __init__(self, window: Callable[[], int], give: Callable[[int, int], None]) -> None:
        self.waiting: deque[bytes | str] = deque()
        self.ended = False
        self.failure: BaseException | None = None
        self.readers: set[asyncio.Task[Any] | None] = set()
        self.told: asyncio.Task[Any] | None = None
        self.credit = Given(window())
        self._window = window
        self._give = give
        self._number = 0
        self._more = asyncio.Event()

    def take(self, frame: Frame) -> None:
        """Take the next frame.

        Raises:
            StreamBroken: it is not the next, or has what may not come.
        """
        self._number += 1
        if frame.number != self._number:
            raise StreamBroken(_out_of_order(frame.number, self._number))
        if not frame.items and not frame.content_type:
            return
        if self.ended:
            raise StreamBroken("a message came after the end")
        if frame.content_type:
            if self.waiting and isinstance(self.waiting[-1], str):  # nothing was in that one
                self.waiting.pop()
            self.waiting.append(frame.content_type)
        if frame.items:
            self.credit.take(frame.items)
            self.waiting.extend(frame.items)
        self._more.set()

    def end(self, failure: BaseException | None = None) -> None:
        """Nothing more comes; what has come can be read yet."""
        if not self.ended and self.failure is None:
            self.ended, self.failure = failure is None, failure
        self._more.set()

    def drop(self) -> None:
        """Nobody reads what waits."""
        self.waiting.clear()

    def spoil(self, failure: BaseException) -> None:
        """What waits cannot be read: whoever reads on is told of that, also where the other side has ended it."""
        self.drop()
        self.ended, self.failure, self.told = False, failure, asyncio.current_task()
        self._more.set()

    async def wait(self) -> None:
        """Return when something waits to be read.

        Raises:
            StopAsyncIteration: the other side has ended it.
            Exception: why nothing more comes.
        """
        while not self.waiting:
            if self.ended:
                raise StopAsyncIteration
            if self.failure is not None:
                self.told = asyncio.current_task()
                raise self.failure.with_traceback(None)
            self._more.clear()
            reader = asyncio.current_task()
            self.readers.add(reader)
            try:
                await self._more.wait()
            finally:
                self.readers.discard(reader)

    def was_read(self, size: int) -> None:
        """A message of so many bytes was read: there is room for others."""
        credit = self.credit
        credit.read_items += 1
        credit.read_bytes += size
        is_low = credit.read_items >= credit.low_items or credit.read_bytes >= credit.low_bytes
        if is_low and not self.ended and self.failure is None:
            self._give(*credit.renew(self._window()))


def _out_of_order(number: int, awaited: int) -> str:
    if number > awaited:
        return f"frame {number} came where {awaited} was awaited: what is between was lost"
    return f"frame {number} came again, or too late, where {awaited} was awaited"
