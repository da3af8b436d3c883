"""Ending aiokafka's objects and connections, whatever the broker does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from itertools import chain
from typing import Any, TypeVar

from aiokafka.client import ConnectionGroup  # type: ignore[import-untyped]

from eventmicro_kafka.errors import KafkaError

# How long ending a consumer or a producer in order may take, in seconds; with a hung broker it never ends by itself.
STOP_TIMEOUT = 3.0
# How often a task of aiokafka is cancelled within that time until it ends.
CANCELS = 10
# How long a task may take that ends a consumer in order when it is cancelled, in seconds, before it is cancelled again.
LEAVE_TIME = 2 * STOP_TIMEOUT + 1.0

T = TypeVar("T")


async def end_tasks(tasks: Callable[[], Iterable[asyncio.Task[Any]]], patience: float | None = None) -> None:
    """Cancel tasks until they have ended, or have swallowed it too often: those of aiokafka do.

    Args:
        tasks: asked again each time, as one that has not ended yet may have begun others.
        patience: how long is waited after the first time, in seconds; None: as long as after the others.
    """
    seen: set[asyncio.Task[Any]] = set()
    for attempt in range(CANCELS):
        left = {task for task in tasks() if not task.done()}
        if not left:
            break
        seen |= left
        for task in left:
            task.cancel()  # some go on waiting for others of theirs, which the next one reaches
        pause = STOP_TIMEOUT / CANCELS
        await asyncio.wait(left, timeout=patience if patience is not None and attempt == 0 else pause)
    for task in seen.union(tasks()):
        if task.done() and not task.cancelled():
            task.exception()  # nobody else asks for it


async def within(limit: float, work: Coroutine[Any, Any, T]) -> T:
    """What work comes to, though it may swallow its cancellation, which `asyncio.timeout` would wait for.

    Raises:
        TimeoutError: that took longer than `limit` seconds.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task], timeout=limit)
        if not task.done():
            raise TimeoutError(f"no answer within {limit:g} s")
        return task.result()
    finally:
        await end_tasks(lambda: [task])


async def stop_consumer(consumer: Any) -> None:
    """End a consumer, in order where the broker lets it."""
    stopping = asyncio.create_task(consumer.stop())  # it may end as cancelled though nobody cancelled it
    try:
        await asyncio.wait([stopping], timeout=STOP_TIMEOUT)
    finally:
        await _abandon(consumer._client, lambda: [stopping, *_tasks_of_consumer(consumer)])


async def stop_producer(producer: Any, timeout: float) -> None:
    """End a producer when all that it has is stored, or after `timeout` seconds: what is not by then fails."""
    try:
        async with asyncio.timeout(timeout):
            await producer.flush()
    except TimeoutError:
        pass
    finally:
        batches = producer._message_accumulator
        batches.fail_all(KafkaError("closed before it was confirmed"))
        for batch in chain.from_iterable(batches._batches.values()):
            batch._drain_waiter.exception()  # nobody else asks for it
        task = producer._sender.sender_task
        if task is not None:  # else its failure would end in an AttributeError that the loop reports
            task.remove_done_callback(producer._sender._fail_all)
        producer._closed = True
        await _abandon(producer.client, lambda: [] if task is None else [task])


async def stop_client(client: Any) -> None:
    """End a client, whether the broker listens or not."""
    await _abandon(client, list)


def drop_if_silent(client: Any, node: Any, limit: float) -> None:
    """End the connection to a node on which nothing has come for so many seconds: the next request makes it anew.

    aiokafka does so only where a request is waited for until its own timeout.
    """
    connection = client._conns.get((node, ConnectionGroup.DEFAULT))
    if connection is not None and time.monotonic() - connection._last_action > limit:
        _cut(connection)


async def _abandon(client: Any, tasks: Callable[[], list[asyncio.Task[Any]]]) -> None:
    """End the tasks and connections of an object of aiokafka, whatever they wait for.

    Args:
        tasks: its tasks: asked again each time, as one that has not ended yet may have begun others.
    """
    client._get_conn = _no_connection  # for what is left of its requests
    client._conns = _Cut(client._conns)
    own = [] if client._sync_task is None else [client._sync_task]
    client._sync_task = None

    def left() -> Iterable[asyncio.Task[Any]]:
        for connection in client._conns.values():
            _cut(connection)
        return *own, *tasks()

    await end_tasks(left)


class _Cut(dict[Any, Any]):
    """The connections of an abandoned client: one that somebody is about to make is cut when it is there."""

    def __setitem__(self, key: Any, connection: Any) -> None:
        super().__setitem__(key, connection)
        _cut(connection)


def _cut(connection: Any) -> None:
    writer = connection._writer
    connection._on_close_cb = None
    connection.close()
    if writer is not None:
        writer.transport.abort()


async def _no_connection(*_: object, **__: object) -> None:
    """What an abandoned client gets when it wants to connect."""


def _tasks_of_consumer(consumer: Any) -> list[asyncio.Task[Any]]:
    consumer._closed = True
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    tasks = [getattr(coordinator, name, None) for name in names]
    if fetcher is not None:
        fetcher._closed = True
        tasks += [fetcher._fetch_task, *fetcher._pending_tasks]
    return [task for task in tasks if task is not None]
