"""Lifetime: what is connected and closed is so by `async with`, too, and serves one event loop meanwhile."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from eventmicro.errors import UsageError


class Lifetime:
    """A base for what has `connect` and `close`: a client, a broker."""

    _home: asyncio.AbstractEventLoop | None = None
    """The event loop that it serves; whoever connects sets it, and whoever closes takes it back."""

    async def connect(self) -> None:
        """Connect; connected already, nothing happens."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close; closed already, nothing happens."""
        raise NotImplementedError

    def _check_home(self) -> None:
        """Refuse to be used from another event loop than its own.

        Raises:
            UsageError: the running one is another.
        """
        check_home(self._home, type(self).__name__)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def until_done(work: asyncio.Task[None]) -> None:
    """Wait for what is done though nobody waits for it: it goes on where this is cancelled. What it raises."""
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


def check_home(home: asyncio.AbstractEventLoop | None, what: str) -> None:
    """Refuse to let something be used from another event loop than its own; None: it has none yet.

    Raises:
        UsageError: the running one is another.
    """
    if home is not None and asyncio.get_running_loop() is not home:
        raise UsageError(
            f"this {what} was connected in another event loop, and serves that one alone: close it before that one "
            f"ends, and connect one in each, as by `async with`; from threads and plain functions use SyncClient"
        )
