"""The producer of a connection: made when it is needed, and anew when it is of no use any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from aiokafka.errors import ClusterAuthorizationFailedError  # type: ignore[import-untyped]

from eventmicro.errors import Disconnected, NotStored
from eventmicro_kafka.connection.driver import make_producer
from eventmicro_kafka.connection.ending import stop_producer
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.errors import KafkaError, is_refusal, plain
from eventmicro_kafka.producing.accumulator import (
    is_dead,
    is_filling,
    is_idle,
    keep_lines,
    let_nobody_in,
    note_troubles,
    on_new_metadata,
    partitions_known,
)
from eventmicro_kafka.producing.partitions import Partitions
from eventmicro_kafka.rights import missing_right
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics, check_topic

# How long what was published may take to be stored when the broker is closed, in seconds.
FLUSH_TIMEOUT = 5.0
# How long to wait before a producer that could not be made is tried again, in seconds.
TRY_INTERVAL = 0.25
# How long to look for a topic that is not declared from here, in seconds.
FIND_TIMEOUT = 5.0


class Producer:
    """aiokafka's producer, with the partitions of the topics it was used for.

    Args:
        make: makes one that is not started.
        patience: how long one that is used no more may take for what it has on its way, in seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        link: Link,
        topics: Topics,
        make: Callable[[], Any] | None = None,
        patience: float = FLUSH_TIMEOUT,
    ) -> None:
        self._settings = settings
        self._link = link
        self._topics = topics
        self._make = make or (lambda: make_producer(settings))
        self._patience = patience
        self._making = asyncio.Lock()
        self._closed = False
        self._retired: set[asyncio.Task[None]] = set()
        self._partitions: dict[str, Partitions] = {}
        self.inner: Any = None

    def place(self, topic: str, key: bytes | None) -> Any:
        """The partition for a message; None: ask `ready` first."""
        partitions = self._partitions.get(topic)
        if partitions is None or not self._link.online:
            return None
        if key is not None:
            return partitions.of_key(key)
        if partitions.filling is None or not is_filling(self.inner, partitions.filling):
            partitions.filling = self.next_place(topic)
        return partitions.filling

    def next_place(self, topic: str) -> Any:
        """The partition for a whole batch without keys; None: ask `ready` first."""
        partitions = self._partitions.get(topic)
        if partitions is None or not self._link.online:
            return None
        return partitions.next(partial(is_idle, self.inner))

    async def ready(self, topic: str) -> Any:
        """Return aiokafka's producer when it can take messages for this topic.

        Raises:
            UsageError: there is no such topic, and none may be made.
            NotStored: the broker lets nobody publish to it from here.
            Disconnected: the connection was closed.
        """
        while True:
            inner = await self.made(topic)
            if topic in self._partitions or self._learn(topic):
                return inner
            await self._look_for(inner, topic)

    async def made(self, topic: str = "") -> Any:
        """Return aiokafka's producer when there is one that is of use; errors as of `ready`, but for the topic's.

        Args:
            topic: what it is for, if that is known.
        """
        while True:
            await self._link.wait_online()
            if self.inner is not None and not is_dead(self.inner):
                return self.inner
            await self._try_to_make(topic)

    def lacking(self, topic: str) -> str:
        """Which right is missing where a topic may not be written to."""
        return missing_right(self._settings, "Write", "topic", topic)

    def retire(self, inner: Any) -> None:
        """Use it for nothing more; what it has on its way it may still bring there."""
        if inner is self.inner:
            self.inner = None
            self._partitions.clear()
            let_nobody_in(inner)
            ending = asyncio.create_task(stop_producer(inner, self._patience), name="eventmicro kafka retired producer")
            self._retired.add(ending)
            ending.add_done_callback(self._retired.discard)

    async def flush(self) -> None:
        """Return when all that is on its way is stored, or has failed, also what one that is retired has."""
        if self.inner is not None:
            await self.inner.flush()
        if self._retired:
            await asyncio.wait(self._retired)

    async def close(self) -> None:
        """End it when all that it has is stored, within bounds, or this is cancelled; no other is made."""
        self._closed = True
        if self.inner is not None:
            self.retire(self.inner)
        retired = list(self._retired)
        try:
            async with self._making:  # who makes one ends it again
                pass
            if retired:
                await asyncio.wait(retired)
        finally:
            for task in retired:
                task.cancel()
            if retired:
                await asyncio.wait(retired)

    async def _try_to_make(self, topic: str) -> None:
        async with self._making:
            self._check_open()
            if self.inner is not None and is_dead(self.inner):
                self.retire(self.inner)
            if self.inner is None:
                inner = self._make()
                try:
                    async with asyncio.timeout(self._settings.connect_timeout):
                        await inner.start()
                    self._check_open()
                except BaseException as error:
                    await stop_producer(inner, 0)
                    if not isinstance(error, KafkaError | OSError):
                        raise
                    if topic and isinstance(error, ClusterAuthorizationFailedError):  # nothing may be written to any
                        raise NotStored(f"{topic}: {self.lacking(topic)}") from error
                    if is_refusal(error):
                        raise NotStored(f"nothing can be published: {plain(error)}") from error
                    await asyncio.sleep(TRY_INTERVAL)
                    return
                note_troubles(inner)
                keep_lines(inner)
                on_new_metadata(inner, self._check_partitions)
                self.inner = inner

    def _check_open(self) -> None:
        if self._closed:
            raise Disconnected("the connection is closed")

    def _check_partitions(self, _: Any) -> None:
        """There may be more of them now, or none."""
        for topic, partitions in list(self._partitions.items()):
            if partitions_known(self.inner, topic) != partitions.places:
                del self._partitions[topic]

    def _learn(self, topic: str) -> bool:
        places = partitions_known(self.inner, topic)
        if places:
            self._partitions[topic] = Partitions(places)
        return bool(places)

    async def _look_for(self, inner: Any, topic: str) -> None:
        check_topic(topic)
        self._topics.forget(topic)  # it may be gone again
        await self._topics.ensure(topic)
        try:
            async with asyncio.timeout(FIND_TIMEOUT):
                await inner.partitions_for(topic)
        except (KafkaError, TimeoutError) as error:
            if self._link.online and inner is self.inner:  # one that was retired meanwhile finds nothing
                raise NotStored(
                    f"{topic}: there is no such topic to publish to: {plain(error)}; make it first"
                ) from error
