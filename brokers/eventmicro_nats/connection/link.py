"""The bytes below a NATS connection: nats-py's transport over an asyncio protocol of our own.

nats-py would read by a StreamReader and a task, and write by a queue, a future and a task. Here it has lines to read
while it greets the server, and from then on each chunk goes from the socket's callback straight to the reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from typing import Any
from urllib.parse import ParseResult

from nats.aio.transport import Transport

# The longest line that a server may send while it is greeted, in bytes.
LONGEST_LINE = 1024 * 1024
# How much is read at once, in bytes: others have their turn between two reads.
READ_SIZE = 65_536
# Where a server listens whose URL names no port.
PORT = 4222


class Link(asyncio.Protocol):
    """One TCP connection, with or without TLS.

    Attributes:
        transport: asyncio's, once the connection is made.
        paused: whether the other side takes nothing more for now.
        lost: whether it has ended; `error` says why, where it did not end in order.
    """

    def __init__(self) -> None:
        self.transport: Any = None
        self.paused = False
        self.lost = False
        self.error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._feed: Callable[[bytes], None] = self._keep
        self._on_change: Callable[[], None] = _nothing
        self._early = bytearray()
        self._changed: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()

    def start(self, feed: Callable[[bytes], None], on_change: Callable[[], None]) -> None:
        """From now on hand over what comes at once, and tell when there is room again or the connection has ended."""
        self._feed, self._on_change = feed, on_change
        self.data_received = feed  # type: ignore[assignment]  # asyncio calls it without a step between
        early, self._early = bytes(self._early), bytearray()
        if early:
            feed(early)
        if self.lost:
            on_change()

    async def readline(self) -> bytes:
        """One line, while the server is greeted; what there is of it where the connection ends before."""
        while b"\n" not in self._early and not self.lost:
            await self._change()
        if self.error is not None and b"\n" not in self._early:
            raise self.error
        end = self._early.find(b"\n") + 1 or len(self._early)
        line = bytes(self._early[:end])
        del self._early[:end]
        return line

    @property
    def unread(self) -> bytes:
        """What the server has said and nobody has read, while it is greeted."""
        return bytes(self._early)

    async def drain(self) -> None:
        """Return when there is room for more."""
        while self.paused and not self.lost:
            await self._change()
        if self.lost:
            raise self.error or ConnectionResetError("the connection is lost")

    async def ended(self) -> None:
        """Return when the connection has ended."""
        await asyncio.shield(self._ended)

    def get_extra_info(self, name: str) -> Any:
        """See `asyncio.BaseTransport`."""
        return self.transport.get_extra_info(name)

    # -- what asyncio calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if hasattr(transport, "max_size"):  # of a selector's transport
            transport.max_size = READ_SIZE

    def data_received(self, data: bytes) -> None:
        self._feed(data)

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self._end()
        if not self._ended.done():
            self._ended.set_result(None)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._tell()

    # -- within ------------------------------------------------------------------------------------------------

    def _keep(self, data: bytes) -> None:
        """What comes while the server is greeted."""
        self._early += data
        if len(self._early) > LONGEST_LINE:
            self.transport.abort()
        self._tell()

    def _end(self) -> None:
        self.lost = True
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._on_change()

    async def _change(self) -> None:
        if self._changed is None or self._changed.done():
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)


class LinkTransport(Transport):
    """A Link as nats-py takes it."""

    def __init__(self) -> None:
        self._io_writer: Link | None = None  # by its name in nats-py's own

    @property
    def link(self) -> Link:
        """The connection, once it is made."""
        assert self._io_writer is not None, "connect must be called first"
        return self._io_writer

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        async with asyncio.timeout(connect_timeout):
            loop = asyncio.get_running_loop()
            _, self._io_writer = await loop.create_connection(Link, uri.hostname or "", uri.port or PORT)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        link, name = self.link, uri if isinstance(uri, str) else uri.hostname
        async with asyncio.timeout(connect_timeout):
            loop = asyncio.get_running_loop()
            link.transport = await loop.start_tls(link.transport, link, ssl_context, server_hostname=name)

    def write(self, payload: bytes) -> None:
        self.link.transport.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        # asyncio's own, from Python 3.12 on, tells nobody to wait: what a hung server does not take would grow.
        self.link.transport.write(b"".join(payload))

    async def read(self, buffer_size: int) -> bytes:
        raise NotImplementedError("what comes is handed over")

    async def readline(self) -> bytes:
        return await self.link.readline()

    async def drain(self) -> None:
        await self.link.drain()

    async def wait_closed(self) -> None:
        if self._io_writer is not None:
            with suppress(OSError):
                await self._io_writer.ended()

    def close(self) -> None:
        if self._io_writer is not None:
            self._io_writer.transport.close()

    def at_eof(self) -> bool:
        return self._io_writer is None or self._io_writer.lost

    def __bool__(self) -> Any:  # a bool, of which nats-py says nothing
        return self._io_writer is not None


def _nothing() -> None:
    """Nobody is told."""
