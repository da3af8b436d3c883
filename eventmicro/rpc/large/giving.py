"""The side that has a large body: it offers it, and sends its pieces as far as the other side gives credit."""

from __future__ import annotations

import asyncio

from eventmicro.errors import EventMicroError, PeerLost
from eventmicro.large import digest_of
from eventmicro.rpc.large.offer import Offer
from eventmicro.rpc.streams.channel import Channel
from eventmicro.rpc.streams.frames import Frame
from eventmicro.rpc.streams.outgoing import FRAME_BYTES
from eventmicro.rpc.streams.streams import Streams

# After how long a silence the other side counts as lost, in seconds.
KEEP_ALIVE = 10.0
# How long a piece is, in bytes, unless the broker takes no more than less.
PIECE = FRAME_BYTES
# What a frame has beside a piece, in bytes, at the most; and the shortest piece.
BESIDE, LEAST = 64, 16


class Giving(Channel):
    """A stream whose messages are the pieces of one body.

    Args:
        body: the body.
        limit: how many bytes the broker takes in a message; None: that is not known.

    Attributes:
        is_given: whether all of it was sent.
    """

    def __init__(self, streams: Streams, name: str, body: bytes, limit: int | None) -> None:
        super().__init__(streams, name, KEEP_ALIVE)
        self.is_given = False
        self._body = body
        self._piece = PIECE if limit is None else max(LEAST, min(PIECE, limit - BESIDE))
        self._accepted = asyncio.get_running_loop().create_future()

    async def offer(self) -> Offer:
        """What the other side is told of it."""
        digest = await digest_of(self._body)
        return Offer(self._streams.address, self.number, self.keep_alive, len(self._body), digest)

    def check(self, frame: Frame) -> None:
        super().check(frame)
        if self.learn_address(frame, "the pieces are taken") and not self._accepted.done():
            self._accepted.set_result(None)

    def end(self, failure: EventMicroError | None = None) -> None:
        super().end(failure)
        self._body = b""  # the parts of a channel hold one another until the garbage collector comes
        if not self._accepted.done():
            self._accepted.set_result(None)

    async def accepted(self) -> None:
        """Return when somebody takes it.

        Raises:
            PeerLost: nobody did.
        """
        try:
            async with asyncio.timeout(self.keep_alive):
                await asyncio.shield(self._accepted)
        except TimeoutError:
            raise PeerLost(f"nobody has taken the body within {self.keep_alive:g} s", id=self.name) from None

    async def give(self) -> None:
        """Send all of it, as it is taken.

        Raises:
            EventMicroError: why not all of it was.
        """
        outgoing, body, piece = self.outgoing, self._body, self._piece
        for start in range(0, len(body), piece):
            part = body[start : start + piece]
            if not outgoing.put(part):
                await outgoing.put_later(part)
        outgoing.end()
        await outgoing.finish()
        if self.failure is not None:
            raise self.failure
        self.is_given = True
        self.end()

    async def give_beside(self) -> None:
        """The same while something else is awaited, which is told by `on_failure` where it fails."""
        try:
            await self.give()
        except EventMicroError as error:
            self.end(error)
