"""What the tests of the ready-made middleware share: a clock that they move, contexts, and something to call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventmicro import Context, Side
from eventmicro.middlewares import caching, circuit, deduplication, rates, timeouts, window


class Clock:
    """The clock of all middleware: it stands still until a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (caching, circuit, deduplication, rates, timeouts, window):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now


class Directed(Context):
    """The context of a call to a chosen node."""

    __slots__ = ()

    @property
    def directed(self) -> bool:
        return True


def at(side: Side | str = "client", endpoint: str = "quote", **more: Any) -> Context:
    return Context(Side(side), "orders", endpoint, f"orders.{endpoint}", **more)


class Called:
    """What is called: it counts, and answers, raises or waits as a test says."""

    def __init__(self, outcome: Any = "answer") -> None:
        self.outcome = outcome
        self.count = 0
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, message: Any, context: Context) -> Any:
        self.count += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome() if callable(self.outcome) else self.outcome


class Numbers:
    """A stream of numbers, which may fail in the end."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.left = count
        self.error = error
        self.closed = False
        self.name = "numbers"

    def __aiter__(self) -> Numbers:
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            raise self.error or StopAsyncIteration
        self.left -= 1
        return self.left

    async def aclose(self) -> None:
        self.closed = True


async def turns(count: int = 5) -> None:
    """Let the others go on."""
    for _ in range(count):
        await asyncio.sleep(0)
