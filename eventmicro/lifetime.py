"""Lifetime: what is connected and closed is so by `async with`, too."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Lifetime:
    """A base for what has `connect` and `close`: a client, a broker."""

    async def connect(self) -> None:
        """Connect; connected already, nothing happens."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close; closed already, nothing happens."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
