"""Streams to an endpoint, from an iterator that is read beside the replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Any

from eventmicro.contracts.messages import Takes
from eventmicro.errors import StreamEnded
from eventmicro.rpc.streams.stream import Stream


class Sending:
    """Sends what an iterator gives, for as long as the block lasts; then the iterator is closed.

    Raises:
        Exception: at the end of the block, what the iterator raised, or why a message could not be sent. The stream is
            given up by that, so that nobody waits for its replies.
    """

    def __init__(self, stream: Stream[Any], items: AsyncIterable[Any], takes: Takes) -> None:
        self._stream = stream
        self._items = items
        self._takes = takes
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._send())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._failure is not None and not isinstance(error, asyncio.CancelledError | GeneratorExit):
            raise self._failure

    async def _send(self) -> None:
        try:
            await self._send_all()
        except StreamEnded:  # the other side has heard enough, and replies
            pass
        except Exception as error:
            self._failure = error
            await self._stream.aclose()

    async def _send_all(self) -> None:
        kind = self._takes.kind
        try:
            async for item in self._items:
                if item.__class__ is not kind:
                    self._takes.check(item)
                await self._stream.send(item)
            await self._stream.end()
        finally:
            if (close := getattr(self._items, "aclose", None)) is not None:
                await close()


async def upload(stream: Stream[Any], items: AsyncIterable[Any], takes: Takes) -> Any:
    """Send all, and return the one reply; errors as of `Stream.reply`."""
    async with stream, Sending(stream, items, takes):
        return await stream.only()


async def talk(stream: Stream[Any], items: AsyncIterable[Any], takes: Takes) -> AsyncIterator[Any]:
    """Send all, and give what comes meanwhile."""
    async with stream, Sending(stream, items, takes):
        async for reply in stream:
            yield reply
