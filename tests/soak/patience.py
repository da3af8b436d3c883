"""Waiting for what may take long, and may never come."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from tests.servers.process import ServerProcess

log = logging.getLogger(__name__)
# After how long without any progress nothing more is waited for, in seconds.
PATIENCE = 300.0
T = TypeVar("T")


class Stuck(Exception):
    """What was waited for has not come about, nor come nearer."""


async def reach(count: Callable[[], int], goal: int, what: str, step: float = 0.01) -> None:
    """Return when so many are counted, which is looked at every `step` seconds.

    Raises:
        Stuck: for a long time there were no more.
    """
    most, since = count(), time.monotonic()
    while most < goal:
        if time.monotonic() > since + PATIENCE:
            raise Stuck(f"{most} of {goal} {what}, and no more for {PATIENCE:g} s")
        await asyncio.sleep(step)
        if (now := count()) > most:
            most, since = now, time.monotonic()


async def aside(function: Callable[..., T], *arguments: object) -> T:
    """Call what blocks."""
    return await asyncio.to_thread(function, *arguments)


def stop(process: ServerProcess) -> None:
    """End it in order; one that does not end is killed, and that is noted."""
    try:
        process.stop()
    except subprocess.TimeoutExpired:
        log.warning("%s did not stop in time and was killed", process.name)
