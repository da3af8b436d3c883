"""The serving side of large bodies: a request that is taken, a reply that is offered."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from eventmicro.broker import Broker
from eventmicro.errors import (
    BadRequest,
    BodyMissing,
    ContentTooLarge,
    PeerLost,
    ServiceError,
    StreamCancelled,
    TransportError,
)
from eventmicro.large import too_large, without_large
from eventmicro.message import Delivery, Message
from eventmicro.wire import LARGE, stream_subject

if TYPE_CHECKING:
    from eventmicro.rpc.large.taking import Room
    from eventmicro.rpc.streams.streams import Streams


class LargeBodies:
    """The large bodies of one node's endpoints. It opens nothing before the first; `close` ends it.

    Args:
        max_large: how large a request may be, in bytes, and how many of them may be on their way in at a time.
    """

    def __init__(self, broker: Broker, service: str, max_large: int) -> None:
        self._broker = broker
        self._service = service
        self._max_large = max_large
        self._opened: tuple[Streams, Room] | None = None
        self._opening = asyncio.Lock()

    async def take(self, request: Delivery, name: str, text: str) -> None:
        """Give a request the body that it offers by this header.

        Raises:
            BadRequest: it offers none.
            ContentTooLarge: it is larger than is taken here.
            StreamBroken, PeerLost: not all of it came.
        """
        from eventmicro.rpc.large.offer import read_offer
        from eventmicro.rpc.large.taking import take

        try:
            offer = read_offer(text)
        except BodyMissing as error:
            raise BadRequest(f"the request is {error}") from None
        if offer.size > self._max_large:
            raise ContentTooLarge(too_large("the request", offer.size, self._max_large))
        streams, room = await self._open()
        try:
            request.body = await take(streams, name, offer, room)
        except ServiceError as error:
            text = f"the request did not come whole: {error.detail}"
            raise type(error)(text, code=error.code, retryable=True) from None
        except TransportError:
            raise PeerLost("the request did not come whole: the broker was away", retryable=True) from None
        request.headers = without_large(request.headers)

    async def give(self, reply: Message, name: str, limit: int | None) -> None:
        """Send a reply in pieces.

        Args:
            limit: the broker's limit, where it is known.

        Raises:
            EventMicroError: it did not get there.
        """
        from eventmicro.rpc.large.giving import Giving
        from eventmicro.rpc.large.offer import write_offer

        streams, _ = await self._open()
        giving = Giving(streams, name, reply.body, limit)
        try:
            headers = {**(reply.headers or {}), LARGE: write_offer(await giving.offer())}
            await self._broker.send(Message(reply.subject, b"", headers))
            await giving.accepted()
            await giving.give()
        except StreamCancelled:
            pass  # nobody waits for it any more
        finally:
            giving.cancel()  # unless it has ended

    async def close(self) -> None:
        """Take no more frames."""
        if self._opened is not None:
            await self._opened[0].close()

    async def _open(self) -> tuple[Streams, Room]:
        from eventmicro.rpc.large.taking import Room
        from eventmicro.rpc.streams.streams import Streams

        async with self._opening:
            if self._opened is None:
                streams = Streams(self._broker, stream_subject(self._service, secrets.token_hex(8)))
                await streams.open()
                self._opened = streams, Room(self._max_large)
        return self._opened
