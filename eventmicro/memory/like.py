"""LikeBroker: the broker of this process, which can no more than another one: `memory://?like=kafka`.

A service that it takes is one that the other would take: it declares the same, and refuses the same names and options.
What the other keeps for queues that are made later it keeps, too, as far back as `HISTORY` goes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from eventmicro.broker import PUBLISH_TIMEOUT, ChecksNames, Durable, Receive
from eventmicro.errors import Unsupported, UsageError
from eventmicro.memory.broker import MemoryBroker
from eventmicro.memory.durable import DurableSubscription
from eventmicro.memory.hub import Hub, pattern
from eventmicro.memory.live import LiveSubscription
from eventmicro.message import Bounded, Delivery, Message
from eventmicro.plugins import unconnected_broker
from eventmicro.wire import has_wildcards

# How many events are kept for queues that begin with what was before them.
HISTORY = 10_000

_histories: WeakKeyDictionary[Hub, deque[tuple[float, Message]]] = WeakKeyDictionary()


class LikeBroker(MemoryBroker):
    """As `MemoryBroker`, with the capabilities of another broker, which is never connected.

    Args:
        url: `memory://?like=kafka` or `memory://name?like=kafka`: the URL scheme of an adapter that is installed.
        settings: as of MemoryBroker.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        parts = urlsplit(url)
        like = parse_qs(parts.query, keep_blank_values=True).get("like", [])
        if len(like) != 1 or like[0] in ("", "memory"):
            raise UsageError(f"{url!r}: write which other broker it is like, as memory://?like=kafka")
        super().__init__(url, **settings)
        self._other = unconnected_broker(f"{like[0]}://")
        self.capabilities = self._other.capabilities
        if not hasattr(self._other, "registry"):  # its server can keep none
            vars(self)["registry"] = None

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        """Refuse what the other would refuse."""
        if isinstance(self._other, ChecksNames):
            self._other.check(subject, queue=queue, durable=durable)

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> LiveSubscription | DurableSubscription:
        self.check(subject, queue=queue, durable=durable)
        return await super().subscribe(subject, receive, queue=queue, durable=durable)

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        self.check(message.subject)
        await super().publish(message, timeout=timeout)
        self._remember(message)

    def try_publish(self, message: Message) -> bool:
        self.check(message.subject)
        is_done = super().try_publish(message)
        if is_done:
            self._remember(message)
        return is_done

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        for message in messages:
            self.check(message.subject)
        await super().publish_and_ack(messages, deliveries, timeout=timeout)

    def _put_together(self, hub: Hub, messages: Sequence[Message]) -> None:
        super()._put_together(hub, messages)
        for message in messages:
            self._remember(message)

    async def send(self, message: Message) -> None:
        self._check_calls()
        await super().send(message)

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        self._check_calls()
        return super().try_send(subject, body, headers, reply)

    def inbox(self) -> str:
        self._check_calls()
        return super().inbox()

    def _check_calls(self) -> None:
        if not self.capabilities.request_reply:
            raise Unsupported(f"{self.url} carries no calls; call over nats:// or memory://")

    def _remember(self, message: Message) -> None:
        if self.capabilities.replay and self._hub is not None:
            _histories.setdefault(self._hub, deque(maxlen=HISTORY)).append((time.time(), message))

    def _subscribe_durable(
        self, hub: Hub, subject: str, receive: Receive, queue: str | None, durable: Durable
    ) -> DurableSubscription:
        is_new = queue is not None and not hub.has_queue(queue)
        if is_new and durable.start != "new":
            kept = hub.queue(str(queue), subject, durable, self._queue_limit)
            for message in self._since(hub, subject, durable.start):
                kept.put(message)
        return super()._subscribe_durable(hub, subject, receive, queue, replace(durable, start="new"))

    def _since(self, hub: Hub, subject: str, start: str | datetime) -> list[Message]:
        first = start.timestamp() if isinstance(start, datetime) else 0.0
        matches = pattern(subject).fullmatch if has_wildcards(subject) else subject.__eq__
        kept = [(at, each) for at, each in _histories.get(hub, ()) if at >= first and matches(each.subject)]
        return [each for at, each in kept if not _is_over(at, each)]


def _is_over(at: float, message: Message) -> bool:
    """Whether the time of an event that was published then is over."""
    return isinstance(message, Bounded) and message.ttl is not None and at + message.ttl <= time.time()
