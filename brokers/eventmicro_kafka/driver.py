"""aiokafka: how its objects are made and ended. All that is touched of its inside is here, and in `noise`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaClient,
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
)
from aiokafka.conn import create_conn  # type: ignore[import-untyped]
from aiokafka.errors import IllegalGenerationError, KafkaConnectionError, ProducerClosed  # type: ignore[import-untyped]
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from eventmicro_kafka.errors import KafkaError
from eventmicro_kafka.settings import KafkaSettings

__all__ = ["RebalanceListener", "TopicPartition"]

RebalanceListener: Any = ConsumerRebalanceListener

# How long ending a consumer or a producer in order may take, in seconds; with a hung broker it never ends by itself.
STOP_TIMEOUT = 3.0
# How often a task of aiokafka is cancelled within that time until it ends.
CANCELS = 10
# How long a group waits for a member that is to join again, on top of what its running work may take, in seconds.
REJOIN_TIME = 10.0
# Milliseconds after which aiokafka takes a consumer for stuck that does not poll: never, for its loop is ours and its
# heartbeats run beside it.
NEVER = 2**31 - 1

# What the cluster says is the leader of a partition that has none.
NO_LEADER = -1
# How long aiokafka waits before it tries again what failed, in milliseconds.
TRY_INTERVAL = 200

Headers = list[tuple[str, bytes]]


def make_client(settings: KafkaSettings) -> Any:
    """A client for requests about the cluster; not started."""
    client = AIOKafkaClient(**_client(settings), request_timeout_ms=_ms(settings.request_timeout))
    return _with_own_bootstrap(client, client, settings)


def make_producer(settings: KafkaSettings) -> Any:
    """A producer whose own repetitions store nothing twice; not started."""
    producer = AIOKafkaProducer(
        **_client(settings),
        request_timeout_ms=_ms(settings.request_timeout),
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_request_size=settings.max_message,
        max_batch_size=settings.batch_bytes,
    )
    return _with_own_bootstrap(producer, producer.client, settings)


def make_consumer(settings: KafkaSettings, group: str | None) -> Any:
    """A consumer that commits nothing by itself; not started."""
    rejoin = settings.rebalance_wait + REJOIN_TIME
    consumer = AIOKafkaConsumer(
        **_client(settings),
        # A join is answered when all members have joined, or their time is over.
        request_timeout_ms=_ms(max(settings.request_timeout, rejoin + 5)),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=settings.fetch_bytes,
        session_timeout_ms=_ms(settings.session_timeout),
        heartbeat_interval_ms=_ms(settings.heartbeat_interval),
        rebalance_timeout_ms=_ms(rejoin),
        max_poll_interval_ms=NEVER,
    )
    return _with_own_bootstrap(consumer, consumer._client, settings)


def append(producer: Any, place: Any, key: bytes | None, body: bytes, headers: Headers) -> asyncio.Future[Any] | None:
    """As `producer.send`, without its waits, and with one future for a batch, which is not to be cancelled therefore.

    None: the batch that waits for this partition is full.
    """
    batches = producer._message_accumulator
    if batches._exception is not None:
        return None
    pending = batches._batches.get(place)
    batch = pending[-1] if pending else _start_batch(batches, batches.create_builder(), place)
    if batch._builder.append(timestamp=None, key=key, value=body, headers=headers) is None:
        return None
    future: asyncio.Future[Any] = batch.future
    return future


async def send_batch(producer: Any, builder: Any, place: Any) -> asyncio.Future[Any]:
    """As `producer.send_batch`, for as long as it takes; its future, which is not to be cancelled.

    Raises:
        KafkaError: the producer is of no use any more.
    """
    batches = producer._message_accumulator
    while batches._exception is None:
        if not batches._batches.get(place):
            future: asyncio.Future[Any] = _start_batch(batches, builder, place).future
            return future
        await has_room(producer, place)
    raise ProducerClosed


async def has_room(producer: Any, place: Any) -> None:
    """Return when the batch that waits for a partition is on its way, or has failed."""
    batches = producer._message_accumulator
    pending = batches._batches.get(place)
    if pending:
        if not batches._waiter_future.done():
            batches._waiter_future.set_result(None)  # it is to be sent now
        await asyncio.wait([pending[-1]._drain_waiter])


def is_filling(producer: Any, place: Any) -> bool:
    """Whether a batch for a partition waits to be sent that is not full."""
    pending = producer._message_accumulator._batches.get(place)
    return bool(pending) and not pending[-1]._builder._closed


def is_idle(producer: Any, place: Any) -> bool:
    """Whether a partition can be written to, and nothing is on its way there or waits for it."""
    leader = producer.client.cluster.leader_for_partition(place)
    busy = place in producer._sender._muted_partitions or producer._message_accumulator._batches.get(place)
    return leader not in (None, NO_LEADER) and not busy


def _start_batch(batches: Any, builder: Any, place: Any) -> Any:
    batch = batches._append_batch(builder, place)
    batch.future.add_done_callback(_look_at)
    return batch


def _look_at(future: asyncio.Future[Any]) -> None:
    """Nobody else may: who waits for it may have been cancelled."""
    if not future.cancelled():
        future.exception()


def partitions_known(producer: Any, topic: str) -> list[Any]:
    """The partitions of a topic in their order, as far as the producer knows by now."""
    numbers = producer.client.cluster.partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def on_new_metadata(producer: Any, callback: Callable[[Any], None]) -> None:
    """Call this each time the producer hears how the cluster is."""
    producer.client.cluster.add_listener(callback)


def is_dead(producer: Any) -> bool:
    """Whether it will send nothing any more."""
    task = producer._sender.sender_task
    return producer._message_accumulator._exception is not None or (task is not None and task.done())


def partition_of(key: bytes, partitions: int) -> int:
    """Where the events of a key go; the same as with Kafka's own clients."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def committed(consumer: Any, partitions: Iterable[Any]) -> dict[Any, tuple[int, str]]:
    """What is committed, offset and metadata; `consumer.committed` keeps the metadata for itself."""
    found: dict[Any, OffsetAndMetadata] = await consumer._coordinator.fetch_committed_offsets(list(partitions))
    return {partition: (entry.offset, entry.metadata or "") for partition, entry in found.items() if entry.offset >= 0}


def raise_trouble(consumer: Any) -> None:
    """Raise what keeps a consumer from its group, if anything does."""
    consumer._coordinator.check_errors()


def membership(consumer: Any) -> tuple[int, str]:
    """As whom a consumer commits: the group's generation and its name there, new each time partitions are shared."""
    return consumer._coordinator.generation, consumer._coordinator.member_id


async def commit(consumer: Any, offsets: Mapping[Any, tuple[int, str]], only_as: tuple[int, str] | None = None) -> None:
    """Commit, in one try: `consumer.commit` tries for ever, and is not to be cancelled without a trace of it.

    Args:
        only_as: the membership by which the partitions are this side's.

    Raises:
        KafkaError: the partitions are somebody else's by now, or the broker did not take it.
    """
    coordinator = consumer._coordinator
    await coordinator.ensure_coordinator_known()
    async with coordinator._commit_lock:
        if only_as is not None and only_as != membership(consumer):
            raise IllegalGenerationError(coordinator.group_id)
        # The assignment is not looked at.
        await coordinator._do_commit_offsets(None, {p: OffsetAndMetadata(*entry) for p, entry in offsets.items()})


async def commit_patiently(consumer: Any, offsets: Mapping[Any, tuple[int, str]]) -> None:
    """Commit, again where the broker says that it will be able to."""
    while True:
        try:
            return await commit(consumer, offsets)
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(TRY_INTERVAL / 1000)


async def stop_consumer(consumer: Any) -> None:
    """End a consumer, in order where the broker lets it."""
    stopping = asyncio.create_task(consumer.stop())  # it may end as cancelled though nobody cancelled it
    try:
        await asyncio.wait([stopping], timeout=STOP_TIMEOUT)
    finally:
        await _abandon(consumer._client, [stopping, *_tasks_of_consumer(consumer)])


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
        producer._closed = True
        await _abandon(producer.client, [] if task is None else [task])


async def stop_client(client: Any) -> None:
    """End a client, whether the broker listens or not."""
    await _abandon(client, [])


async def _abandon(client: Any, tasks: list[asyncio.Task[Any]]) -> None:
    """End the tasks and connections of an object of aiokafka, whatever they wait for."""
    client._get_conn = _no_connection  # for what is left of its requests
    client._conns = _Cut(client._conns)
    if client._sync_task is not None:
        tasks = [*tasks, client._sync_task]
        client._sync_task = None
    left = set(tasks)
    for _ in range(CANCELS):
        for connection in client._conns.values():
            _cut(connection)
        if not left:
            break
        for task in left:
            task.cancel()  # some go on waiting for others of theirs, which the next one reaches
        _, left = await asyncio.wait(left, timeout=STOP_TIMEOUT / CANCELS)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # nobody else asks for it


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


def _with_own_bootstrap(owner: Any, client: Any, settings: KafkaSettings) -> Any:
    client.bootstrap = partial(_bootstrap, client, settings)
    return owner


async def _bootstrap(client: Any, settings: KafkaSettings) -> None:
    """Learn the cluster from the first server that answers, each in its share of `connect_timeout`.

    aiokafka's own says of no server why not, and leaves its connection open where it is cancelled.

    Raises:
        KafkaError: what was the trouble with the last server.
    """
    trouble: Exception | None = None
    for host, port, _ in client.hosts:
        try:
            async with asyncio.timeout(settings.connect_timeout / len(settings.servers)):
                client.cluster.update_metadata(await _ask_server(host, port, settings))
        except (KafkaError, OSError, EOFError) as error:  # TimeoutError is an OSError
            trouble = error
        else:
            client._sync_task = asyncio.create_task(client._md_synchronizer())
            return
    raise trouble if isinstance(trouble, KafkaError) else KafkaConnectionError(str(trouble)) from trouble


async def _ask_server(host: str, port: int, settings: KafkaSettings) -> Any:
    limit = _ms(settings.request_timeout)
    connection = await create_conn(host, port, request_timeout_ms=limit, **_connection(settings))
    try:
        answer = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    if not answer.brokers:  # it has just started; aiokafka would fail at the first use
        raise KafkaConnectionError(f"{host}:{port} knows of no broker yet")
    return answer


def _client(settings: KafkaSettings) -> dict[str, Any]:
    servers = list(settings.servers)
    return {"bootstrap_servers": servers, "retry_backoff_ms": TRY_INTERVAL, **_connection(settings)}


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    context = settings.ssl_context()
    options: dict[str, Any] = {
        "client_id": settings.name,
        "security_protocol": ("SASL_" if settings.user else "") + ("SSL" if context else "PLAINTEXT"),
        "ssl_context": context,
    }
    if settings.user is not None:
        options |= {
            "sasl_mechanism": settings.sasl,
            "sasl_plain_username": settings.user,
            "sasl_plain_password": settings.password,
        }
    return options


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
