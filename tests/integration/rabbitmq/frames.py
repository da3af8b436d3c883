"""A proxy that breaks what goes by frame by frame, and slow subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from eventmicro_rabbitmq import RabbitBroker
from pamqp.base import Frame

from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from tests.servers import FaultProxy

Until = Callable[[Callable[[], object]], Awaitable[None]]


HOST = "127.0.0.1"


class FrameProxy(FaultProxy):
    """A proxy that can hold back what the server answers, one kind of frame; of the other faults it knows `cut`.

    Attributes:
        holds: the methods that are held back, such as `Basic.ConsumeOk`.
        held: how many are, at this moment.
        stalled: take no more from the client.

    Args:
        url: where the server is.
    """

    def __init__(self, url: str) -> None:
        super().__init__(urlsplit(url).port or 0)
        self._url = url
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.holds: set[type[Frame]] = set()
        self.stalled = False

    @property
    def url(self) -> str:
        return self._url.replace(f":{self._upstream}", f":{self.port}")

    @property
    def held(self) -> int:
        return len(self._held)

    def let_go(self) -> None:
        """Pass on what was held back, and hold no more."""
        self.holds = set()
        held, self._held = self._held, []
        for writer, frame in held:
            writer.write(frame)

    async def _join(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        (reader, upstream), (answers, writer) = ways
        self._writers |= {upstream, writer}
        there = asyncio.ensure_future(self._pass_on(reader, upstream))
        try:
            while True:
                head = await answers.readexactly(7)
                rest = await answers.readexactly(int.from_bytes(head[3:], "big") + 1)
                if any(head[0] == 1 and rest[:4] == kind.index.to_bytes(4, "big") for kind in self.holds):
                    self._held.append((writer, head + rest))
                else:
                    writer.write(head + rest)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers -= {upstream, writer}
            upstream.transport.abort()
            writer.transport.abort()
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            upstream.write(data)
            while self.stalled:
                await asyncio.sleep(0.01)
        upstream.write_eof()


@asynccontextmanager
async def kept_events(url: str, subject: str, count: int = 1, *, ordered: bool = False) -> AsyncIterator[RabbitBroker]:
    """Another connection, which has made the queue of a subject and published so many events: 0, 1, 2 and so on."""
    async with RabbitBroker(url) as broker:
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable(ordered=ordered))
        await made.drain()
        await broker.publish_many([Message(subject, b"%d" % number) for number in range(count)])
        yield broker


class Slow:
    """A consumer with room for one event at a time."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.rooms: list[asyncio.Future[None]] = []

    def __call__(self, delivery: Delivery) -> Awaitable[None]:
        self.got.append(delivery)
        self.rooms.append(asyncio.get_running_loop().create_future())
        return self.rooms[-1]

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.got]
