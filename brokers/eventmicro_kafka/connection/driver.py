"""aiokafka's objects as they are made, and what is asked of a consumer: its share, its group, its commits.

What else is touched of its inside is in `accumulator`, `ending`, `fetching`, `finding`, `noise`, `transacting`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaClient,
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
    codec,
    conn,
)
from aiokafka.client import ConnectionGroup  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    NotCoordinatorForGroupError,
    OffsetMetadataTooLargeError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest, ListGroupsRequest  # type: ignore[import-untyped]
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.group import JoinGroupRequest  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from eventmicro.errors import UsageError
from eventmicro_kafka.connection.finding import access, milliseconds, with_own_ways
from eventmicro_kafka.connection.stable import AskStable, read_places
from eventmicro_kafka.errors import INSTALL_CODECS, KafkaError, UnstableOffsetCommitError
from eventmicro_kafka.settings import KafkaSettings

__all__ = ["RebalanceListener", "TopicPartition"]

log = logging.getLogger(__name__)

T = TypeVar("T")

RebalanceListener: Any = ConsumerRebalanceListener

# How long a group waits for a member that is to join again, on top of what its running work may take, in seconds.
REJOIN_TIME = 10.0
# What a join may take beyond that, in seconds.
ANSWER_TIME = 5.0
# Milliseconds after which aiokafka takes a consumer for stuck that does not poll: never, for its loop is ours and its
# heartbeats run beside it.
NEVER = 2**31 - 1

# After how long is looked anew which topics and partitions there are, in seconds: what was added, or deleted and made
# again, is read from then on.
METADATA_AGE = 30.0

# How long aiokafka waits before it tries again what failed, in milliseconds.
TRY_INTERVAL = 200


def make_client(settings: KafkaSettings) -> Any:
    """A client for requests about the cluster; not started."""
    client = AIOKafkaClient(**_client(settings), request_timeout_ms=milliseconds(settings.request_timeout))
    return with_own_ways(client, client, settings)


def make_producer(settings: KafkaSettings, transactions: str | None = None) -> Any:
    """A producer whose own repetitions store nothing twice; not started.

    Args:
        transactions: under which name it makes some, of which its start ends what another of that name has left open;
            None: it makes none.
    """
    own: dict[str, Any] = {}
    if transactions is not None:
        timeout = milliseconds(settings.transaction_timeout)
        own = {"transactional_id": transactions, "transaction_timeout_ms": timeout}
    producer = AIOKafkaProducer(
        **_client(settings),
        request_timeout_ms=milliseconds(settings.request_timeout),
        metadata_max_age_ms=milliseconds(METADATA_AGE),
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_request_size=settings.max_message,
        max_batch_size=settings.batch_bytes,
        compression_type=None if settings.compression == "none" else settings.compression,
        **own,
    )
    return with_own_ways(producer, producer.client, settings, makes_topics=settings.declare == "false")


def make_consumer(
    settings: KafkaSettings, group: str | None, hold: float | None = None, instance: str | None = None
) -> Any:
    """A consumer that commits nothing by itself; not started.

    Args:
        hold: how long it may take to give its partitions up, in seconds; None: `rebalance_wait`.
        instance: the name under which it comes back into its group; None: it is a new member each time.
    """
    rejoin = (settings.rebalance_wait if hold is None else hold) + REJOIN_TIME
    consumer = AIOKafkaConsumer(
        **_client(settings),
        request_timeout_ms=milliseconds(settings.request_timeout),
        metadata_max_age_ms=milliseconds(METADATA_AGE),
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=settings.fetch_bytes,
        session_timeout_ms=milliseconds(settings.session_timeout),
        heartbeat_interval_ms=milliseconds(settings.heartbeat_interval),
        rebalance_timeout_ms=milliseconds(rejoin),
        max_poll_interval_ms=NEVER,
    )
    client: Any = consumer._client
    client.send = partial(_send_patiently, client, max(settings.request_timeout, rejoin + ANSWER_TIME))
    return with_own_ways(consumer, consumer._client, settings)


def check_login(settings: KafkaSettings) -> None:
    """Whether what a login needs is here.

    Raises:
        UsageError: it is not installed.
    """
    if settings.sasl == "GSSAPI" and conn.gssapi is None:
        raise UsageError(
            "sasl='GSSAPI': the package gssapi is missing here, and the libraries of Kerberos that it is for: "
            "pip install 'eventmicro[kerberos]', and start again"
        )


def check_compression(settings: KafkaSettings) -> None:
    """Whether what is published can be compressed as it is asked for.

    Raises:
        UsageError: what it needs is not installed.
    """
    if settings.compression != "none" and not getattr(codec, f"has_{settings.compression}")():
        raise UsageError(f"compression={settings.compression!r}: {INSTALL_CODECS}")


async def committed(consumer: Any, partitions: Iterable[Any], *, stable: bool = False) -> dict[Any, tuple[int, str]]:
    """What is committed, offset and metadata, of those partitions for which something is.

    `consumer.committed` keeps the metadata for itself, and takes an answer that is an error as a whole for one that
    nothing is committed: a coordinator that still loads what is, after its broker has died, answers so.

    Args:
        stable: wait for the transactions that have committed there and not ended; meanwhile this member lives.

    Raises:
        KafkaError: the broker does not say it, and will not.
    """
    coordinator = consumer._coordinator
    try:
        return await _ask_committed(coordinator, partitions, stable=stable)
    except KafkaError as error:
        if not error.retriable:
            raise
        if isinstance(error, UnstableOffsetCommitError):
            text = "queue %r: waits for a transaction that has begun and not ended, as where its process was killed"
            log.info(text, coordinator.group_id, extra={"queue": coordinator.group_id})
    if stable and coordinator.generation > 0:  # aiokafka begins with it when it is told where to begin
        coordinator._start_heartbeat_task()
    return await patiently(lambda: _ask_committed(coordinator, partitions, stable=stable))


def raise_trouble(consumer: Any) -> None:
    """Raise what keeps a consumer from its group or from its records, if anything does."""
    consumer._coordinator.check_errors()
    fetching = consumer._fetcher.error_future
    if fetching.done():  # which `getmany` does not look at
        raise KafkaError("it fetches no more") from (None if fetching.cancelled() else fetching.exception())


async def has_more(consumer: Any, topics: Iterable[str]) -> bool:
    """Whether the broker has records that a consumer has not taken in, of partitions that are its own and not paused.

    Raises:
        KafkaError: the broker does not say it.
    """
    known = [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic) or ()]
    ends = await consumer.end_offsets(known)  # of all: so it is seen whether there is a broker to ask
    share: Any = share_of(consumer)
    for place in consumer.assignment() - consumer.paused():
        state = share.state_value(place)
        returned = returned_up_to(consumer, place) if state.has_valid_position else None
        if place in ends and (returned is None or returned < ends[place]):
            return True
    return False


def returned_up_to(consumer: Any, place: Any) -> int | None:
    """The offset behind what a consumer has returned of a partition; its position may be behind more than that.

    None: it has none now.
    """
    parser: Any = getattr(consumer._fetcher._records.get(place), "_partition_records", None)
    share: Any = share_of(consumer)
    if parser is not None:
        returned: int = parser.next_fetch_offset
        return returned
    state: Any = share.state_value(place)
    return state.position if state.has_valid_position else None


def share_of(consumer: Any) -> object:
    """The partitions that a consumer has by now, as an object that is another one each time they are shared anew."""
    subscription = consumer._subscription.subscription
    return None if subscription is None else subscription.assignment


def unreadable(consumer: Any) -> tuple[Any, int] | None:
    """The partition, and the offset, at which `getmany` has just raised: its error does not say that."""
    for place, fetched in consumer._fetcher._records.items():
        records: Any = getattr(fetched, "_partition_records", None)
        if records is None or records._records_iterator is None:
            continue
        if records._records_iterator.gi_frame is None:  # a generator that has raised
            return place, records.next_fetch_offset
    return None


async def groups_of(client: Any, node: Any) -> list[str]:
    """The groups of which a node is the coordinator, and that may be seen from here."""
    answer = await client.send(node, ListGroupsRequest())
    raise_for(answer.error_code)
    return [name for name, *_ in answer.groups]


async def has_no_member(consumer: Any) -> bool:
    """Whether the group of a consumer that has not joined it is there, and empty."""
    state, _ = await _describe_group(consumer)
    return state == "Empty"


async def protocol_of(consumer: Any) -> str:
    """What the members of a consumer's group are, `consumer` or another program's word; empty: it has had none."""
    _, protocol = await _describe_group(consumer)
    return protocol


async def _describe_group(consumer: Any) -> tuple[str, str]:
    coordinator = consumer._coordinator
    await coordinator.ensure_coordinator_known()
    answer = await coordinator._send_req(DescribeGroupsRequest([coordinator.group_id]))
    ((code, _, state, protocol, *_),) = answer.groups
    raise_for(code)
    return state, protocol


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
    """Commit, again where the broker says that it will be able to; without metadata where it takes too little."""
    try:
        await patiently(lambda: commit(consumer, offsets))
    except OffsetMetadataTooLargeError:
        bare = {place: (offset, "") for place, (offset, _) in offsets.items()}
        await patiently(lambda: commit(consumer, bare))


async def patiently(request: Callable[[], Awaitable[T]]) -> T:
    """Its answer, asked for again where the broker says that it will be able to give it."""
    while True:
        try:
            return await request()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(TRY_INTERVAL / 1000)


async def _ask_committed(
    coordinator: Any, partitions: Iterable[Any], *, stable: bool = False
) -> dict[Any, tuple[int, str]]:
    asked: dict[str, list[int]] = {}
    for place in partitions:
        asked.setdefault(place.topic, []).append(place.partition)
    await coordinator.ensure_coordinator_known()
    kind: Any = AskStable if stable else OffsetFetchRequest
    answer = await coordinator._send_req(kind(coordinator.group_id, list(asked.items())))
    if for_code(answer.error_code) in (NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError):
        coordinator.coordinator_dead()  # so that the new one is looked for
    return read_committed(answer)


def read_committed(answer: Any) -> dict[Any, tuple[int, str]]:
    """What a coordinator has answered to OffsetFetchRequest.

    Raises:
        KafkaError: it does not say it.
    """
    raise_for(answer.error_code)
    found: dict[Any, tuple[int, str]] = {}
    for topic, number, offset, metadata, code in read_places(answer):
        raise_for(code)
        if offset >= 0:
            found[TopicPartition(topic, number)] = (offset, metadata or "")
    return found


def raise_for(code: int) -> None:
    """Raise the error of a broker's answer, if it is one."""
    if code:
        raise for_code(code)


async def _send_patiently(
    client: Any, longest: float, node: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
) -> Any:
    """As aiokafka's own, which has one limit for all requests: a join is answered when all members have joined, or
    their time is over.
    """
    if not isinstance(request, JoinGroupRequest) or not await client.ready(node, group=group):
        return await AIOKafkaClient.send(client, node, request, group=group)
    connection = client._conns[node, group]
    usual, connection._request_timeout = connection._request_timeout, longest
    try:
        return await AIOKafkaClient.send(client, node, request, group=group)
    finally:
        connection._request_timeout = usual


def _client(settings: KafkaSettings) -> dict[str, Any]:
    servers = list(settings.servers)
    return {"bootstrap_servers": servers, "retry_backoff_ms": TRY_INTERVAL, **access(settings)}
