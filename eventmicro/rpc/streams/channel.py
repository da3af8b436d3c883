"""One side of one stream: what comes and what goes, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

from eventmicro.broker import Broker
from eventmicro.errors import (
    EventMicroError,
    InternalError,
    MessageTooLarge,
    PeerLost,
    ServiceError,
    StreamBroken,
    StreamCancelled,
    StreamEnded,
)
from eventmicro.rpc.streams.frames import Frame
from eventmicro.rpc.streams.incoming import Incoming
from eventmicro.rpc.streams.outgoing import Outgoing, Start
from eventmicro.wire import MAX_ERROR_HEADER, header_line, is_subject

# How often, within the time after which it counts as lost, a side lets hear something of itself.
SIGNS = 3


class Carrier(Protocol):
    """What carries a stream, as the stream sees it: all those of its connection."""

    broker: Broker
    address: str

    @property
    def start(self) -> Start:
        """Starts what goes on beside, until the connection is closed."""
        ...

    def add(self, channel: Channel, /) -> int:
        """Carry one more; its number."""
        ...

    def remove(self, channel: Channel, /) -> None:
        """Carry it no longer."""
        ...

    def window(self) -> int:
        """How many bytes may be on their way to each."""
        ...


class Channel:
    """One side of a stream, from its opening to its end.

    Args:
        streams: those of the same connection, of which it is one.
        name: the endpoint, for errors.
        keep_alive: after how long a silence the other side counts as lost, in seconds.

    Attributes:
        number: its number here.
        over: whether nothing is awaited of the other side any more.
        failure: how it has ended, where that was not its clean end.
        on_failure: is told of that.
        heard_at: when something came last, in the loop's seconds.
    """

    def __init__(self, streams: Carrier, name: str, keep_alive: float) -> None:
        self.name = name
        self.keep_alive = keep_alive
        self.over = False
        self.failure: EventMicroError | None = None
        self.on_failure: Callable[[], None] = _nothing
        self.outgoing = Outgoing(streams.broker, self.fail, streams.start)
        self.incoming = Incoming(streams.window, self.outgoing.give_credit)
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self.number = streams.add(self)

    # -- what comes --------------------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> None:
        """Take a frame of the other side."""
        self.heard_at = self._loop.time()
        try:
            self.incoming.take(frame)
            self.check(frame)
            if frame.item_limit or frame.byte_limit:
                self.outgoing.got_credit(frame.item_limit, frame.byte_limit)
        except StreamBroken as error:
            self.fail(error)
            return
        if frame.error is not None:
            self.end(read_error(frame.error, self.name))
        elif frame.cancel:
            self.end(StreamCancelled("the other side has given the stream up", id=self.name))
        elif frame.broken:
            self.end(StreamBroken(f"told by the other side: {frame.broken}", id=self.name))
        elif frame.end:
            self.take_end()

    def check(self, frame: Frame) -> None:
        """Refuse what may not come here.

        Raises:
            StreamBroken: it came.
        """
        if frame.end and self.incoming.ended:
            raise StreamBroken("it was ended twice")

    def learn_address(self, frame: Frame, what: str) -> bool:
        """Take from the first frame of the other side where frames go there; whether it is that one.

        Args:
            what: what it says with that, for the error.

        Raises:
            StreamBroken: it does not say so.
        """
        if self.outgoing.address or frame.is_last:
            return False
        if not is_subject(frame.address) or not frame.peer_stream:
            raise StreamBroken(f"the first frame does not say where {what}")
        self.outgoing.address, self.outgoing.stream = frame.address, frame.peer_stream
        return True

    def take_end(self) -> None:
        """The caller sends no more messages; what is awaited of it yet is credit."""
        self.incoming.end()

    # -- how it ends -------------------------------------------------------------------------------------------

    def end(self, failure: EventMicroError | None = None) -> None:
        """It is over, by what the other side has said, or not said; the first reason stands."""
        if self.over:
            return
        self.over, self.failure = True, failure
        self._streams.remove(self)
        self.incoming.end(failure)
        self.outgoing.close(failure or StreamEnded("the other side has ended the stream", id=self.name))
        tell, self.on_failure = self.on_failure, _nothing
        if failure is not None:
            tell()

    def fail(self, failure: EventMicroError) -> None:
        """End it by a fault that is found here, and tell the other side."""
        if isinstance(failure, ServiceError) and not failure.id:
            failure.id = self.name
        if not self.over:
            self.tell_end(self._told(failure))
        self.end(failure)

    def tell_end(self, last: Frame) -> None:
        """Tell the other side of an end that it does not know of."""
        self.outgoing.end_with(last)

    def _told(self, failure: EventMicroError) -> Frame:
        """What the other side is told of a failure here."""
        if isinstance(failure, StreamBroken):
            return Frame(broken=header_line(failure.detail, MAX_ERROR_HEADER) or "broken")
        if not isinstance(failure, ServiceError):
            why = "is too large for the broker" if isinstance(failure, MessageTooLarge) else "could not be sent or read"
            failure = InternalError(f"a message of the stream {why}")
        return Frame(error=failure.to_json(self.name))

    def cancel(self) -> None:
        """Give it up; nobody reads what waits."""
        self.incoming.drop()
        self.give_up(StreamCancelled("the stream was given up here", id=self.name))

    def abandon(self) -> None:
        """Nobody holds it any more, as the garbage collector says, in whatever thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.cancel)

    def lose(self) -> None:
        """Nothing was heard of the other side for too long."""
        self.give_up(PeerLost(f"nothing was heard of the other side for {self.keep_alive:g} s", id=self.name))

    def give_up(self, failure: EventMicroError) -> None:
        """End it on both sides; what has come can be read yet."""
        if not self.over:
            self.tell_end(Frame(cancel=True))
        self.end(failure)

    async def finish(self) -> None:
        """Return when all that was put has been handed to the broker, and it is over.

        Raises:
            EventMicroError: it has failed meanwhile.
        """
        await self.outgoing.finish()
        self.end()
        if self.failure is not None:
            raise self.failure


def read_error(body: bytes, name: str) -> ServiceError:
    """The error with which the other side has ended a stream."""
    try:
        code: Any = json.loads(body).get("code")
    except (ValueError, RecursionError, AttributeError):
        code = None
    is_code = isinstance(code, int) and not isinstance(code, bool) and 0 < code < 1e8
    code = code if is_code else 500
    return ServiceError.from_json(body, code=code, detail="the stream has failed", id=name).as_received()


def _nothing() -> None:
    """Nobody is told."""
