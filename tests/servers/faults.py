"""A bad network between a client and a server, in this process."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Self

from tests.servers.process import HOST

CHUNK = 65536


class FaultProxy:
    """A TCP proxy whose faults are set while it runs; an async context manager. Clients connect to `port`.

    Attributes:
        latency: seconds that each chunk takes longer, each way; the order is kept.
        rate: bytes per second, each way; None for no bound.
        blackhole: let nothing through, both ways, not even the end of a connection, until it is off again.
        refuse: close every new connection at once.

    Args:
        port: where the server listens.
        listen: the port to listen on; by default any.
    """

    def __init__(self, port: int, listen: int = 0) -> None:
        self._upstream = port
        self.port = listen
        self.latency = 0.0
        self.rate: float | None = None
        self.blackhole = False
        self.refuse = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, again on the same port after a stop."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Reset all connections and listen no more: who connects is refused by the system."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for _ in range(5):  # what the system has let in by now is on its way to `_accept`
                await asyncio.sleep(0)
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            at_once = struct.pack("ii", 1, 0)
            with suppress(OSError):  # it is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse or self._server is None:  # it was let in just before the stop
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also of one that is cancelled before it has begun

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, upstream = await asyncio.open_connection(HOST, self._upstream)
            await self._join((reader, upstream), (answers, writer))
        except OSError:  # the server is not there
            writer.transport.abort()

    async def _join(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Pass on what comes, until both ways have ended or one is broken."""
        writers = {writer for _, writer in ways}
        self._writers |= writers
        try:
            async with asyncio.TaskGroup() as tasks:
                for source, target in ways:
                    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
                    tasks.create_task(self._receive(source, line))
                    tasks.create_task(self._send(line, target))
            for writer in writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in writers))
        except* OSError:
            pass
        finally:
            self._writers -= writers
            for writer in writers:
                writer.transport.abort()  # else one whose peer does not read would stay

    async def _receive(self, source: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
        now = asyncio.get_running_loop().time
        data = b"not the end yet"
        while data:
            data = b""
            with suppress(OSError):
                data = await source.read(CHUNK)
            await line.put((now() + self.latency, data))

    async def _send(self, line: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        data = b"not the end yet"
        while data:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - now()))
            while self.blackhole:
                await asyncio.sleep(0.01)
            target.write(data)
            await target.drain()
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)
        target.write_eof()
