"""Waiting in middleware: never longer than whoever waits for the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from eventmicro.context import Context
from eventmicro.errors import CallTimeout


async def before_deadline(waited_for: Awaitable[Any], context: Context, what: str) -> Any:
    """Wait for something until the deadline of the message at most.

    Raises:
        CallTimeout: it did not come about in time; `what` says for what was waited.
    """
    bound = asyncio.timeout(context.remaining())
    try:
        async with bound:
            return await waited_for
    except TimeoutError:
        if not bound.expired():
            raise
        raise CallTimeout(
            f"{context.service}.{context.endpoint}: its time was over while it waited for {what}"
        ) from None
