"""The safety net for queues that somebody else has made with an end to deliveries: what they give up is published.

The server only tells that it has given an event up; the event stays in its stream, from where it is fetched.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from eventmicro.message import Copy
from eventmicro.wire import DEAD_ATTEMPTS, DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.headers import read_event_headers
from eventmicro_nats.connection.interest import Interest
from eventmicro_nats.connection.reader import Take
from eventmicro_nats.deliveries import HeadedDelivery
from eventmicro_nats.errors import plain
from eventmicro_nats.jetstream.api import MESSAGE_NOT_FOUND, Api, ApiError
from eventmicro_nats.jetstream.queues import Queue
from eventmicro_nats.jetstream.replies import Replies
from eventmicro_nats.jetstream.rights import check_may_publish

log = logging.getLogger(__name__)

# What the server says was the reason where an event that was held was removed from its stream, by limits or a purge.
REMOVED = frozenset({"Unacknowledged message was deleted", "Message deleted by stream limits"})
REASONS = {
    "MAX_DELIVERIES": "the server gave it up after max_deliver deliveries",
    "MSG_TERMINATED": "it was terminated",
}
# How long to try for one event, in seconds, and how long to wait in between.
TIMEOUT = 60.0
PAUSE = 1.0
# How long it may take to find out what this user may do, in seconds.
RIGHTS_TIMEOUT = 2.0
# How many may wait to be saved; an event that is over that stays in its stream, and is named in the log.
MOST_WAITING = 100_000

Publish = Callable[[Copy], Awaitable[None]]


def nanoseconds(time: str) -> int:
    """A moment as the server writes it in JSON, such as `2025-01-01T12:00:00.5Z`, as it writes it in a subject."""
    whole, _, part = time.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(part.ljust(9, "0"))


class GivenUp(NamedTuple):
    """What the server told of an event: where it is in the stream, how often it was delivered, why it is no more."""

    sequence: int
    attempts: int
    reason: str


class SafetyNet:
    """Puts into the dead letter what a server gives up of one queue; of all that share the queue, one does it.

    Args:
        queue: the consumer to watch, `name` what users call it.
        dead_letter: the subject to publish to.
    """

    def __init__(self, api: Api, publish: Publish, queue: Queue, name: str, dead_letter: str) -> None:
        self._api = api
        self._publish = publish
        self._queue = queue
        self._name = name
        self._dead_letter = dead_letter
        self._driver: Driver | None = None
        self._inner: list[Interest] = []
        self._given_up: deque[GivenUp] = deque()
        self._saving: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way; after `end` it ends."""
        return [self._saving] if self._saving is not None else []

    @property
    def needs(self) -> list[str]:
        """To what this user must be able to subscribe: to nothing, where the server gives nothing up."""
        return [self._subject(kind) for kind in REASONS] if self._queue.max_deliver > 0 else []

    def _subject(self, kind: str) -> str:
        return f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{self._queue.stream}.{self._queue.consumer}"

    async def open(self, driver: Driver) -> None:
        """Listen for what the server tells of the queue."""
        self._driver, self._inner = driver, []
        for kind, reason in REASONS.items():
            group = f"eventmicro-{self._queue.consumer}"
            self._inner.append(await driver.subscribe_to(self._subject(kind), group, self._taker(reason)))

    async def try_rights(self, driver: Driver, replies: Replies) -> None:
        """Refuse where this user may not do what a dead letter takes.

        Raises:
            UsageError: it names the subject.
        """
        await check_may_publish(driver, replies, self._dead_letter)
        if self._queue.max_deliver > 0:
            deadline = asyncio.get_running_loop().time() + RIGHTS_TIMEOUT
            with suppress(ApiError):  # there is no such event
                await self._api.call(f"STREAM.MSG.GET.{self._queue.stream}", {"seq": 0}, deadline=deadline)

    def refused(self, text: str) -> bool:
        """The server has refused a subscription; whether it is one of these and not needed, and so given up."""
        refused = [inner for inner in self._inner if f'"{inner.subject}"' in text]
        if not refused or self._queue.max_deliver > 0 or self._driver is None:
            return False
        for inner in refused:
            self._inner.remove(inner)
            self._driver.forget(inner)
        log.info(
            "queue %s: %s; what others terminate is in no dead letter", self._name, text, extra={"queue": self._name}
        )
        return True

    def end(self) -> None:
        """Listen no more, and stop what is under way."""
        if self._driver is not None:
            for inner in self._inner:
                self._driver.leave(inner)
        if self._saving is not None:
            self._saving.cancel()

    def _taker(self, reason: str) -> Take:
        def take(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
            told = json.loads(data)
            if told.get("reason") in REMOVED:
                log.warning(
                    "queue %s: event %d was removed from stream %s while it was held, by limits or a purge: who has it "
                    "handles it, and it does not come again",
                    self._name,
                    int(told["stream_seq"]),
                    self._queue.stream,
                    extra={"queue": self._name},
                )
                return
            self._take(GivenUp(int(told["stream_seq"]), int(told["deliveries"]), reason))

        return take

    def _take(self, event: GivenUp) -> None:
        if len(self._given_up) >= MOST_WAITING:
            self._say_not_saved(event)
            return
        self._given_up.append(event)
        if self._saving is None:
            self._saving = asyncio.create_task(self._save_all(), name=f"eventmicro dead letter {self._dead_letter}")

    async def _save_all(self) -> None:
        try:
            while self._given_up:
                if not await self._save(self._given_up[0]):
                    self._say_not_saved(self._given_up[0])
                self._given_up.popleft()
        finally:
            self._saving = None
            for event in self._given_up:
                self._say_not_saved(event)
            self._given_up.clear()

    async def _save(self, event: GivenUp) -> bool:
        """Publish it as a dead letter; whether it is one now."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + TIMEOUT
        while clock() < deadline:
            try:
                await self._move(event, deadline)
                return True
            except Exception as error:  # whatever it is, the others are to be saved
                if isinstance(error, ApiError) and error.number == MESSAGE_NOT_FOUND:
                    return False
                log.warning(
                    "queue %s: event %d is not in the dead letter yet: %s",
                    self._name,
                    event.sequence,
                    plain(error),
                    extra={"queue": self._name},
                )
            await asyncio.sleep(PAUSE)
        return False

    async def _move(self, event: GivenUp, deadline: float) -> None:
        what = f"STREAM.MSG.GET.{self._queue.stream}"
        stored = (await self._api.call(what, {"seq": event.sequence}, deadline=deadline))["message"]
        raw, body = (base64.b64decode(stored.get(part) or "") for part in ("hdrs", "data"))
        headers = read_event_headers(raw) or {}
        came = HeadedDelivery(stored["subject"], body, headers, "", raw)
        about = {
            DEAD_REASON: event.reason,
            DEAD_ATTEMPTS: str(event.attempts),
            DEAD_SUBJECT: stored["subject"],
            DEAD_QUEUE: self._name,
        }
        name = f"{self._name}.{event.sequence}-{nanoseconds(stored['time'])}"  # as the subscriber's own dead letter has
        await self._publish(Copy(self._dead_letter, body, headers | about, id=name, of=came))
        log.warning(
            "queue %s: event %d went to %s: %s",
            self._name,
            event.sequence,
            self._dead_letter,
            event.reason,
            extra={"queue": self._name},
        )

    def _say_not_saved(self, event: GivenUp) -> None:
        log.error(
            "queue %s: event %d was given up, and is not in %s",
            self._name,
            event.sequence,
            self._dead_letter,
            extra={"queue": self._name},
        )
