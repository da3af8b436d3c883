"""What each rival does: give a stream of readings, take one, and answer a call for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from itertools import cycle, islice
from typing import Any, Protocol

from pydantic import BaseModel

from benchmarks.messages import Reading, readings


class Count(BaseModel):
    """How many messages: the request of a stream, and the reply to one."""

    number: int


class Asks(Protocol):
    """The side that measures."""

    def read(self, count: int) -> AsyncIterator[Any]:
        """A stream of so many messages from the server."""
        ...

    async def write(self, count: int) -> int:
        """Send a stream of so many to the server; how many it has taken."""
        ...

    async def call(self) -> Any:
        """Call for one message by one."""
        ...


class StreamPeer(Protocol):
    """A rival."""

    def server(self, url: str) -> AbstractAsyncContextManager[None]: ...

    def client(self, url: str) -> AbstractAsyncContextManager[Asks]: ...


READINGS = readings()


def some(messages: list[Any], count: int) -> islice[Any]:
    """So many of them, again and again."""
    return islice(cycle(messages), count)


def first() -> Reading:
    """What a call sends, and gets."""
    return READINGS[0]
