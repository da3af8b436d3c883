"""SyncStream: a stream, and whatever else is read by and by, in code that is not async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from eventmicro.rpc.streams.stream import Stream
from eventmicro.sync.session import Session

R = TypeVar("R")

Open = Callable[[], Session]
"""The session that is to be used, which is begun where there is none."""

_END: Any = object()


class SyncReplies(Generic[R]):
    """What a method of a stub yields, one after the other. Left early by `break`, it is given up."""

    def __init__(self, session: Session, replies: AsyncIterator[R]) -> None:
        self._session = session
        self._replies = replies

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        reply: R = self._session.run(lambda _: self._read())
        if reply is _END:
            raise StopIteration
        return reply

    def close(self) -> None:
        """Give it up, unless it has ended; its handler is cancelled. A second call does nothing."""
        self._session.run(lambda _: self._close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_replies"):
            self._session.post(self._close)

    async def _read(self) -> R:
        return await anext(self._replies, _END)

    async def _close(self) -> None:
        if (close := getattr(self._replies, "aclose", None)) is not None:
            await close()


class SyncStream(SyncReplies[R]):
    """A stream of messages from an endpoint, and to it; see `Stream`. It is opened at `with`, or by reading it.

        for quote in client.stream("orders.watch", request, Quote): ...

        with client.stream("orders.total", reply=Sum) as items:
            items.send(Item(price=2.0))
            total = items.reply()

    Each message is brought from the thread of the client, one by one. Errors are those of `Stream`.
    """

    _replies: Stream[R]

    def __init__(self, session: Session, stream: Stream[R]) -> None:
        super().__init__(session, stream)

    def send(self, item: Any) -> None:
        """Send a message. It waits while the other side has not read enough of those before."""
        self._session.run(lambda _: self._replies.send(item))

    def end(self) -> None:
        """Send no more; what the other side sends is still read. A second call does nothing."""
        self._session.run(lambda _: self._replies.end())

    def reply(self) -> R:
        """End, and return the one reply of an endpoint that takes a stream."""
        return self._session.run(lambda _: self._replies.reply())

    def __enter__(self) -> Self:
        self._session.run(lambda _: self._replies.__aenter__())
        return self


async def fed(items: Iterable[Any]) -> AsyncIterator[Any]:
    """What a plain iterator gives, each waited for in another thread."""
    iterator = iter(items)
    while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield item
