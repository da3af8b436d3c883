"""Following: looks again and again which topics there are for a subscription, and whether these are the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from eventmicro.errors import EventMicroError
from eventmicro.wire import has_wildcards
from eventmicro_kafka.connection.describing import TopicInfo
from eventmicro_kafka.topics import Topics

log = logging.getLogger(__name__)


class Follower(Protocol):
    """Whoever reads the topics."""

    async def follow(self, topics: Mapping[str, TopicInfo]) -> None:
        """These are there by now, and some are new or gone, or have more partitions."""
        ...

    async def begin_anew(self, topic: str) -> None:
        """It was deleted and made again under its name: its places are of the earlier one."""
        ...


class Following:
    """The topics of a subject, as they come, go and are made again.

    Args:
        subject: a topic, or a pattern.
        found: its topics when this begins.
        interval: how often it is looked, in seconds.
    """

    def __init__(
        self,
        topics: Topics,
        subject: str,
        found: Mapping[str, TopicInfo],
        interval: float,
        follower: Follower,
    ) -> None:
        self._topics = topics
        self._subject = subject
        self._there = dict(found)
        self._interval = interval
        self._follower = follower
        self._made = asyncio.Event()
        self._told = ""

    @property
    def names(self) -> list[str]:
        """The topics that there are, as far as is known."""
        return sorted(self._there)

    async def run(self) -> None:
        """Look, for as long as it takes; what is made from here is looked at once."""
        self._topics.made.append(self._made.set)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._made.wait()
                self._made.clear()
                try:
                    await self.look()
                except (EventMicroError, OSError) as error:
                    log.debug("%s: which topics there are is not known now: %s", self._subject, error)
                except Exception as error:  # it never should, and is to go on
                    self._say(error)
        finally:
            self._topics.made.remove(self._made.set)

    async def look(self) -> None:
        """Look once."""
        found = {name: topic for name, topic in (await self._find()).items() if topic.leaders}
        before = self._there
        self._there = found if has_wildcards(self._subject) else before | found
        for name in found.keys() & before.keys():
            if _is_another(found[name], before[name]):
                await self._follower.begin_anew(name)
        has_more = any(
            len(topic.leaders) > len(before[name].leaders) for name, topic in found.items() if name in before
        )
        if has_more or self._there.keys() != before.keys():
            await self._follower.follow(self._there)

    def _say(self, error: Exception) -> None:
        """Say what went wrong; the same again is not told each time."""
        if repr(error) != self._told:
            self._told = repr(error)
            log.exception(
                "%s: looking for its topics failed, which is tried again",
                self._subject,
                extra={"subject": self._subject},
            )

    async def _find(self) -> dict[str, TopicInfo]:
        if has_wildcards(self._subject):
            return await self._topics.choose(self._subject)
        return await self._topics.look([self._subject])


def _is_another(topic: TopicInfo, before: TopicInfo) -> bool:
    """Whether it was deleted and made again; a broker that is too old to tell topics apart says nothing of it."""
    return bool(topic.id and before.id) and topic.id != before.id
