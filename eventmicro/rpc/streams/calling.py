"""The calling side of streams: how one is opened, on one connection for all."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from eventmicro.broker import Broker, sends_at_once
from eventmicro.codecs import Body, Codecs
from eventmicro.context import Context, Side, find_context
from eventmicro.errors import CallTimeout, ServiceError, UsageError
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Middleware, compose
from eventmicro.rpc.directed import directed
from eventmicro.rpc.outgoing import Direction, OutgoingCall, check_carries_calls
from eventmicro.rpc.replies import explain, is_nobody
from eventmicro.rpc.streams.caller_channel import CallerChannel
from eventmicro.rpc.streams.opened import OpenStream
from eventmicro.rpc.streams.opening import LONGEST, SHORTEST, write_opening
from eventmicro.rpc.streams.stream import Open
from eventmicro.rpc.streams.streams import Streams
from eventmicro.selector import Director, Node
from eventmicro.wire import (
    CONTENT_TYPE,
    STREAM,
    content_type,
    with_budget,
)

# The last token of the subject on which frames come to a caller.
FRAMES = "frames"


class OutgoingStream(OutgoingCall):
    """The context of a stream that is opened.

    keep_alive: after how long a silence the other side counts as lost, in seconds.
    ended: whether nobody is to send anything.
    opened: the stream, once it is open.
    """

    __slots__ = ("ended", "keep_alive", "opened")
    is_stream = True
    keep_alive: float
    ended: bool
    opened: OpenStream | None


class StreamCaller:
    """Opens the streams of one client. It opens nothing itself before the first; `close` ends it.

    Args:
        broker: over what.
        timeout: how long opening one may take, in seconds.
        director: gives what directs streams to nodes, and knows who is there; asked for when it is needed.
    """

    def __init__(
        self,
        broker: Broker,
        codecs: Codecs,
        middleware: tuple[Middleware, ...],
        timeout: float,
        director: Callable[[], Director],
    ) -> None:
        self._run = compose(middleware, Side.CLIENT, self._open, broker.url)
        self._broker = broker
        self._codecs = codecs
        self._timeout = timeout
        self._director = director
        self._streams: Streams | None = None
        self._inbox = ""
        self._opening: asyncio.Lock | None = None

    def __len__(self) -> int:
        """How many are open."""
        return 0 if self._streams is None else len(self._streams)

    async def close(self) -> None:
        """Give up those that are open; the next one opens it again."""
        streams, self._streams = self._streams, None
        if streams is not None:
            await streams.close()

    def opener(
        self,
        called: tuple[str, str, str],
        request: Any,
        reply: Body,
        headers: dict[str, str] | None,
        direction: Direction | None,
        timeout: float | None,
        keep_alive: float,
    ) -> Open:
        """What opens a stream when it is used.

        Args:
            called: the service, the endpoint's name, and both as its subject.

        Raises:
            UsageError: `keep_alive` is out of range.
        """
        is_number = isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool)
        if not is_number or not SHORTEST <= keep_alive <= LONGEST:
            raise UsageError(f"keep_alive={keep_alive!r}: write seconds, from {SHORTEST:g} to {LONGEST:g}")

        async def open_it(ended: bool) -> tuple[AsyncIterator[Any], OpenStream | None]:
            context = OutgoingStream(Side.CLIENT, *called, headers, _deadline(timeout))
            context.body, context.reply = reply, reply.kind
            context.direction, context.trying, context.asked = direction, None, []
            context.keep_alive, context.ended, context.opened = keep_alive, ended, None
            try:
                replies = aiter(await self._run(request, context))
            except BaseException:
                if context.opened is not None:  # a middleware has made nothing of it
                    context.opened.close()
                raise
            return replies, context.opened

        return open_it

    async def _open(self, request: Any, context: Context) -> AsyncIterator[Any]:
        """Open a stream, as the innermost of the middleware."""
        assert isinstance(context, OutgoingStream)
        deadline = time.monotonic() + self._timeout
        if context.deadline is not None:
            deadline = min(context.deadline, deadline)
        if context.direction is None:
            opened = await self._begin(context, request, context.topic, deadline)
        else:
            opened = await self._begin_directed(context, request, context.direction, deadline)
        context.opened = opened
        return opened

    def _begin_directed(
        self, context: OutgoingStream, request: Any, direction: Direction, deadline: float
    ) -> Awaitable[OpenStream]:
        """Open it at a chosen node, which has it in flight until its end; errors as of `CallsEndpoints.call`."""
        director = self._director()

        async def ask(node: Node, subject: str, now: float, until: float) -> OpenStream:
            opened = await self._begin(context, request, subject, deadline, explained=False)
            assert isinstance(opened.channel, CallerChannel)
            opened.channel.occupy(director, node)
            return opened

        return directed(ask, director, direction, context.service, context.endpoint, deadline, context)

    async def _begin(
        self, context: OutgoingStream, request: Any, subject: str, deadline: float, *, explained: bool = True
    ) -> OpenStream:
        """Open it at a subject; parameters as of `RpcClient.exchange`."""
        headers, reply = dict(context.metadata), context.body
        packed = self._codecs.body(type(request)).pack(request, headers)  # without an envelope, as each message
        if reply.names is not None and not packed:
            headers.setdefault(CONTENT_TYPE, reply.content_type)
        if deadline <= time.monotonic():
            raise CallTimeout(f"{subject} was not opened: no time is left for it", id=subject).as_received()
        streams, inbox = await self.open_streams()
        channel = CallerChannel(streams, inbox, context.service, subject, context.keep_alive, context.deadline)
        opened = OpenStream(channel, self._codecs, reply, content_type(headers), ended=context.ended)
        try:
            await self._ask(channel, context, packed, headers, deadline)
        except ServiceError as error:
            if not explained or not is_nobody(error):
                raise
            nobody = error
        else:
            return opened
        elsewhere = await explain(self._director(), subject, nobody, deadline)
        return await self._begin(context, request, elsewhere, deadline, explained=False)

    async def _ask(
        self, channel: CallerChannel, context: OutgoingStream, packed: bytes, headers: dict[str, str], deadline: float
    ) -> None:
        """Ask the other side to open it, and wait until it has."""
        headers[STREAM] = write_opening(channel.opening(context.ended))
        left = context.remaining()
        channel.reply = channel.reply if left is None else with_budget(channel.reply, left)
        try:
            await self._send(channel.name, packed, headers, channel.reply, deadline)
        except BaseException:
            channel.cancel()
            raise
        await channel.answered(deadline)

    async def _send(self, subject: str, body: bytes, headers: dict[str, str], reply: str, deadline: float) -> None:
        able = sends_at_once(self._broker)
        if able is not None and able.try_send(subject, body, headers, reply):
            return
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._broker.send(Message(subject, body, headers, reply))
        except TimeoutError:
            late = CallTimeout(f"{subject} was not opened: the broker has still not taken the request", id=subject)
            raise late.as_received() from None

    async def open_streams(self) -> tuple[Streams, str]:
        """All streams of the client, and the subject below which answers come to it."""
        check_carries_calls(self._broker)
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._streams is None or self._streams.ended:
                inbox = self._broker.inbox()
                streams = Streams(self._broker, f"{inbox}.{FRAMES}")
                await streams.open(f"{inbox}.>", Receiving(streams, inbox, self._codecs.body(bytes)))
                self._streams, self._inbox = streams, inbox
        return self._streams, self._inbox


class Receiving:
    """What comes to the one inbox of a client's streams: frames, and replies that are none."""

    def __init__(self, streams: Streams, inbox: str, body: Body) -> None:
        self._streams = streams
        self._prefix = len(inbox) + 1
        self._body = body

    def __call__(self, delivery: Delivery) -> None:
        """Take what comes alone."""
        self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> None:
        """Take what comes together."""
        frames, address = deque[Delivery](), self._streams.address
        while line:
            delivery = line.popleft()
            if delivery.subject == address:
                frames.append(delivery)
            else:
                self._take_reply(delivery)
        self._streams.many(frames)

    def _take_reply(self, delivery: Delivery) -> None:
        number = delivery.subject[self._prefix :].partition(".")[0]
        channel = self._streams.find(int(number)) if number.isdecimal() and len(number) < 19 else None
        if isinstance(channel, CallerChannel):
            channel.take_reply(delivery, self._body)


def _deadline(timeout: float | None) -> float | None:
    """Until when a stream may last that is opened now; None: as long as both sides want."""
    outer = find_context()
    left = None if outer is None or outer.ended else outer.deadline
    own = None if timeout is None else time.monotonic() + timeout
    return min((moment for moment in (left, own) if moment is not None), default=None)
