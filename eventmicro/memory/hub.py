"""Who gets a message: the subscriptions and queues that all connections to one URL share in one event loop."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from eventmicro.broker import Durable, QueueState
from eventmicro.errors import UsageError
from eventmicro.memory.live import LiveSubscription
from eventmicro.memory.objects import Objects
from eventmicro.memory.queue import DurableQueue
from eventmicro.message import Message
from eventmicro.wire import NO_RESPONDERS, STATUS, has_wildcards

if TYPE_CHECKING:
    from eventmicro.registrations import Registrations

# For how many subjects, beside as many as are subscribed to, it is remembered who gets their messages.
ROUTES = 1000


class Target(Protocol):
    """What takes messages: a live subscription, or a queue that keeps them."""

    limit: int

    @property
    def full(self) -> bool: ...

    def has_room(self, count: int) -> bool:
        """Whether it takes so many more."""
        ...

    async def room(self) -> None:
        """Return when it may have room again."""

    def put(self, message: Message) -> None: ...

    def describe_full(self) -> str: ...


@dataclass(slots=True)
class Route:
    """Who gets the messages of one subject; of each group it is one member."""

    live: tuple[LiveSubscription, ...]
    queues: tuple[DurableQueue, ...]
    groups: tuple[list[LiveSubscription], ...]


class Hub:
    """The broker of one URL: it lives as long as its event loop, with or without connections."""

    def __init__(self) -> None:
        self.registrations: Registrations | None = None
        self.objects = Objects()
        self._name = secrets.token_hex(4)
        self._inboxes = count(1)
        self._exact: dict[str, list[LiveSubscription | DurableQueue]] = {}
        self._wild: dict[LiveSubscription | DurableQueue, re.Pattern[str]] = {}
        self._queues: dict[str, DurableQueue] = {}
        self._routes: OrderedDict[str, Route] = OrderedDict()

    def inbox(self) -> str:
        return f"_INBOX.{next(self._inboxes)}"

    def targets(self, subject: str, *, queues: bool) -> Sequence[Target]:
        """Every subscription that is alone, of each group the member with the least to do, and the queues if asked."""
        route = self._routes.get(subject) or self._find_route(subject)
        targets = route.live + route.queues if queues else route.live
        return (*targets, *map(_least_busy, route.groups)) if route.groups else targets

    def say_no_responders(self, reply: str) -> None:
        for target in self.targets(reply, queues=False):
            target.put(Message(reply, headers={STATUS: NO_RESPONDERS}))

    def add(self, target: LiveSubscription | DurableQueue) -> None:
        if has_wildcards(target.subject):
            self._wild[target] = pattern(target.subject)
        else:
            self._exact.setdefault(target.subject, []).append(target)
        self._routes.clear()

    def remove(self, target: LiveSubscription) -> None:
        self._wild.pop(target, None)
        others = self._exact.get(target.subject, [])
        if target in others:
            others.remove(target)
        if not others:
            self._exact.pop(target.subject, None)
        self._routes.clear()

    def has_queue(self, name: str) -> bool:
        """Whether there is a queue of this name."""
        return name in self._queues

    def queue_state(self, name: str) -> QueueState | None:
        """How it is with a queue; None: there is none of this name."""
        queue = self._queues.get(name)
        return None if queue is None else queue.state()

    def queue_states(self) -> list[QueueState]:
        """How it is with each queue, by name."""
        return [self._queues[name].state() for name in sorted(self._queues)]

    def queue(self, name: str, subject: str, durable: Durable, limit: int) -> DurableQueue:
        """The queue of this name, made if there is none yet.

        Raises:
            UsageError: it is there and made otherwise.
        """
        queue = self._queues.get(name)
        if queue is None:
            number = len(self._queues) + 1
            queue = DurableQueue(name, subject, durable, limit, f"{self._name}-{number}")
            self._queues[name] = queue
            self.add(queue)
        elif difference := queue.difference(subject, durable):
            raise UsageError(f"queue {name!r} exists {difference}: ask for it as it is, or name another queue")
        return queue

    def _find_route(self, subject: str) -> Route:
        groups: dict[str, list[LiveSubscription]] = {}
        live, queues = [], []
        for target in self._interested(subject):
            if isinstance(target, DurableQueue):
                queues.append(target)
            elif target.queue is None:
                live.append(target)
            else:
                groups.setdefault(target.queue, []).append(target)
        route = self._routes[subject] = Route(tuple(live), tuple(queues), tuple(groups.values()))
        if len(self._routes) > ROUTES + len(self._exact):
            self._routes.popitem(last=False)
        return route

    def _interested(self, subject: str) -> Iterator[LiveSubscription | DurableQueue]:
        yield from self._exact.get(subject, ())
        yield from (target for target, pattern in self._wild.items() if pattern.fullmatch(subject))


def _least_busy(members: list[LiveSubscription]) -> LiveSubscription:
    if len(members) == 1:
        return members[0]
    chosen = min(members, key=len)
    members.remove(chosen)  # and last in line now: those that are equally busy take turns
    members.append(chosen)
    return chosen


def pattern(subject: str) -> re.Pattern[str]:
    """What matches the subjects that it stands for."""
    stand_for = {"*": r"[^.]+", ">": r".+"}
    tokens = (stand_for.get(token) or re.escape(token) for token in subject.split("."))
    return re.compile(r"\.".join(tokens), re.DOTALL)


# The brokers of this process, by event loop and by name.
_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hub]] = WeakKeyDictionary()


def shared_hub(name: str) -> Hub:
    """The hub of this name in the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _forget_closed_loops()
    hubs = _hubs.setdefault(loop, {})
    return hubs.get(name) or hubs.setdefault(name, Hub())


def _forget_closed_loops() -> None:
    """What a connection that was never closed has left behind would keep its loop alive."""
    for loop in [loop for loop in _hubs if loop.is_closed()]:
        del _hubs[loop]
