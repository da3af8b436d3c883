"""The side that takes a large body: piece by piece, whole or not at all, and no more at a time than it has room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from eventmicro.errors import PeerLost, StreamBroken
from eventmicro.rpc.large.giving import PIECE
from eventmicro.rpc.large.offer import Offer
from eventmicro.rpc.streams.channel import Channel
from eventmicro.rpc.streams.streams import Streams

# For how long room is held for one of which nothing comes, in seconds, whatever its side says of its keep-alive: all
# others may be waiting for that.
PATIENCE = 10.0
# How much must come to renew that, in bytes, unless less is left: were it any piece, a byte now and then would hold
# room for ever.
STEP = PIECE


class Room:
    """How many bytes of large bodies may be on their way in at a time, of one connection; others wait in line."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Hold so much of it, which is no more than there is in all."""
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()


async def take(streams: Streams, name: str, offer: Offer, room: Room) -> bytes:
    """The body that is offered, whole.

    Raises:
        StreamBroken: pieces were lost or doubled, or they are not what was offered.
        PeerLost: nothing more comes of them.
        StreamCancelled: the other side has given it up.
    """
    channel = Channel(streams, name, offer.keep_alive)
    channel.outgoing.address, channel.outgoing.stream = offer.address, offer.stream
    channel.outgoing.accept(streams.address, channel.number)
    try:
        async with room.of(offer.size):
            credit = channel.incoming.credit
            channel.outgoing.give_credit(credit.item_limit, credit.byte_limit)
            body = await _gather(channel, offer)
        channel.end()
        return body
    finally:
        channel.cancel()  # unless it has ended


async def _gather(channel: Channel, offer: Offer) -> bytes:
    incoming, body, digest = channel.incoming, bytearray(), sha256()
    pace = Pace(offer.size, min(channel.keep_alive, PATIENCE))
    while await _comes(channel, pace):
        piece = incoming.waiting.popleft()
        if isinstance(piece, str):
            continue  # a content type: the message has said that
        body += piece
        digest.update(piece)
        if len(body) > offer.size:
            raise StreamBroken(f"more came than the {offer.size} bytes that were offered")
        pace.count(len(piece))
        incoming.was_read(len(piece))
    if len(body) != offer.size:
        raise StreamBroken(f"{len(body)} bytes came of the {offer.size} that were offered")
    if digest.hexdigest() != offer.digest:
        raise StreamBroken("its digest is another one than was offered")
    return bytes(body)


class Pace:
    """How long the next step of a body is waited for, which bounds the whole of it by its length.

    Args:
        size: how long the body is, in bytes.
        patience: how long a step may take, in seconds.

    Attributes:
        until: when it is over, in the loop's seconds.
    """

    def __init__(self, size: int, patience: float) -> None:
        self._left = size
        self._patience = patience
        self._now = asyncio.get_running_loop().time
        self._came = 0  # of this step
        self.until = self._now() + patience

    def count(self, size: int) -> None:
        """So many bytes have come."""
        self._came += size
        if self._came >= STEP:
            self._left -= self._came
            self._came, self.until = 0, self._now() + self._patience

    def lost(self) -> PeerLost:
        """What is said where it is over."""
        if not self._came:
            return PeerLost(f"nothing more of it came for {self._patience:g} s")
        step = min(STEP, self._left)
        return PeerLost(f"only {self._came} of the next {step} bytes came within {self._patience:g} s")


async def _comes(channel: Channel, pace: Pace) -> bool:
    """Whether another piece is there; False: the other side has sent all."""
    try:
        async with asyncio.timeout_at(pace.until):  # signs of life are no pieces
            await channel.incoming.wait()
    except StopAsyncIteration:
        return False
    except TimeoutError:
        raise pace.lost() from None
    return True
