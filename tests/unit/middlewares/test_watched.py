"""Streams whose end middleware is told of: once, and how."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from eventmicro.middlewares.watched import Watched

Ends = list[type[BaseException] | None]


class Waiting:
    """A stream, the first reading of which never ends."""

    def __init__(self) -> None:
        self.readings = 0

    async def __anext__(self) -> int:
        self.readings += 1
        if self.readings == 1:
            await asyncio.Event().wait()
        return self.readings


async def given_up() -> tuple[Watched, Ends]:
    """A stream of which a reading was given up, and what is told of its end."""
    ends: Ends = []
    stream = Watched(Waiting(), lambda error: ends.append(None if error is None else type(error)))
    with suppress(TimeoutError):  # which nobody keeps, as its traceback holds the stream
        async with asyncio.timeout(0):
            await anext(stream)
    assert ends == []
    return stream, ends


async def test_a_reading_that_is_given_up_is_no_end() -> None:
    stream, ends = await given_up()
    assert await anext(stream) == 2
    await stream.aclose()
    assert ends == [None]


async def test_a_stream_ends_as_given_up_where_nobody_reads_on() -> None:
    stream, ends = await given_up()
    await stream.aclose()
    await stream.aclose()
    assert ends == [asyncio.CancelledError]
    stream, ends = await given_up()
    del stream  # nobody holds it any more, once asyncio has let go of the cancellation
    await asyncio.sleep(0)
    gc.collect()
    assert ends == [asyncio.CancelledError]


async def test_what_a_handler_raises_as_its_stream_is_closed_is_its_end() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("not cleaned up")

    ends: Ends = []
    stream = Watched(numbers(), lambda error: ends.append(None if error is None else type(error)))
    assert await anext(stream) == 1
    with pytest.raises(ValueError, match="not cleaned up"):
        await stream.aclose()
    assert ends == [ValueError]
