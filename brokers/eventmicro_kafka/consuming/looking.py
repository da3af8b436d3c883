"""Looking into a group: what goes wrong is said alike, whether by a consumer of its name or over the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from eventmicro.errors import Disconnected, UsageError
from eventmicro_kafka.connection.driver import make_consumer
from eventmicro_kafka.connection.ending import stop_consumer
from eventmicro_kafka.errors import KafkaError, is_refusal, plain
from eventmicro_kafka.rights import missing_right
from eventmicro_kafka.settings import KafkaSettings

# How long it may take, in seconds.
TIMEOUT = 15.0


@asynccontextmanager
async def looking_into(
    settings: KafkaSettings, group: str, operation: str, *, used: str, unknown: str
) -> AsyncGenerator[Any, None]:
    """A consumer that is no member, for as long as the block lasts; arguments and errors as of `told_alike`."""
    consumer = make_consumer(settings, group)
    try:
        async with told_alike(settings, group, operation, used=used, unknown=unknown):
            await consumer.start()
            yield consumer
    finally:
        await stop_consumer(consumer)


@asynccontextmanager
async def told_alike(
    settings: KafkaSettings, group: str, operation: str, *, used: str, unknown: str
) -> AsyncGenerator[None, None]:
    """A block that takes a few seconds at most.

    Args:
        operation: the right on the group that is needed.
        used: what is done with the queue, for the error where that may not be.
        unknown: what cannot be done where the cluster does not answer.

    Raises:
        Disconnected: the cluster does not answer.
        UsageError: the cluster refuses it.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            yield
    except (KafkaError, OSError, TimeoutError) as error:
        if isinstance(error, GroupAuthorizationFailedError):
            raise UsageError(f"queue {group!r}: {missing_right(settings, operation, 'group', group)}") from error
        if is_refusal(error):
            raise UsageError(f"queue {group!r} may not be {used} from here: {plain(error)}") from error
        raise Disconnected(f"queue {group!r}: {unknown}: {plain(error)}") from error


def why_not_read(settings: KafkaSettings, group: str, topics: Sequence[str], error: BaseException) -> str:
    """What keeps a member from its events; where it is a right, which."""
    if isinstance(error, GroupAuthorizationFailedError):
        return missing_right(settings, "Read", "group", group)
    if isinstance(error, TopicAuthorizationFailedError):
        topic = next((name for name in topics if name in str(error)), topics[0])
        return missing_right(settings, "Read", "topic", topic)
    return plain(error)
