"""How what middleware is around ends: well, by an error, or as a stream, which goes on when that has returned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eventmicro.context import Context, Side
from eventmicro.errors import Ack, UsageError
from eventmicro.middleware import Handler

Ended = Callable[[BaseException | None], None]
"""Is told once how it has ended: None: to its end, or as its reader wanted no more; CancelledError: he waited for more,
gave that up, and has not read on.
"""
# By what nothing has failed: it is given up, or nobody drives it any more.
GIVEN_UP = asyncio.CancelledError, GeneratorExit


@lru_cache(1024)
def is_stream(kind: type) -> bool:
    """Whether values of this class are streams; asked for the class, as to ask each value takes longer."""
    return hasattr(kind, "__anext__")


async def refuse_stream(value: Any, name: str, why: str) -> None:
    """Refuse a stream, which is read no more.

    Raises:
        UsageError: it is one.
    """
    if is_stream(value.__class__):
        if hasattr(value, "aclose"):
            await value.aclose()
        raise UsageError(f"{name} is a stream, which {why}")


def failure(error: BaseException, context: Context) -> BaseException | None:
    """By what a message has failed; None where a handler says that its event is dealt with."""
    return None if isinstance(error, Ack) and context.side is Side.SUBSCRIBER else error


async def watch(handler: Handler, message: Any, context: Context, ended: Ended) -> Any:
    """Handle a message, of whose end somebody is told, be it a stream's."""
    try:
        reply = await handler(message, context)
    except BaseException as error:  # a SystemExit of the handler's, too, which is answered as any other failure
        ended(failure(error, context))
        raise
    if is_stream(reply.__class__):
        return Watched(reply, ended)
    ended(None)
    return reply


class Watched:
    """A stream whose end somebody is told of; in all else it is the stream itself."""

    def __init__(self, stream: Any, ended: Ended) -> None:
        self._stream = stream
        self._ended: Ended | None = ended
        self._given_up = False  # whether the last reading was

    def __aiter__(self) -> Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            message = await self._stream.__anext__()
        except StopAsyncIteration:
            self._end(None)
            raise
        except asyncio.CancelledError:  # perhaps by a time limit for this message: who holds the stream may read on
            self._given_up = True
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._given_up = False
        return message

    async def aclose(self) -> None:
        """Read no more."""
        try:
            if hasattr(self._stream, "aclose"):
                await self._stream.aclose()
        except BaseException as error:  # of what a handler does in the end
            self._end(error)
            raise
        self._end_unread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        self._end_unread()

    def _end_unread(self) -> None:
        """Nobody reads on."""
        self._end(asyncio.CancelledError() if self._given_up else None)

    def _end(self, error: BaseException | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)
