"""Services for the tests that start and stop them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from eventmicro import MemoryBroker, Topic
from eventmicro.errors import Disconnected

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Number(BaseModel):
    value: int = 0


TOPIC = Topic("numbers.seen", Number)


async def echo(request: Number) -> Number:
    return request


# What a service is found and asked by, beside what it declares.
PRESENCE = ("$SRV.", "numbers.$node.", "numbers.health", "numbers.stats")


class Logged(MemoryBroker):
    """Notes what a service does with it."""

    def __init__(self, log: list[str], fail_at: str = "") -> None:
        super().__init__("memory://service")
        self.log = log
        self.fail_at = fail_at

    def note(self, what: str) -> None:
        self.log.append(what)
        if self.fail_at and self.fail_at in what:
            raise Disconnected(f"failed at {what}")

    async def connect(self) -> None:
        self.note("connect")
        await super().connect()

    async def subscribe(self, subject: str, *arguments: Any, **options: Any) -> Any:
        if not subject.startswith(PRESENCE):
            self.note(f"subscribe {subject}")
        return await super().subscribe(subject, *arguments, **options)

    async def flush(self) -> None:
        self.note("flush")
        await super().flush()

    async def close(self) -> None:
        self.log.append("close")
        await super().close()
