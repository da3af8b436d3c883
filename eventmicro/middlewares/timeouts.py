"""The timeout: no more time than this for what runs inside."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from eventmicro.checks import check_seconds, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import CallTimeout
from eventmicro.middleware import Handler


@names_words
class Timeout:
    """Gives what runs inside no more than so many seconds, and ends it with `CallTimeout` then. On the client's side
    it moves the call's deadline, all attempts together; elsewhere it cancels the handler, or the publishing. Of a
    stream it is about the opening.

    Args:
        seconds: how long.

    Raises:
        UsageError: it is no time.
    """

    __eventmicro_sides__ = frozenset(Side)

    def __init__(self, seconds: float) -> None:
        check_seconds("Timeout", seconds)
        self._seconds = seconds

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        if context.side is Side.CLIENT and not context.is_stream:
            until = time.monotonic() + self._seconds
            context.deadline = until if context.deadline is None else min(until, context.deadline)
            return await call_next(message, context)
        bound = asyncio.timeout(self._seconds)
        try:
            async with bound:
                return await call_next(message, context)
        except TimeoutError:
            if not bound.expired():
                raise
            raise CallTimeout(f"{context.topic}: not finished within the timeout of {self._seconds:g} s") from None
