"""Answers of JetStream on their way: one inbox for all of them, counter tokens, one sweep for all the timeouts.

Nothing here is made per question but a future: no subscription, no timer, no random number.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from itertools import count

from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.headers import read_headers
from eventmicro_nats.connection.interest import Interest

# How late a timeout may be noticed, in seconds; with very many waiting it grows by a microsecond each.
SWEEP = 0.05


class NoAnswer(Enum):
    """Why a question has no answer."""

    NOBODY = "nobody is there to answer"
    LOST = "the connection was lost"
    LATE = "no answer came in time"


class Refused(str):
    """The server does not let us ask: its own words."""


class Deaf(Refused):
    """The server does not let us hear the answer, in its own words; what was asked for may have been done."""


Answer = bytes | NoAnswer | Refused


class Replies:
    """Who waits for an answer. Lives as long as its broker is connected, over reconnections.

    Attributes:
        losses: how many times the connection was lost.
        deaf: why no answer is heard, where the server has refused the subscription to them.
    """

    def __init__(self, driver: Driver) -> None:
        self.losses = 0
        self._loop = asyncio.get_running_loop()
        self._inbox = driver.new_inbox().encode() + b"."
        self._numbers = count(1)
        self._waiting: dict[bytes, tuple[asyncio.Future[Answer], float, str]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._subscription: Interest | None = None
        self._driver = driver
        self.deaf: Deaf | None = None

    async def open(self, driver: Driver) -> None:
        """Listen for answers on this connection."""
        self._driver, self.deaf = driver, None
        self._subscription = await driver.subscribe_to(self._inbox.decode() + "*", "", self._take)

    def expect(self, subject: str, deadline: float) -> tuple[bytes, asyncio.Future[Answer]]:
        """Where the answer to a question on this subject is to go, and what it will be.

        Args:
            deadline: until when it is waited for, in seconds of the loop's clock.
        """
        token = b"%d" % next(self._numbers)
        answer: asyncio.Future[Answer] = self._loop.create_future()
        if self.deaf is not None:
            answer.set_result(self.deaf)
            return self._inbox + token, answer
        self._waiting[token] = (answer, deadline, subject)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        return self._inbox + token, answer

    def lost(self) -> None:
        """The connection is away, and with it every answer."""
        self.losses += 1
        self._end_all(NoAnswer.LOST)

    def refused(self, text: str) -> bool:
        """The server has refused something and names its subject; whether somebody here waits for it."""
        text_lower, found = text.lower(), False
        for token, (answer, _, subject) in list(self._waiting.items()):
            if f'"{subject.lower()}"' in text_lower:
                del self._waiting[token]
                _set(answer, Refused(text))
                found = True
        return found

    def deafened(self, text: str) -> None:
        """The server has refused a subscription: if it is this one nobody hears an answer, until one comes again."""
        if f'subscription to "{self._inbox.decode()}*"' in text:
            self.deaf = Deaf(text)
            self._end_all(self.deaf)

    def close(self) -> None:
        """Listen no more; whoever still waits gets no answer."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._end_all(NoAnswer.LOST)
        if self._subscription is not None:
            self._driver.forget(self._subscription)

    def _take(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.deaf = None
        waiting = self._waiting.pop(subject[len(self._inbox) :], None)
        if waiting is None:
            return
        nobody = headers and (read_headers(headers) or {}).get("Status") == "503"
        _set(waiting[0], NoAnswer.NOBODY if nobody else data)

    def _sweep(self) -> None:
        """End what is over its deadline, or was given up; go on while anything waits."""
        now = self._loop.time()
        for token, (answer, deadline, _) in list(self._waiting.items()):
            if deadline <= now or answer.done():
                del self._waiting[token]
                _set(answer, NoAnswer.LATE)
        self._sweeper = None
        if self._waiting:
            self._sweeper = self._loop.call_later(max(SWEEP, len(self._waiting) * 1e-6), self._sweep)

    def _end_all(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, {}
        for future, _, _ in waiting.values():
            _set(future, answer)


def _set(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():  # its owner may have been cancelled
        future.set_result(answer)
