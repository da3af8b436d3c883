"""The rate limit, a token bucket: so many a second, with bursts, for all or for each caller."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from threading import Lock
from typing import Any

from eventmicro.checks import check_count, check_function, check_seconds, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import TooManyRequests, UsageError
from eventmicro.middleware import Handler
from eventmicro.middlewares.keys import short_key

# Of how many keys it is kept when they may come again; who has not come for the longest begins anew.
KEYS = 10_000
# What is sooner than this is now, in seconds: sums of floats are not exact.
ROUNDING = 1e-6


@names_words
class RateLimit:
    """Lets so many a second through, and refuses others with `TooManyRequests`, which says when one may come again.
    What a service answers, what it calls and what it publishes count apart. Services and clients in several event
    loops, each in a thread, may share one.

    Args:
        rate: how many a second, on the average.
        burst: how many at once, where there were none before; default: `rate`, and at least 1.
        by: gives a message's key, such as its caller; each key has a bucket of its own. Default: one for all that
            this is around. `by=lambda context: context.metadata.get("Tenant", "")`
        wait: for how long one may wait for its turn in place of being refused, in seconds, never beyond its deadline.

    Raises:
        UsageError: one of these is out of range.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT, Side.PUBLISHER})

    def __init__(
        self,
        rate: float,
        *,
        burst: int | None = None,
        by: Callable[[Context], str] | None = None,
        wait: float = 0.0,
    ) -> None:
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < inf:
            raise UsageError(f"rate={rate!r}: write how many a second, more than 0")
        if burst is not None:
            check_count("burst", burst)
        if by is not None:
            check_function("by", by)
        check_seconds("wait", wait, or_none_at_all=True)
        self._step = 1 / rate
        self._ahead = self._step * ((burst or max(1, int(rate))) - 1)
        self._by = by
        self._wait = wait
        self._taking = Lock()
        self._due: OrderedDict[tuple[Side, str], float] = (
            OrderedDict()
        )  # when the next one would be, had they come evenly

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        pause = self._take((context.side, "" if self._by is None else short_key(self._by(context))), context)
        if pause > 0:
            await asyncio.sleep(pause)
        return await call_next(message, context)

    def _take(self, key: tuple[Side, str], context: Context) -> float:
        """Take a turn: in how many seconds it is.

        Raises:
            TooManyRequests: it would be too late.
        """
        now = time.monotonic()
        with self._taking:
            due = self._due.pop(key, now)
            if due < now:
                due = now
            pause = due - self._ahead - now
            if pause < ROUNDING:
                pause = 0.0
            elif pause > self._wait or pause >= (inf if (left := context.remaining()) is None else left):
                self._due[key] = due
                raise self._refusal(context, pause)
            self._due[key] = due + self._step  # as the last one
            if len(self._due) > KEYS:
                self._due.popitem(last=False)
        return pause

    def _refusal(self, context: Context, pause: float) -> TooManyRequests:
        """That it comes too soon, and whose limit that is: a caller may have one of its own beside the service's."""
        rate, endpoint = f"more than {1 / self._step:g} a second", f"{context.service}.{context.endpoint}"
        name, why = {
            Side.CLIENT: (endpoint, f"it was not called: this client makes {rate}"),
            Side.ENDPOINT: (endpoint, f"the service is asked for {rate}"),
            Side.PUBLISHER: (context.topic, f"it was not published: this client makes {rate}"),
        }[context.side]
        return TooManyRequests(f"{why}, which its RateLimit refuses", id=name, retry_after=round(pause, 3))
