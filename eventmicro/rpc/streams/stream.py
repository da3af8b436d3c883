"""Stream: what a user holds of a stream that he opens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from eventmicro.errors import StreamCancelled, StreamEnded, UsageError

if TYPE_CHECKING:
    from eventmicro.rpc.streams.opened import OpenStream

R = TypeVar("R")

Open = Callable[[bool], Awaitable["tuple[AsyncIterator[Any], OpenStream | None]"]]
"""Opens the stream, told whether nothing will be sent; what its replies are read from, and by what is sent."""


class Stream(Generic[R]):
    """A stream of messages from an endpoint, and to it. It is opened at `async with`, or by reading it.

        async for quote in client.stream("orders.watch", request, Quote): ...

        async with client.stream("chat.talk", reply=Line) as talk:
            await talk.send(Line(text="hello"))
            async for line in talk: ...

        async with client.stream("orders.total", reply=Sum) as items:
            await items.send(Item(price=2.0))
            total = await items.reply()

    Leaving it early, by `break` or at the end of the `async with`, cancels its handler.
    """

    def __init__(self, endpoint: str, open_it: Open) -> None:
        self._endpoint = endpoint
        self._open_it: Open | None = open_it
        self._closed = False
        self._replies: AsyncIterator[Any] | None = None
        self._next: Callable[[], Awaitable[R]] | None = None
        self._opened: OpenStream | None = None

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[R]:
        return self._read_first() if self._next is None else self._next()

    async def send(self, item: Any) -> None:
        """Send a message. It waits while the other side has not read enough of those before.

        Raises:
            StreamEnded: the other side has ended the stream, and takes no more.
            PeerLost, StreamBroken, StreamCancelled, CallTimeout: the stream has failed.
            ServiceError: the error by which the other side has ended it.
            EncodeError, MessageTooLarge: it cannot be sent; the stream has ended by that, on both sides.
            UsageError: the stream is not open, or takes no messages.
        """
        await self._sender("send").send(item)

    async def end(self) -> None:
        """Send no more; what the other side sends is still read. A second call does nothing."""
        self._sender("end").end()

    async def reply(self) -> R:
        """End, and return the one reply of an endpoint that takes a stream.

        Raises:
            StreamEnded: the endpoint has sent none, or more than one.
            ServiceError: what the endpoint answered, or how the stream has failed.
        """
        await self.end()
        return await self.only()

    async def only(self) -> R:
        """The one reply of an endpoint that takes a stream; messages may still be sent meanwhile.

        Raises:
            StreamEnded: the endpoint has sent none, or more than one.
            ServiceError: what the endpoint answered, or how the stream has failed.
        """
        try:
            reply = await self.__anext__()
        except StopAsyncIteration:
            raise StreamEnded("ended without a reply", id=self._endpoint) from None
        try:
            await self.__anext__()
        except StopAsyncIteration:
            return reply
        await self.aclose()
        raise StreamEnded("sends more than one reply: read them by `async for`", id=self._endpoint)

    async def aclose(self) -> None:
        """Give the stream up, unless it has ended; its handler is cancelled. A second call does nothing."""
        self._open_it, self._closed = None, True
        opened, replies = self._opened, self._replies
        if opened is not None:
            opened.close()
        if replies is not opened and (close := getattr(replies, "aclose", None)) is not None:
            await close()

    async def __aenter__(self) -> Self:
        await self._open(ended=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _read_first(self) -> R:
        """Open it where nobody will send anything, as there is no `async with`."""
        next_reply = await self._open(ended=True)
        return await next_reply()

    async def _open(self, *, ended: bool) -> Callable[[], Awaitable[R]]:
        open_it, self._open_it = self._open_it, None
        if open_it is None:
            raise UsageError(f"{self._endpoint}: a stream is opened once; ask for another one")
        self._replies, self._opened = await open_it(ended)
        self._next = self._replies.__anext__
        if self._closed:  # meanwhile
            await self.aclose()
            raise StreamCancelled("the stream was given up here", id=self._endpoint)
        return self._next

    def _sender(self, what: str) -> OpenStream:
        if self._next is None:
            raise UsageError(f"{self._endpoint}: open the stream before {what}(), by `async with client.stream(...)`")
        if self._opened is None:
            raise UsageError(f"{self._endpoint}: a middleware has answered in its place, so there is no {what}()")
        return self._opened
