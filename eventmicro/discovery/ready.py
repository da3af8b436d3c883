"""Whether a service is there, and waiting until it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from eventmicro.broker import Broker
from eventmicro.discovery.asking import ask_all, can_be_asked
from eventmicro.discovery.directing import Directing
from eventmicro.discovery.services_api import PING
from eventmicro.errors import TransportError, Unavailable
from eventmicro.information import PREFIX

# The pauses between two looks, in seconds: twice as long each time, up to the longest.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
# How long a service may take to answer that it is there, in seconds.
ANSWER = 1.0


async def wait_until_ready(broker: Broker, directing: Directing, services: Sequence[str], timeout: float) -> None:
    """Return when a node of each service answers; where the broker carries no questions, when one is registered.

    Args:
        timeout: how long to wait in all, in seconds.

    Raises:
        Unavailable: one was not there in time; it says which.
        UsageError: the broker carries no questions, and there is no registry.
    """
    end = time.monotonic() + timeout
    for service in services:
        pause = FIRST_PAUSE
        while not await is_ready(broker, directing, service, min(ANSWER, max(end - time.monotonic(), 0.001))):
            left = end - time.monotonic()
            if left <= 0:
                raise Unavailable(f"service {service!r} was not there within {timeout:g} s", id=service)
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)


async def is_ready(broker: Broker, directing: Directing, service: str, within: float) -> bool:
    """Whether a node of this service is there; see `wait_until_ready`."""
    try:
        if can_be_asked(broker):
            return bool(await ask_all(broker, f"{PREFIX}.{PING}.{service}", within=within, most=1))
        return (await directing.view(service, within)).count > 0
    except (TransportError, Unavailable):
        return False
