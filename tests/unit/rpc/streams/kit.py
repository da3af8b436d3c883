"""What the tests of streams share: a service with one of each kind, and peers that send frames by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from eventmicro import Client, Context, MemoryBroker, Service
from eventmicro.broker import Broker
from eventmicro.message import Delivery, Message
from eventmicro.rpc.streams.frames import Frame, read_frame, write_frame
from eventmicro.rpc.streams.opening import Opening, read_opening, write_opening


class Number(BaseModel):
    value: int = 0


class Streaming:
    """A service that says what its handlers do, and waits where it is told to."""

    def __init__(self, url: str = "memory://streams", **options: Any) -> None:
        self.service = Service("numbers", broker=url, **options)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.outcomes: list[BaseException | None] = []
        self.given = 0
        self.gate = asyncio.Event()

        @self.service.rpc
        async def count(request: Number) -> AsyncIterator[Number]:
            """The numbers below the one that is asked for; without one, all that there are."""
            with self.noted("count"):
                number = 0
                while number < (request.value or number + 1):
                    yield Number(value=number)
                    number += 1
                    self.given = number

        @self.service.rpc
        async def wait(request: Number) -> AsyncIterator[Number]:
            """One number, and then nothing until the gate is opened."""
            with self.noted("wait"):
                yield request
                await self.gate.wait()
                yield request

        @self.service.rpc
        async def total(requests: AsyncIterator[Number]) -> Number:
            with self.noted("total"):
                return Number(value=sum([number.value async for number in requests]))

        @self.service.rpc
        async def double(requests: AsyncIterator[Number], context: Context) -> AsyncIterator[Number]:
            with self.noted("double"):
                async for number in requests:
                    yield Number(value=2 * number.value)

        @self.service.rpc
        async def hold(requests: AsyncIterator[Number]) -> AsyncIterator[Number]:
            """Reads nothing until the gate is opened."""
            with self.noted("hold"):
                await self.gate.wait()
                async for number in requests:
                    yield number

        @self.service.rpc
        async def echo(request: Number) -> Number:
            return request

    def noted(self, name: str) -> Noted:
        return Noted(self, name)

    @property
    def open_streams(self) -> int:
        """How many streams the node has."""
        node = self.service._node
        assert node is not None
        assert node._making.streams is not None
        return len(node._making.streams.streams)


class Noted:
    """Notes how a handler ends."""

    def __init__(self, streaming: Streaming, name: str) -> None:
        self._streaming = streaming
        self._name = name

    def __enter__(self) -> None:
        self._streaming.begun.append(self._name)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._streaming.ended.append(self._name)
        self._streaming.outcomes.append(error)


async def read(stream: AsyncIterator[Any], into: list[Any]) -> list[Any]:
    """Read a stream to its end, whatever that is."""
    async for each in stream:
        into.append(each.value if isinstance(each, Number) else each)
    return into


def open_streams(client: Client) -> int:
    """How many streams a client has."""
    return len(client._calls.streams)


class RawCaller:
    """Opens streams, and sends and takes their frames by hand."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.frames: list[Frame] = []
        self.replies: list[Delivery] = []
        self._address = ""
        self._number = 0

    async def open(self, endpoint: str, body: bytes = b"", headers: dict[str, str] | None = None, **how: Any) -> None:
        """Open a stream, and wait until the other side has."""
        inbox = self._broker.inbox()
        self._address = f"{inbox}.frames"
        await self._broker.subscribe(f"{inbox}.>", self)
        words = {"item_limit": 1000, "byte_limit": 100_000, "keep_alive": 60.0, "ended": False} | how
        opening = Opening(address=self._address, stream=1, **words)
        headers = {"Stream": write_opening(opening)} | (headers or {})
        await self._broker.send(Message(endpoint, body, headers, f"{inbox}.1"))

    def __call__(self, delivery: Delivery) -> None:
        if delivery.subject == self._address:
            self.frames.append(read_frame(delivery.body))
        else:
            self.replies.append(delivery)

    async def send(self, *items: bytes, number: int | None = None, **fields: Any) -> None:
        """Send a frame; with the next number where none is given."""
        self._number = self._number + 1 if number is None else number
        frame = Frame(self.frames[0].peer_stream, self._number, list(items), **fields)
        await self.send_bytes(write_frame(frame))

    async def send_bytes(self, data: bytes) -> None:
        await self._broker.send(Message(self.frames[0].address, data))

    @property
    def items(self) -> list[bytes]:
        return [item for frame in self.frames for item in frame.items]

    @property
    def last(self) -> Frame:
        return self.frames[-1]


class RawServer:
    """Takes openings, and sends and takes the frames of the last one by hand."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.openings: list[Opening] = []
        self.replies: list[str] = []
        self.frames: list[Frame] = []
        self.cancelled: list[bytes] = []
        self._number = 0

    async def serve(self, endpoint: str, *, on_opening: Callable[[], None] = lambda: None) -> None:
        self._on_opening = on_opening
        await self._broker.subscribe(endpoint, self, queue="q")
        await self._broker.subscribe("raw.frames", self._take)
        await self._broker.subscribe(f"{endpoint.partition('.')[0]}.$cancel", lambda d: self.cancelled.append(d.body))

    def __call__(self, delivery: Delivery) -> None:
        opening = read_opening(delivery.headers)
        assert opening is not None
        self.openings.append(opening)
        self.replies.append(delivery.reply)
        self._number = 0
        self._on_opening()

    def _take(self, delivery: Delivery) -> None:
        self.frames.append(read_frame(delivery.body))

    async def accept(self, *items: bytes, credit: int = 1000, **fields: Any) -> None:
        words = {"address": "raw.frames", "peer_stream": 9, "item_limit": credit, "byte_limit": credit} | fields
        await self.send(*items, **words)

    async def send(self, *items: bytes, number: int | None = None, **fields: Any) -> None:
        self._number = self._number + 1 if number is None else number
        await self.send_bytes(write_frame(Frame(self.openings[-1].stream, self._number, list(items), **fields)))

    async def send_bytes(self, data: bytes) -> None:
        await self._broker.send(Message(self.openings[-1].address, data))


@asynccontextmanager
async def raw_caller(url: str = "memory://streams") -> AsyncIterator[RawCaller]:
    async with MemoryBroker(url) as broker:
        yield RawCaller(broker)


@asynccontextmanager
async def raw_server(endpoint: str = "raw.talk", url: str = "memory://streams") -> AsyncIterator[RawServer]:
    async with MemoryBroker(url) as broker:
        server = RawServer(broker)
        await server.serve(endpoint)
        yield server
