"""The calling side of large bodies: a request that is offered, a reply that is taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from eventmicro.errors import (
    ContentTooLarge,
    EventMicroError,
    ServiceError,
    StreamCancelled,
    UsageError,
)
from eventmicro.large import too_large, without_large
from eventmicro.message import Delivery, Message
from eventmicro.rpc.caller import Caller, timed_out
from eventmicro.rpc.large.giving import Giving
from eventmicro.rpc.large.offer import read_offer, write_offer
from eventmicro.rpc.large.taking import Room, take
from eventmicro.wire import ERROR, ERROR_CODE, LARGE, STATUS, header

if TYPE_CHECKING:
    from eventmicro.rpc.streams.calling import StreamCaller


class LargeCalls:
    """The large bodies of one client's calls.

    Args:
        streams: what has the client's streams, by whose frames they travel.
        max_large: how large a reply may be, in bytes, and how many of them may be on their way in at a time.
    """

    def __init__(self, streams: StreamCaller, max_large: int) -> None:
        self._streams = streams
        self._max_large = max_large
        self._room = Room(max_large)

    async def ask(self, caller: Caller, service: str, request: Message, limit: int | None, deadline: float) -> Delivery:
        """Send a request whose body is over the limit, and wait for its reply; errors as of `Caller.request`.

        Args:
            limit: the limit, where it is known.

        Raises:
            PeerLost, StreamBroken: who has taken the request has not got all of it, so it did not run.
        """
        streams, _ = await self._streams.open_streams()
        giving = Giving(streams, request.subject, request.body, limit)
        try:
            headers = {**(request.headers or {}), LARGE: write_offer(await giving.offer())}
            streams.start(giving.give_beside())
            reply = await _unless_it_fails(giving, caller.request(service, _opening(request, headers), deadline))
        finally:
            giving.end()
        if not giving.is_given and _is_success(reply):
            raise UsageError(f"{request.subject} has answered without its request, which it cannot take in pieces")
        return reply

    async def fetch(self, reply: Delivery, endpoint: str, deadline: float) -> Delivery:
        """The reply with its body, where that was too large for the broker.

        Raises:
            ContentTooLarge: it is larger than is taken here.
            PeerLost, StreamBroken: not all of it came.
            CallTimeout: not all of it came in time.
            BodyMissing: nobody can tell where it is.
        """
        text = header(reply.headers, LARGE)
        if text is None:
            return reply
        offer, started = read_offer(text), time.monotonic()
        if offer.size > self._max_large:
            raise ContentTooLarge(too_large("the reply", offer.size, self._max_large), id=endpoint).as_received()
        streams, _ = await self._streams.open_streams()
        try:
            async with asyncio.timeout(deadline - started):
                reply.body = await take(streams, endpoint, offer, self._room)
        except TimeoutError:
            raise timed_out(endpoint, time.monotonic() - started, "a part of it came").as_received() from None
        except ServiceError as error:
            text = f"the reply did not come whole: {error.detail}"
            raise type(error)(text, id=endpoint, code=error.code).as_received() from None
        reply.headers = without_large(reply.headers) or {}
        return reply


async def _unless_it_fails(giving: Giving, asking: Awaitable[Delivery]) -> Delivery:
    """The reply; where the pieces do not get there, that is the outcome, and the call is given up."""
    task = asyncio.current_task()
    assert task is not None

    def tell() -> None:
        if not isinstance(giving.failure, StreamCancelled):  # who takes them says why by its reply
            task.cancel()

    giving.on_failure = tell
    try:
        return await asking
    except asyncio.CancelledError:
        failure = giving.failure
        if failure is None or isinstance(failure, StreamCancelled) or task.uncancel() > 0:
            raise
        raise _not_whole(failure, giving.name) from None


def _not_whole(failure: EventMicroError, endpoint: str) -> EventMicroError:
    """The outcome of a call whose request did not get there: it did not run, and may be made again."""
    if not isinstance(failure, ServiceError):
        return failure
    text = f"the request did not get there whole: {failure.detail}"
    return type(failure)(text, id=endpoint, code=failure.code, retryable=True).as_received()


def _opening(request: Message, headers: dict[str, str]) -> Message:
    return Message(request.subject, b"", headers)


def _is_success(reply: Delivery) -> bool:
    return all(header(reply.headers, name) is None for name in (ERROR, ERROR_CODE, STATUS))
