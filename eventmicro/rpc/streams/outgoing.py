"""What one side of a stream sends: what a turn of the event loop brings about, in one frame, as far as credit goes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from eventmicro.broker import Broker, sends_at_once
from eventmicro.errors import EventMicroError, MessageTooLarge, UsageError
from eventmicro.message import Message
from eventmicro.rpc.streams.credit import Got
from eventmicro.rpc.streams.frames import Frame, write_frame

# How many messages go into one frame, and how many bytes of them, unless a single one is longer.
FRAME_ITEMS = 128
FRAME_BYTES = 64 * 1024
# How many full ones go out before others have their turn: whoever gives credit for a million is not to stop a service.
FRAMES_A_TURN = 8

Start = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Outgoing:
    """One side's way out.

    Args:
        fail: told of an error for which nothing more can be sent.
        start: starts what waits for the broker, as a task.

    Attributes:
        address, stream: where frames go, and the number of the stream there; empty: that is not known yet.
        closed: why nothing more may be sent; None: it may.
        sent_at: when something was sent last, in the loop's seconds.
    """

    __slots__ = (
        "_backlog",
        "_broker",
        "_ends_turn",
        "_fail",
        "_frame",
        "_frames",
        "_is_empty",
        "_loop",
        "_number",
        "_room",
        "_sending",
        "_size",
        "_start",
        "_try_send",
        "address",
        "closed",
        "credit",
        "sent_at",
        "stream",
    )

    def __init__(self, broker: Broker, fail: Callable[[EventMicroError], None], start: Start) -> None:
        self.address = ""
        self.stream = 0
        self.credit = Got()
        self.closed: Exception | None = None
        self._broker = broker
        self._try_send = None if (able := sends_at_once(broker)) is None else able.try_send
        self._fail = fail
        self._start = start
        self._loop = asyncio.get_running_loop()
        self.sent_at = self._loop.time()
        self._number = 0
        self._start_frame()
        self._frames = 0  # how many were full in this turn of the loop
        self._ends_turn = False  # whether something is done at its end
        self._backlog: deque[Frame] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    # -- messages ----------------------------------------------------------------------------------------------

    def put(self, item: bytes) -> bool:
        """Send a message, unless there is no credit, or the broker takes nothing, or others are to have their turn;
        whether it was done.

        Raises:
            MessageTooLarge: over the broker's limit.
            Exception: why nothing more may be sent.
        """
        if self.closed is not None:
            raise self.closed.with_traceback(None)
        credit = self.credit
        if credit.items >= credit.item_limit or credit.bytes >= credit.byte_limit:
            return False
        if self._sending is not None or self._frames >= FRAMES_A_TURN:
            return False
        size = len(item)
        if self._size and self._size + size > FRAME_BYTES:
            self._flush()
            if self._sending is not None:
                return False
        credit.items += 1
        credit.bytes += size
        self._size += size
        items = self._frame.items
        items.append(item)
        if not self._ends_turn:
            self._flush_soon()
        if self._size >= FRAME_BYTES or len(items) >= FRAME_ITEMS:
            self._frames += 1
            self._flush()
        else:
            self._is_empty = False
        return True

    async def put_later(self, item: bytes) -> None:
        """Send a message as soon as `put` may do it; errors as of that."""
        while not self.put(item):
            self._room.clear()
            await self._room.wait()

    async def sent(self) -> None:
        """Return when the broker has what it did not take at once; errors as of `put`."""
        while self._sending is not None:
            await asyncio.wait([self._sending])
        if self.closed is not None and not isinstance(self.closed, UsageError):  # that one is about what is sent later
            raise self.closed.with_traceback(None)

    def announce(self, content_type: str) -> None:
        """What is put from now on is in this content type."""
        if self._frame.items:
            self._flush()
        self._frame.content_type = content_type

    def end(self, error: bytes | None = None) -> None:
        """Nothing follows; with an error: the stream has failed."""
        self._frame.end, self._frame.error = error is None, error
        self._flush_soon()

    def end_with(self, last: Frame) -> None:
        """Send this as the last frame, in place of all that has not gone out."""
        self._backlog.clear()
        self._frame, self._is_empty = last, False
        self._try_flush()

    def close(self, why: Exception) -> None:
        """Take no more; whoever waits for room is told why."""
        if self.closed is None:
            self.closed = why
            self._room.set()

    async def finish(self) -> None:
        """Return when all has been handed to the broker."""
        self._try_flush()
        while self._sending is not None:
            await asyncio.wait([self._sending])

    @property
    def sending(self) -> asyncio.Task[None] | None:
        """What waits for the broker to take more."""
        return self._sending

    # -- what is said beside -----------------------------------------------------------------------------------

    def accept(self, address: str, stream: int) -> None:
        """Tell the caller where its frames go."""
        self._frame.address, self._frame.peer_stream = address, stream
        self._flush_soon()

    def give_credit(self, item_limit: int, byte_limit: int) -> None:
        """Tell the other side how much it may send."""
        self._frame.item_limit, self._frame.byte_limit = item_limit, byte_limit
        self._flush_soon()

    def got_credit(self, item_limit: int, byte_limit: int) -> None:
        """The other side takes so much; errors as of `Got.renew`."""
        self.credit.renew(item_limit, byte_limit)
        self._room.set()

    def ping(self) -> None:
        """Let the other side hear something."""
        self._is_empty = False
        self._try_flush()

    # -- frames ------------------------------------------------------------------------------------------------

    def _start_frame(self) -> None:
        self._frame, self._size, self._is_empty = Frame(), 0, True

    def _flush_soon(self) -> None:
        """Send all that this turn of the loop brings about, at its end."""
        self._is_empty = False
        if not self._ends_turn:
            self._ends_turn = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._ends_turn = False
        if self._frames:
            self._frames = 0
            self._room.set()
        self._try_flush()

    def _try_flush(self) -> None:
        try:
            if not self._is_empty:
                self._flush()
        except MessageTooLarge as error:
            self._fail(error)

    def _flush(self) -> None:
        """Send the frame as it is; while the broker takes nothing, or nobody knows where to, it grows on."""
        if self.address and self._sending is None:
            frame = self._frame
            self._start_frame()
            self._send(frame)

    def _send(self, frame: Frame) -> None:
        if self._sending is None and self._try_send is not None:
            number = self._number
            try:
                if self._try_send(self.address, self._pack(frame)):
                    self.sent_at = self._loop.time()
                    return
            except MessageTooLarge:
                self._number = number
                for part in _parts(frame):
                    self._send(part)
                return
            self._number = number
        self._backlog.append(frame)
        if self._sending is None:
            self._sending = self._start(self._send_waiting())

    def _pack(self, frame: Frame) -> bytes:
        self._number += 1
        frame.stream, frame.number = self.stream, self._number
        return write_frame(frame)

    async def _send_waiting(self) -> None:
        """Send what the broker did not take at once, one frame after the other."""
        failed: EventMicroError | None = None
        try:
            while self._backlog:
                await self._send_one(self._backlog.popleft())
        except EventMicroError as error:
            failed = error
        finally:
            self._sending = None
            self._room.set()
        if failed is not None:
            self._fail(failed)
        self._try_flush()

    async def _send_one(self, frame: Frame) -> None:
        number = self._number
        try:
            await self._broker.send(Message(self.address, self._pack(frame)))
            self.sent_at = self._loop.time()
        except MessageTooLarge:
            self._number = number
            self._backlog.extendleft(reversed(_parts(frame)))


def _parts(frame: Frame) -> tuple[Frame, Frame]:
    """A frame that is too large, in two: messages apart, and a single one apart from what is said beside it.

    Raises:
        MessageTooLarge: there is nothing in it but one message, or an error.
    """
    items, says_more = frame.items, bool(frame.address or frame.item_limit or frame.content_type)
    ends = frame.end or frame.error is not None
    if not items or (len(items) == 1 and not says_more and not ends):
        size = len(items[0]) if items else len(frame.error or b"")
        raise MessageTooLarge(f"a message of {size} bytes: over the broker's limit")
    middle = len(items) // 2 if len(items) > 1 or says_more else 1
    rest = Frame(items=items[middle:], end=frame.end, error=frame.error)
    frame.items, frame.end, frame.error = items[:middle], False, None
    return frame, rest
