"""Publishes the events, each until it is confirmed, as many at a time as the faults are to meet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

from uvloop import new_event_loop

from eventmicro import Client
from tests.delivery.bench import Bench, Number
from tests.delivery.publishing import publish_singly, publish_together
from tests.soak.facts import KEYS, Facts, key
from tests.soak.patience import reach

log = logging.getLogger(__name__)
# How long to wait before what was not confirmed is published again, in seconds.
PAUSE = 0.2


class Load:
    """Publishes numbers in turn, as far as it is let, in a thread with an event loop such as a service runs on.

    A portion has each key once, and is confirmed before the next one begins: so events of a key have an order, whatever
    has to be published again.
    """

    def __init__(self, bench: Bench, facts: Facts, events: int) -> None:
        self._bench, self._facts, self._events = bench, facts, events
        self._allowed = 0
        self._pause = 0.0
        self._ended = False

    async def under_way(self, share: int, pace: float) -> None:
        """Let so many more be published, within `pace` seconds; return when a part of them is."""
        begun, self._allowed = self._allowed, min(self._allowed + share, self._events)
        self._pause = pace * KEYS / share
        await reach(lambda: len(self._facts.confirmed), begun + (self._allowed - begun) // 10, "confirmed")

    async def done(self) -> None:
        """Return when all that it may publish is confirmed."""
        await reach(lambda: len(self._facts.confirmed), self._allowed, "confirmed")

    def run(self) -> None:
        """Publish all of them, or until it is to end; blocks."""
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._publish_all())

    def end(self) -> None:
        """Let it publish nothing any more."""
        self._ended = True

    async def _publish_all(self) -> None:
        async with Client(self._bench.url) as client:
            for start in range(0, self._events, KEYS):
                while start >= self._allowed and not self._ended:
                    await asyncio.sleep(0.01)
                portion = [_event(value) for value in range(start, min(start + KEYS, self._events))]
                await self._publish(client, portion, start // KEYS % 2 == 0)
                await asyncio.sleep(self._pause)

    async def _publish(self, client: Client, portion: list[Number], together: bool) -> None:
        publish = publish_together if together else publish_singly
        while portion and not self._ended:
            failed = await publish(client, self._bench, portion)
            at = time.monotonic()
            self._facts.confirmed.update((e.value, at) for number, e in enumerate(portion) if number not in failed)
            self._facts.published_again += len(failed)
            for error, count in Counter(map(repr, failed.values())).items():
                log.debug("%d not confirmed: %s", count, error)
            await asyncio.sleep(PAUSE if failed else 0)
            portion = [portion[number] for number in sorted(failed)]


def _event(value: int) -> Number:
    """Half of them have an id, by which a broker may know one that comes again."""
    return Number(value=value, key=key(value), id=str(value) if value % 2 else None)
