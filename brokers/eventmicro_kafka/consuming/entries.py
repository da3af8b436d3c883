"""Entries: what handlers have returned and waits for a transaction, in its order, with those who wait for that."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from eventmicro.message import Message
from eventmicro_kafka.consuming.lane import KafkaDelivery

# How many messages, and how many bytes of them, go into one transaction; more where one handler returns more.
MOST, MOST_BYTES = 2000, 8 * 1024 * 1024

Outcome = BaseException | None


@dataclass(slots=True, eq=False)
class Entry:
    """What a handler has returned, and the events that are finished with it.

    put_aside: whether the messages are copies of the events, which have failed.
    taken: whether a transaction has it.
    is_told: whether a place could tell that its events are finished.
    unwanted: why nobody waits for it any more, if the transaction does not hold.
    outcome: its result is why nothing of it was done, or None: all is, or the events are somebody else's by now.
    """

    messages: Sequence[Message]
    deliveries: Sequence[KafkaDelivery]
    put_aside: bool = False
    taken: bool = False
    is_told: bool = True
    unwanted: Outcome = None
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def size(self) -> int:
        return sum(len(message.body) for message in self.messages)

    @property
    def held(self) -> int:
        """How many of its events are still this side's."""
        return sum(each.lane.holds(each, put_aside=self.put_aside) for each in self.deliveries)

    def end(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Entries:
    """Those that wait to be taken into a transaction."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: deque[Entry] = deque()
        self._filled = asyncio.Event()

    def put(self, entry: Entry) -> None:
        """One comes, behind the others."""
        self._waiting.append(entry)
        self._filled.set()

    async def take(self) -> list[Entry]:
        """The next ones, as many as go into one transaction, as soon as there are any."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        taken, count, size = list[Entry](), 0, 0
        while self._waiting and (not taken or (count < MOST and size < MOST_BYTES)):
            entry = self._waiting.popleft()
            entry.taken = True
            taken.append(entry)
            count += len(entry.messages)
            size += entry.size
        return taken

    def put_back(self, entries: Sequence[Entry]) -> None:
        """These are to be in another one, before the others; but for those that nobody waits for any more."""
        for entry in reversed(entries):
            entry.taken = False
            if entry.unwanted is not None or self.closed:
                entry.end(entry.unwanted)
            elif not entry.outcome.done():
                self._waiting.appendleft(entry)

    def give_up(self, entry: Entry, error: BaseException) -> None:
        """Nobody waits for it any more, but for the end of its transaction."""
        if entry.taken:
            entry.unwanted = error
        elif entry in self._waiting:
            self._waiting.remove(entry)
            entry.end(error)

    def close(self) -> None:
        """There are no more; what was not committed is somebody else's."""
        self.closed = True
        for entry in self._waiting:
            entry.end(None)
        self._waiting.clear()
