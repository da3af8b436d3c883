"""A durable queue: it keeps its events until they are settled, also while nobody is there to take them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from eventmicro.broker import Durable, QueueState
from eventmicro.intake import BURST
from eventmicro.message import Bounded, Message


@dataclass(slots=True)
class Event:
    """One event as its queue keeps it; the number is its place in the order of publishing, the queue what names it."""

    number: int
    queue: str
    subject: str
    body: bytes
    headers: dict[str, str] | None
    reply: str
    attempts: int = 0
    priority: int = 0
    expires: float | None = None
    """Until when it may be begun with, in `time.monotonic()` seconds; None: at any time."""


class Member(Protocol):
    """Who takes events from a queue."""

    def wake(self) -> bool:
        """Take what waits, soon; False where it has no room for it."""
        ...


class DurableQueue:
    """The events of one queue, handed to its members.

    Args:
        name, subject: of the queue.
        durable: how it was asked for by who made it.
        limit: how many events it keeps before publishers wait.
        id: what begins the ids of its events.
    """

    def __init__(self, name: str, subject: str, durable: Durable, limit: int, id: str) -> None:
        self.name = name
        self.subject = subject
        self._ordered = durable.ordered
        self._dedupe = durable.dedupe
        self.limit = limit
        self._id = id
        self._numbers = count(1)
        self._size = 0
        self._new: deque[Event] = deque()
        self._ahead: list[tuple[int, int, Event]] = []  # a heap: what is new and has a priority, the highest first
        self._again: list[tuple[int, Event]] = []  # a heap: what has been delivered before, the oldest first
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._settled: asyncio.Event | None = None  # what publishers wait for while it is full
        self._members: deque[Member] = deque()

    @property
    def at_once(self) -> int:
        """How many events a member may take before the first of them is handled."""
        return 1 if self._ordered else BURST  # ordered, the next one may be that which is given back

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._new or self._again or self._ahead)

    @property
    def full(self) -> bool:
        return self._size >= self.limit

    def has_room(self, count: int) -> bool:
        return self._size + count <= self.limit

    async def room(self) -> None:
        self._settled = self._settled or asyncio.Event()
        await self._settled.wait()

    def state(self) -> QueueState:
        waiting = len(self._new) + len(self._again)
        return QueueState(
            queue=self.name, waiting=waiting, unsettled=self._size - waiting, consumers=len(self._members)
        )

    def put(self, message: Message) -> None:
        if self._dedupe is not None and message.id is not None and self._is_known(message.id, self._dedupe):
            return
        number = next(self._numbers)
        headers = message.headers and dict(message.headers)
        event = Event(number, self._id, message.subject, message.body, headers, message.reply)
        self._size += 1
        if message.__class__ is not Message and isinstance(message, Bounded):
            event.expires = None if message.ttl is None else time.monotonic() + message.ttl
            if message.priority and not self._ordered:
                event.priority = message.priority
                self._put_ahead(event)
                self.wake()
                return
        self._new.append(event)
        if len(self._new) == 1 or len(self._members) != 1:  # else its one member knows of those before, or has no room
            self.wake()

    def describe_full(self) -> str:
        return f"queue {self.name!r} is full: it keeps {self.limit} events that are not settled"

    def difference(self, subject: str, durable: Durable) -> str:
        """In which way it is not what is asked for, in words; empty where it is."""
        pairs = {
            "on subject": (self.subject, subject),
            "with ordered": (self._ordered, durable.ordered),
            "with dedupe": (self._dedupe, durable.dedupe),
        }
        return "; ".join(f"{what} {here!r}, not {asked!r}" for what, (here, asked) in pairs.items() if here != asked)

    def join(self, member: Member) -> None:
        self._members.append(member)
        self.wake()

    def leave(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)
        self.wake()

    def next_for(self, member: Member) -> Event | None:
        """The next event for this member; None where nothing waits, or another one's turn is not over."""
        if self._ordered and member is not self._members[0]:
            return None
        while (event := self._first()) is not None:
            if event.expires is None or event.attempts or time.monotonic() < event.expires:
                event.attempts += 1
                return event
            self.done()
        return None

    def put_back(self, event: Event) -> None:
        """An event was taken and not delivered: the attempt does not count, and it keeps its place."""
        event.attempts -= 1
        if event.attempts:
            heappush(self._again, (event.number, event))
        elif event.priority:
            self._put_ahead(event)
        else:
            self._new.appendleft(event)

    def done(self) -> None:
        """An event is dealt with."""
        self._size -= 1
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    def take_back(self, event: Event, delay: float = 0.0) -> None:
        """An event is to be delivered again, in `delay` seconds."""
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self.take_back, event)
            return
        heappush(self._again, (event.number, event))
        self.wake()

    def wake(self) -> None:
        """Have what waits taken: ordered, by the first member, else by the next one in turn that has room."""
        if not self.waiting:
            return
        for _ in range(len(self._members)):
            woken = self._members[0].wake()
            if self._ordered:
                return
            self._members.rotate(-1)
            if woken:
                return

    def _first(self) -> Event | None:
        """Take out what comes first; None where nothing waits."""
        if self._again:
            return heappop(self._again)[1]
        if self._ahead:
            return heappop(self._ahead)[2]
        return self._new.popleft() if self._new else None

    def _put_ahead(self, event: Event) -> None:
        heappush(self._ahead, (-event.priority, event.number, event))

    def _is_known(self, id: str, window: float) -> bool:
        now = time.monotonic()
        while self._seen and self._seen[next(iter(self._seen))] <= now - window:
            self._seen.popitem(last=False)
        if id in self._seen:
            return True
        self._seen[id] = now
        return False
