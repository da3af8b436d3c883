"""Topics: which names they may have, that those are there which are used, and what is known of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka.errors import (  # type: ignore[import-untyped]
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import CreateTopicsRequest  # type: ignore[import-untyped]

from eventmicro.errors import Missing, TransportError, Unsupported, UsageError
from eventmicro.wire import check_subject, has_wildcards
from eventmicro_kafka.connection.describing import TopicInfo, describe_configs, read_configs, read_topics
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.connection.protocol import DescribeTopics
from eventmicro_kafka.errors import plain
from eventmicro_kafka.patterns import LONGEST, as_name, choose, is_topic
from eventmicro_kafka.rights import check_rights, missing_right
from eventmicro_kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

# Why a pattern does not stand for a topic that may be a retry topic.
WAITS = "it is taken for one in which events of a queue wait to be retried; subscribe to it by its name"
# How often a topic is looked for that has just been made, in seconds: the brokers hear of it one after the other.
LOOK_INTERVAL = 0.05
# How long making a topic may take, in seconds.
MAKE_TIMEOUT = 10.0


def check_topic(name: str, what: str = "subject", mend: str = "") -> None:
    """Whether Kafka takes this name; `mend` is said behind why it does not.

    Raises:
        Unsupported: it has wildcards.
        UsageError: it is no name of a topic.
    """
    if has_wildcards(name):
        raise Unsupported(f"{what} {name!r}: wildcards are for subscribing; write the name of a topic")
    if not is_topic(name):
        raise UsageError(f"{what} {name!r}: a Kafka topic has 1 to {LONGEST} letters, digits, '.', '_' and '-'{mend}")


def check_pattern(subject: str) -> None:
    """Whether this stands for topics that there may be; errors as of `check_topic`."""
    if has_wildcards(subject):
        check_subject(subject, wildcards=True)
    check_topic(as_name(subject))


class Topics:
    """The topics that are known to be there, with the number of their partitions."""

    def __init__(self, settings: KafkaSettings, link: Link) -> None:
        self._settings = settings
        self._link = link
        self._making = asyncio.Lock()
        self._known: dict[str, int] = {}
        self._left_out: dict[str, Mapping[str, tuple[int, str]]] = {}
        self.made: list[Callable[[], object]] = []
        """What is called when a topic was made from here."""

    async def ensure(self, name: str, partitions: int | None = None) -> int:
        """See to it that a topic is there, as `declare` says; return how many partitions it has, 0: not looked.

        Raises:
            UsageError: it is not there and is not to be made, or must not be.
            TransportError: the cluster does not answer.
        """
        if self._settings.declare == "false":
            return 0
        if name in self._known:
            return self._known[name]
        check_topic(name)
        async with self._making:  # one after the other: many who publish at once make a topic once
            if name not in self._known:
                self._known[name] = len(await self._leaders(name)) or await self._make(name, partitions)
        return self._known[name]

    async def partitions(self, name: str, partitions: int | None = None) -> int:
        """As `ensure`, for a topic that is to be read: how many partitions it has.

        Raises:
            UsageError: it is not there, and nothing is to be made.
        """
        self.forget(name)  # there may be more of them by now
        count = await self.ensure(name, partitions) or len(await self._leaders(name))
        if not count:
            raise UsageError(f"there is no topic {name!r}: make it, or let it be made with declare=true")
        return count

    async def is_made(self, name: str, partitions: int | None = None) -> bool:
        """As `ensure`: whether the topic was not there before."""
        self.forget(name)
        is_there = bool(await self._leaders(name))
        await self.ensure(name, partitions)
        return not is_there

    def forget(self, name: str) -> None:
        """Look again the next time: it seems to be gone."""
        self._known.pop(name, None)

    async def look(self, names: list[str] | None) -> dict[str, TopicInfo]:
        """What there is of these topics, None: of all that may be seen from here. Asking makes none.

        Raises:
            TransportError: the cluster does not answer.
        """
        answer = await self._link.request(DescribeTopics(names))
        return {topic.name: topic for topic in read_topics(answer) if topic.leaders or topic.error}

    async def choose(self, pattern: str) -> dict[str, TopicInfo]:
        """The topics that a pattern stands for by now, and that may be read from here; errors as of `look`."""
        all_there = {name: topic for name, topic in (await self.look(None)).items() if not topic.is_internal}
        chosen, waiting = choose(pattern, all_there.keys())
        why: dict[str, tuple[int, str]] = dict.fromkeys(waiting, (logging.INFO, WAITS))
        for name in chosen:
            if (rights := all_there[name].rights) is not None and "Read" not in rights:
                why[name] = logging.WARNING, missing_right(self._settings, "Read", "topic", name)
        self._say_left_out(pattern, why)
        return {name: all_there[name] for name in chosen if name not in why}

    def _say_left_out(self, pattern: str, why: Mapping[str, tuple[int, str]]) -> None:
        """Say of topics that a pattern does not stand for why not, of each once."""
        told = self._left_out.get(pattern, {})
        for name, (level, reason) in why.items():
            if told.get(name) != (level, reason):
                log.log(level, "%s does not stand for topic %r: %s", pattern, name, reason)
        self._left_out[pattern] = why

    async def ids(self, names: Iterable[str]) -> dict[str, str]:
        """What tells each topic from an earlier one of its name; errors as of `look`."""
        return {name: topic.id for name, topic in (await self.look(sorted(names))).items()}

    async def configs(self, topics: Iterable[TopicInfo]) -> dict[str, dict[str, str]]:
        """How topics are configured, of those of which that may be known from here; errors as of `look`."""
        asked = [topic.name for topic in topics if topic.rights is None or "DescribeConfigs" in topic.rights]
        return read_configs(await self._link.request(describe_configs(asked))) if asked else {}

    async def usable(self, name: str, operations: Iterable[str], about: str) -> TopicInfo:
        """A topic that is there, and with which this may be done.

        Raises:
            UsageError: a right is missing, or the topic.
            TransportError: the cluster does not answer.
        """
        topic = (await self.look([name])).get(name)
        if topic is None:
            raise UsageError(f"{about}: there is no topic {name!r}")
        check_rights(self._settings, topic, operations, about)
        return topic

    async def _leaders(self, name: str) -> list[int]:
        """The node that leads each partition, -1: none does now; empty: there is no such topic. Asking makes none."""
        topics = read_topics(await self._link.request(DescribeTopics([name])))
        if topics and topics[0].error == TopicAuthorizationFailedError.errno:
            raise UsageError(
                f"topic {name!r} is not to be seen from here: "
                + missing_right(self._settings, "Describe", "topic", name)
            )
        return topics[0].leaders if topics else []

    async def _make(self, name: str, partitions: int | None) -> int:
        if self._settings.declare == "check":
            raise Missing(
                f"there is no topic {name!r}: let it be made by `eventmicro declare` or with declare=true, or make it: "
                f"kafka-topics.sh --bootstrap-server {self._settings.servers[0]} --create --topic {name}",
                [f"topic {name}"],
            )
        count = partitions or self._settings.partitions
        new: Any = (name, count, self._settings.replication, [], [])
        answer = await self._link.request(CreateTopicsRequest([new], int(MAKE_TIMEOUT * 1000), False))
        for _, code, *text in answer.topic_errors:
            self._check_made(name, for_code(code), text)
        try:
            async with asyncio.timeout(MAKE_TIMEOUT):
                while not (leaders := await self._leaders(name)) or min(leaders) < 0:  # noqa: ASYNC110  it is asked for
                    await asyncio.sleep(LOOK_INTERVAL)
        except TimeoutError:
            raise TransportError(f"topic {name!r} was made and is not to be found") from None
        for heard in self.made:
            heard()
        return len(leaders)

    def _check_made(self, name: str, kind: Any, text: list[str | None]) -> None:
        if kind.errno and kind is not TopicAlreadyExistsError:
            said = next((t for t in text if t), None)
            if kind is TopicAuthorizationFailedError:
                said = missing_right(self._settings, "Create", "topic", name)
            refusal = TransportError if kind.retriable else UsageError
            raise refusal(f"topic {name!r} is not there and cannot be made: {said or plain(kind())}")
