"""Subscriptions that the server refuses: each is asked for again, until it is taken or nobody wants it any more.

A server takes a subscription away, or refuses it after a reconnect, where a permission is gone or there are too many.
When the permission is back it says nothing, which would leave the subscriber deaf for ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from nats import errors

from eventmicro_nats.connection.interest import Interest

log = logging.getLogger(__name__)

# How long to wait before a refused subscription is asked for again, in seconds.
AGAIN = 5.0
# How long the server may take to answer whether it takes them, in seconds.
ANSWER_TIMEOUT = 5

TOO_MANY = "maximum subscriptions exceeded"
_match_refused = re.compile(
    r"'permissions violation for subscription to \"(.*?)\"(?: using queue \"(.*?)\")?(?: \(sid \"(\d+)\"\))?'"
).match


def refused_subjects(text: str) -> list[str]:
    """The subjects of which a text says that a subscription to them is refused."""
    return re.findall(r'subscription to "(.*?)"', text)


class Asks(Protocol):
    """The connection that they are of."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def subscriptions(self) -> dict[int, Interest]: ...

    async def ask_for(self, interest: Interest) -> None: ...

    async def flush(self, timeout: int) -> None: ...


class Refusals:
    """The refused subscriptions of one connection.

    Args:
        tell: told of each that is refused, once until it is taken.
    """

    def __init__(self, connection: Asks, tell: Callable[[Exception], Awaitable[None]]) -> None:
        self._connection = connection
        self._tell = tell
        self._refused: dict[int, str] = {}
        self._again: set[int] = set()  # those refused since they were asked for last
        self._too_many = 0  # how many were refused since, of which the server does not say which
        self._connections = 1  # how many there were
        self._hearing = asyncio.Lock()  # two who hear at once would take one another's count
        self._finding: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def take(self, text: str) -> bool:
        """Take what the server refuses in these words, small but for names; False: it is about no subscription."""
        if TOO_MANY in text:
            self._too_many += 1
            if self._finding is None:
                self._finding = asyncio.create_task(self._find_too_many(), name="eventmicro nats refused")
            return True
        match = _match_refused(text)
        if match is None:
            return False
        for number in self._find(*match.groups("")):
            await self._refuse(number, text.strip("'"))
        return True

    def start_anew(self) -> None:
        """On a new connection all are asked for anyway."""
        self._too_many = 0
        self._connections += 1

    async def sort_out(self) -> None:
        """Return when it is known which subscriptions were too many."""
        if self._finding is not None:
            await asyncio.wait([self._finding])

    def close(self) -> None:
        for task in (self._finding, self._asking):
            if task is not None:
                task.cancel()

    def _find(self, subject: str, queue: str, number: str) -> list[int]:
        """Which are meant: of those of this name the ones that were asked for again."""
        if number:
            return [int(number)]
        subscriptions = self._connection.subscriptions.items()
        found = [n for n, s in subscriptions if (s.subject, s.queue or "") == (subject, queue)]
        return [n for n in found if n in self._refused] or found

    async def _refuse(self, number: int, why: str) -> None:
        subscription = self._connection.subscriptions.get(number)
        if subscription is None:
            return
        self._again.add(number)
        if number not in self._refused:
            self._refused[number] = subscription.subject
            await self._tell(errors.Error(f"{why}; it is asked for again every {AGAIN:g} s"))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_again(), name="eventmicro nats asks again")

    async def _find_too_many(self) -> None:
        try:
            async with self._hearing:
                await self._find_all()
        finally:
            self._finding = None

    async def _find_all(self) -> None:
        while self._too_many and self._connection.is_connected:
            await self._hear([], 0)

    async def _hear(self, sent: list[int], newest: int) -> bool:
        """Hear what the server says to these, and to those that are newer than this one: it takes them in their order,
        so the last are those over its limit.

        False where the connection is lost meanwhile; a server that is only slow is asked again.
        """
        on, subscriptions, heard = self._connections, self._connection.subscriptions, False
        while not heard or any(number > newest for number in subscriptions):  # the next may be counted already
            sent += [number for number in subscriptions if number > newest]
            newest = max(newest, *subscriptions, 0)
            heard = await self._answered()
            if self._connections != on or not (heard or self._connection.is_connected):
                return False
        refused, self._too_many = self._too_many, 0
        for number in sent[-refused:] if refused else ():
            subject = getattr(subscriptions.get(number), "subject", "")
            await self._refuse(number, f'{TOO_MANY}: no subscription to "{subject}"; {_MEND}')
        return True

    async def _answered(self) -> bool:
        try:
            await self._connection.flush(ANSWER_TIMEOUT)
            return True
        except (errors.Error, TimeoutError):
            return False

    async def _ask_again(self) -> None:
        try:
            while self._refused:
                await asyncio.sleep(AGAIN)
                if self._connection.is_connected:
                    await self._ask_once()
        finally:
            self._asking = None

    async def _ask_once(self) -> None:
        async with self._hearing:
            if not await self._hear([], 0):  # what was refused before is none of those that are asked for now
                return
            newest = max(self._connection.subscriptions, default=0)
            asked = await self._ask_for_refused()
            if await self._hear(list(asked), newest):
                for number in set(asked) - self._again:
                    log.warning("the server takes the subscription to %s again", self._refused.pop(number))

    async def _ask_for_refused(self) -> list[int]:
        subscriptions = self._connection.subscriptions
        self._refused = {number: subject for number, subject in self._refused.items() if number in subscriptions}
        asked = list(self._refused)
        self._again.clear()
        for number in asked:
            await self._connection.ask_for(subscriptions[number])
        return asked


_MEND = "raise max_subscriptions of the server or account, or subscribe to fewer subjects"
