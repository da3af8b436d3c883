"""The safety net for queues that somebody else has made with an end to deliveries: what they give up is published.

The server only tells that it has given an event up; the event stays in its stream, from where it is fetched.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from eventmicro.errors import EventMicroError
from eventmicro.message import Message
from eventmicro.wire import DEAD_ATTEMPTS, DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT
from eventmicro_nats.api import MESSAGE_NOT_FOUND, Api, ApiError
from eventmicro_nats.driver import Driver
from eventmicro_nats.headers import read_event_headers
from eventmicro_nats.queues import Queue

log = logging.getLogger(__name__)

REASONS = {
    "MAX_DELIVERIES": "the server gave it up after max_deliver deliveries",
    "MSG_TERMINATED": "it was terminated",
}
# How long to try for one event, in seconds, and how long to wait in between.
TIMEOUT = 60.0
PAUSE = 1.0

Publish = Callable[[Message], Awaitable[None]]


class SafetyNet:
    """Puts into the dead letter what a server gives up of one queue; of all that share the queue, one does it.

    Args:
        queue: the consumer to watch, `name` what users call it.
        dead_letter: the subject to publish to.
    """

    def __init__(self, api: Api, publish: Publish, queue: Queue, name: str, dead_letter: str) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._api = api
        self._publish = publish
        self._queue = queue
        self._name = name
        self._dead_letter = dead_letter

    async def open(self, driver: Driver) -> None:
        """Listen for what the server tells of the queue."""
        for kind, reason in REASONS.items():
            subject = f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{self._queue.stream}.{self._queue.consumer}"
            await driver.subscribe_to(subject, f"eventmicro-{self._queue.consumer}", self._taker(reason))

    def end(self) -> None:
        """Begin nothing more, and stop what is under way."""
        for task in self.tasks:
            task.cancel()

    def _taker(self, reason: str) -> Callable[[bytes, bytes, bytes, bytes], None]:
        def take(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
            task = asyncio.create_task(self._save(data, reason), name=f"eventmicro dead letter {self._dead_letter}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        return take

    async def _save(self, advisory: bytes, reason: str) -> None:
        try:
            told = json.loads(advisory)
            sequence, attempts = int(told["stream_seq"]), int(told["deliveries"])
        except (ValueError, KeyError, TypeError):
            log.warning("queue %s: the server told something that cannot be read: %r", self._name, advisory[:200])
            return
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while asyncio.get_running_loop().time() < deadline:
            try:
                await self._move(sequence, attempts, reason, deadline)
                return
            except ApiError as error:
                if error.number == MESSAGE_NOT_FOUND:
                    break
                log.warning("queue %s: event %d is not in the dead letter yet: %s", self._name, sequence, error)
            except EventMicroError as error:
                log.warning("queue %s: event %d is not in the dead letter yet: %s", self._name, sequence, error)
            await asyncio.sleep(PAUSE)
        log.error("queue %s: event %d was given up, and is not in %s", self._name, sequence, self._dead_letter)

    async def _move(self, sequence: int, attempts: int, reason: str, deadline: float) -> None:
        answer = await self._api.call(f"STREAM.MSG.GET.{self._queue.stream}", {"seq": sequence}, deadline=deadline)
        stored: dict[str, Any] = answer["message"]
        headers = read_event_headers(base64.b64decode(stored.get("hdrs") or "")) or {}
        headers |= {
            DEAD_REASON: reason,
            DEAD_ATTEMPTS: str(attempts),
            DEAD_SUBJECT: stored["subject"],
            DEAD_QUEUE: self._name,
        }
        body = base64.b64decode(stored.get("data") or "")
        await self._publish(Message(self._dead_letter, body, headers, id=f"{self._queue.consumer}-{sequence}"))
        log.warning("queue %s: event %d went to %s: %s", self._name, sequence, self._dead_letter, reason)
