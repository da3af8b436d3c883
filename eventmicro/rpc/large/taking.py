"""The side that takes a large body: piece by piece, whole or not at all, and no more at a time than it has room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from eventmicro.errors import PeerLost, StreamBroken
from eventmicro.rpc.large.offer import Offer
from eventmicro.rpc.streams.channel import Channel
from eventmicro.rpc.streams.streams import Streams

# For how long room is held for one of which no piece comes, in seconds, whatever its side says of its keep-alive: all
# others may be waiting for that.
PATIENCE = 10.0


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
    while await _comes(channel):
        piece = incoming.waiting.popleft()
        if isinstance(piece, str):
            continue  # a content type: the message has said that
        body += piece
        digest.update(piece)
        if len(body) > offer.size:
            raise StreamBroken(f"more came than the {offer.size} bytes that were offered")
        incoming.was_read(len(piece))
    if len(body) != offer.size:
        raise StreamBroken(f"{len(body)} bytes came of the {offer.size} that were offered")
    if digest.hexdigest() != offer.digest:
        raise StreamBroken("its digest is another one than was offered")
    return bytes(body)


async def _comes(channel: Channel) -> bool:
    """Whether another piece is there; False: the other side has sent all."""
    patience = min(channel.keep_alive, PATIENCE)
    try:
        async with asyncio.timeout(patience):  # signs of life are no pieces
            await channel.incoming.wait()
    except StopAsyncIteration:
        return False
    except TimeoutError:
        raise PeerLost(f"nothing more of it came for {patience:g} s") from None
    return True
