"""How long a large body may take: as long as its bytes do at a slow rate, or until the deadline of its call.

A clock has the time of these tests: nine seconds pass when nothing else is left to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventmicro import Client, MemoryBroker, Service
from eventmicro.errors import CallTimeout, PeerLost, ServiceError
from eventmicro.message import Delivery, Message
from eventmicro.rpc.large import taking
from eventmicro.rpc.streams.frames import Frame, read_frame, write_frame
from eventmicro.testing.clock import hold, let_go
from eventmicro.wire import ERROR_CODE, LARGE

URL = "memory://slow"
# Between two pieces, in seconds: within the patience for one.
PAUSE = 0.9 * taking.PATIENCE


class Peer:
    """Has a body, of which it sends a piece at a time, as slowly as may be."""

    def __init__(self, broker: MemoryBroker, body: bytes, piece: int) -> None:
        self.broker = broker
        self.pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
        self.address = f"{broker.inbox()}.frames"
        digest = hashlib.sha256(body).hexdigest()
        form = {"address": self.address, "stream": 5, "keep_alive": 3_600_000, "size": len(body), "sha256": digest}
        self.offer = {LARGE: json.dumps(form)}
        self.taken: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.sent = 0

    def take(self, delivery: Delivery) -> None:
        frame = read_frame(delivery.body)
        if frame.address and not self.taken.done():
            self.taken.set_result(frame)
        if frame.is_last:
            self.over.set()

    async def give(self) -> None:
        taker = await self.taken
        for piece in self.pieces:
            await asyncio.sleep(PAUSE)
            if self.over.is_set():
                return
            self.sent += 1
            frame = Frame(taker.peer_stream, self.sent, [piece], end=self.sent == len(self.pieces))
            await self.broker.send(Message(taker.address, write_frame(frame)))


@asynccontextmanager
async def slowly(body: bytes, piece: int) -> AsyncIterator[Peer]:
    """A peer with this body, while a clock has the time."""
    clock = hold()
    try:
        async with MemoryBroker(URL) as broker:
            peer = Peer(broker, body, piece)
            await broker.subscribe(peer.address, peer.take)
            giving = asyncio.create_task(peer.give())
            yield peer
            giving.cancel()
            await asyncio.wait([giving])
    finally:
        let_go(clock)


class Files:
    def __init__(self, max_large: int) -> None:
        self.service = Service("files", broker=MemoryBroker(URL), max_large=max_large)
        self.got: list[bytes] = []

        @self.service.rpc
        async def size(request: bytes) -> int:
            self.got.append(request)
            return len(request)


async def test_a_byte_now_and_then_holds_no_room() -> None:
    """Who waits for the room has it in the end, though somebody goes on sending pieces, each in time."""
    body = bytes(2_000_000)
    files, replies = Files(len(body)), asyncio.Queue[Delivery]()
    async with files.service, slowly(body[:1000], 1) as peer:
        inbox = f"{peer.broker.inbox()}.reply"
        await peer.broker.subscribe(inbox, replies.put_nowait)
        await peer.broker.send(Message("files.size", b"", peer.offer, inbox))
        async with Client(URL, large="stream") as client:
            await peer.taken
            assert await client.call("files.size", body, int, timeout=5 * taking.PATIENCE) == len(body)
        reply = await replies.get()
        assert (reply.headers or {})[ERROR_CODE] == str(PeerLost.code)
        assert b"the request did not come whole: only 1 of the next 1000 bytes came within 10 s" in reply.body
        assert files.got == [body]


@pytest.mark.parametrize("piece", [taking.STEP, taking.STEP // 2 + 1])
async def test_who_is_slow_and_goes_on_gets_there(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes minutes in all; a step may be of several pieces."""
    monkeypatch.setattr(taking, "PATIENCE", taking.PATIENCE * (taking.STEP / piece))
    body = bytes(range(256)) * 8192
    files, replies = Files(len(body)), asyncio.Queue[Delivery]()
    async with files.service, slowly(body, piece) as peer:
        inbox = f"{peer.broker.inbox()}.reply"
        await peer.broker.subscribe(inbox, replies.put_nowait)
        await peer.broker.send(Message("files.size", b"", peer.offer, inbox))
        assert (await replies.get()).body == str(len(body)).encode()
        assert (files.got, peer.sent) == ([body], len(peer.pieces))


async def test_the_deadline_of_its_caller_ends_a_request_that_comes_steadily() -> None:
    body = bytes(10 * taking.STEP)
    files, replies = Files(len(body)), list[Delivery]()
    async with files.service, slowly(body, taking.STEP) as peer:
        inbox = peer.broker.inbox()
        await peer.broker.subscribe(f"{inbox}.>", replies.append)
        await peer.broker.send(Message("files.size", b"", peer.offer, f"{inbox}.1.{round(2500 * PAUSE)}ms"))
        await peer.over.wait()
        assert (peer.sent, files.got, replies) == (2, [], [])  # the caller knows by itself


async def test_the_deadline_of_its_caller_ends_a_reply_that_comes_steadily() -> None:
    body = bytes(10 * taking.STEP)
    async with slowly(body, taking.STEP) as peer, Client(URL, large="stream") as client:

        async def answer(delivery: Delivery) -> None:
            await peer.broker.send(Message(delivery.reply, b"", peer.offer))

        await peer.broker.subscribe("files.make", answer)
        with pytest.raises(CallTimeout, match="a part of it came"):
            await client.call("files.make", None, bytes, timeout=2.5 * PAUSE)
        await peer.over.wait()
        assert peer.sent == 2


async def test_a_byte_now_and_then_is_no_reply() -> None:
    async with slowly(bytes(1000), 1) as peer, Client(URL, large="stream") as client:

        async def answer(delivery: Delivery) -> None:
            await peer.broker.send(Message(delivery.reply, b"", peer.offer))

        await peer.broker.subscribe("files.make", answer)
        with pytest.raises(ServiceError, match="the reply did not come whole: only 1 of the next 1000 bytes") as caught:
            await client.call("files.make", None, bytes, timeout=3600)
        assert caught.value.code == PeerLost.code
        assert len(client._calls.streams) == 0
