"""Waiting for what the codec of a topic needs before it can write, such as a schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from eventmicro.codec import NotReady
from eventmicro.errors import Disconnected

T = TypeVar("T")


async def when_ready(write: Callable[[], T], subject: str, seconds: float) -> tuple[T, float]:
    """What `write` gives when all that it needs is here, one after the other, and how many of the seconds are left.

    Raises:
        Disconnected: it was not to be had in time.
        TransportError, DecodeError: it is not to be had.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    return write(), deadline - loop.time()
                except NotReady as missing:
                    await missing.fetch()
    except TimeoutError:
        raise Disconnected(f"{subject}: what its codec needs was not to be had within {seconds:g} s") from None
