"""Patience: a call waits for its service to be there, or for the broker, as long as it has surely not run."""

from __future__ import annotations

import time
from asyncio import sleep
from typing import Any

from eventmicro.broker import Broker
from eventmicro.context import Context
from eventmicro.errors import ConnectionFailed, Disconnected, NotFound, ServiceError, Unavailable
from eventmicro.retry import CallRetry
from eventmicro.rpc.retrying import Opening, Send

# How long it waits between two looks.
PAUSES = CallRetry(backoff=0.05, longest=0.5)


class Patience:
    """That of one call, with all its attempts.

    Args:
        broker: over which it is made.
        opening: as long as it is not over the call is made again.
        seconds: how long it lasts, from when the call has started.
        timeout: how long a request waits for its reply once somebody takes it, in seconds.
    """

    __slots__ = ("_broker", "_opening", "_seconds", "_timeout", "_until")

    def __init__(self, broker: Broker, opening: Opening, seconds: float, started: float, timeout: float) -> None:
        self._broker = broker
        self._opening = opening
        self._seconds = seconds
        self._timeout = timeout
        self._until = started + seconds

    def deadline(self, deadline: float, outer: Context | None) -> float:
        """The deadline of a call that says only how patient it is: another one, as far as its handler has the time."""
        later = deadline + self._seconds
        return later if outer is None or outer.deadline is None else min(later, outer.deadline)

    async def send(self, send: Send, deadline: float) -> Any:
        """Make an attempt as soon as somebody takes it; errors as of `CallsEndpoints.call`."""
        looks = 0
        while True:
            try:
                if self._broker.connected and not self._broker.online:
                    raise Disconnected(f"{self._broker.url} is away")
                return await send(min(deadline, time.monotonic() + self._timeout))
            except (Disconnected, ConnectionFailed, Unavailable, NotFound) as error:
                looks += 1
                now = time.monotonic()
                pause = min(PAUSES.delay(error, looks), self._until - now)
                if pause <= 0 or now + pause >= deadline or not self._bears(error):
                    raise
            await sleep(pause)

    def _bears(self, error: Exception) -> bool:
        return has_not_run(error) and self._broker.connected and not self._opening.is_over


def has_not_run(error: Exception) -> bool:
    """Whether the call has surely not run, as the broker did not take it, or nobody was there to be asked."""
    if isinstance(error, ServiceError):  # what is not received was found out before anything was sent
        return not error.received or (isinstance(error, Unavailable) and error.nobody)
    return isinstance(error, Disconnected | ConnectionFailed)
