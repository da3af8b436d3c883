"""The side of a stream that has opened it: the wait for its opening, its time, and the node that serves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from eventmicro.codecs import Body
from eventmicro.errors import CallTimeout, EventMicroError, PeerLost, ServiceError, UsageError
from eventmicro.message import Delivery, Message
from eventmicro.rpc.caller import stored_call, timed_out
from eventmicro.rpc.replies import read_reply
from eventmicro.rpc.streams.channel import Channel
from eventmicro.rpc.streams.frames import Frame
from eventmicro.rpc.streams.opening import Opening
from eventmicro.rpc.streams.streams import Streams
from eventmicro.selector import Director, Node
from eventmicro.wire import DESCRIPTION, STATUS, STORED, cancel_subject, header


class CallerChannel(Channel):
    """The side of a stream that has opened it, from before the other side knows of it.

    Args:
        inbox: the subject below which answers come.
        service: that of the endpoint.
        deadline: until when the stream may last, in `time.monotonic()` seconds; None: as long as both sides want.

    Attributes:
        reply: the reply subject of its opening.
    """

    def __init__(
        self, streams: Streams, inbox: str, service: str, name: str, keep_alive: float, deadline: float | None
    ) -> None:
        super().__init__(streams, name, keep_alive)
        self.reply = f"{inbox}.{self.number}"
        self._note = ""  # what is known of why no answer comes
        self._service = service
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leave: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if deadline is not None:
            left = deadline - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(left, self._time_out, left)

    def opening(self, ended: bool) -> Opening:
        """What the other side is told."""
        credit = self.incoming.credit
        address = self._streams.address
        return Opening(address, self.number, credit.item_limit, credit.byte_limit, self.keep_alive, ended)

    def check(self, frame: Frame) -> None:
        super().check(frame)
        if not self.learn_address(frame, "the stream is served"):
            return
        if not frame.item_limit:
            self.outgoing.close(UsageError(f"{self.name} takes one request, and no stream of them: there is no send()"))
        if not self._answered.done():
            self._answered.set_result(None)

    def take_end(self) -> None:
        self.incoming.end()
        self.end()

    def end(self, failure: EventMicroError | None = None) -> None:
        if isinstance(failure, ServiceError):
            failure.received = True
        super().end(failure)
        if self._timer is not None:
            self._timer.cancel()
        if self._leave is not None:
            leave, self._leave = self._leave, None
            leave()
        if not self._answered.done():
            self._answered.set_result(None)

    def tell_end(self, last: Frame) -> None:
        if self.outgoing.address:
            super().tell_end(last)
        else:
            self._streams.start(self._tell_all())

    def occupy(self, director: Director, node: Node) -> None:
        """Count as in flight at the node that serves it until it is over, and tell where that is lost."""

        def leave() -> None:
            node.in_flight -= 1
            if isinstance(self.failure, PeerLost):
                director.mark(node, self.keep_alive, failed=True)

        node.in_flight += 1
        self._leave = leave
        if self.over:
            self._leave = None
            leave()

    async def answered(self, deadline: float) -> None:
        """Return when the other side has opened it, too.

        Raises:
            CallTimeout: it did not in time.
            ServiceError: why it did not, or nobody is there.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline - started):
                await self._answered
        except TimeoutError:
            self.give_up(timed_out(self.name, time.monotonic() - started, self._note))
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.failure is not None and not self.incoming.waiting:  # else it comes behind what waits to be read
            raise self.failure

    def take_reply(self, delivery: Delivery, body: Body) -> None:
        """What is no frame: an error in place of an opening, or what does not belong here."""
        if header(delivery.headers, STATUS) == STORED:
            store = header(delivery.headers, DESCRIPTION) or "a stream"
            self._note = stored_call(store, self.name)
        elif not self.outgoing.address:
            self.end(self._read_reply(delivery, body))

    def _read_reply(self, delivery: Delivery, body: Body) -> EventMicroError:
        try:
            if delivery.headers:
                read_reply(delivery, self.name, body, body.decode)
        except ServiceError as error:
            return error
        return UsageError(f"{self.name} has answered as a call is answered: it is no stream, so call() it")

    def _time_out(self, seconds: float) -> None:
        error = CallTimeout(f"{self.name} had not ended within {seconds:.3g} s", id=self.name)
        error.elapsed = seconds
        self.give_up(error)

    async def _tell_all(self) -> None:
        """It is not known who may be opening it: tell all of the service, as of a call."""
        with suppress(EventMicroError):
            await self._streams.broker.send(Message(cancel_subject(self._service), self.reply.encode()))
