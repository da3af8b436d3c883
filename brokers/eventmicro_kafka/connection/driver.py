"""aiokafka's objects as they are made, and where a consumer stands: its share, its positions, what troubles it.

What else is touched of its inside is in `accumulator`, `ending`, `fetching`, `finding`, `group`, `noise` and
`transacting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

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
from aiokafka.protocol.group import JoinGroupRequest  # type: ignore[import-untyped]

from eventmicro.errors import UsageError
from eventmicro_kafka.connection.finding import access, milliseconds, with_own_ways
from eventmicro_kafka.connection.group import TRY_INTERVAL
from eventmicro_kafka.errors import INSTALL_CODECS, KafkaError
from eventmicro_kafka.settings import KafkaSettings

__all__ = ["RebalanceListener", "TopicPartition"]

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
    return {"bootstrap_servers": servers, "retry_backoff_ms": milliseconds(TRY_INTERVAL), **access(settings)}
