"""What all members have in common: the event, and what they tell the fleet, a line each on stdout."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

# How many events are on their way at a time where a client can.
TOGETHER = 100
TEXT = "größer"
# Where members run in threads of a test: what ends those that wait for nothing but events.
ended = threading.Event()


class Event(BaseModel):
    """What they publish; `n` is no other event's."""

    n: int
    by: str
    text: str = TEXT


def say(line: str) -> None:
    """Tell the fleet; what was told is told also where this process is killed in the next moment."""
    os.write(1, f"{line}\n".encode())


def ready() -> None:
    """It takes events from now on."""
    say("ready")


def got(event: Any) -> None:
    """An event has come; it is told before it is acknowledged."""
    value = event if isinstance(event, dict) else event.model_dump()
    say(f"got {value['n']} {value['by']}" if value["text"] == TEXT else f"wrong {value!r}")


def published(last: int) -> None:
    """All events up to this one are confirmed."""
    say(f"published {last}")


async def publish_all(numbers: range, publish: Callable[[int], Awaitable[Any]]) -> None:
    """Publish events, some together."""
    for start in range(numbers.start, numbers.stop, TOGETHER):
        some = range(start, min(start + TOGETHER, numbers.stop))
        await asyncio.gather(*map(publish, some))
        published(some[-1])


async def serve(broker: Any) -> None:
    """Run a broker of FastStream with its subscribers until this is killed."""
    async with broker:
        await broker.start()
        ready()
        await forever()


async def forever() -> None:
    """Until it is killed."""
    await asyncio.Event().wait()
