"""Kafka on uvloop, on which services run where it is installed."""

from __future__ import annotations

from typing import Any

import pytest
import uvloop
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.metadata import MetadataRequest
from eventmicro_kafka import KafkaSettings
from eventmicro_kafka.connection.driver import make_client


def test_what_is_written_to_a_lost_connection_fails_as_that(kafka_url: str) -> None:
    """uvloop raises there what aiokafka does not know, so that its tasks would end of it; asyncio only warns."""
    uvloop.run(lose_connection(kafka_url))


async def lose_connection(url: str) -> None:
    client: Any = make_client(KafkaSettings(servers=(url.removeprefix("kafka://"),)))
    await client.bootstrap()
    try:
        node = client.get_random_node()
        await client.send(node, MetadataRequest([]))
        writer = client._conns[node, ConnectionGroup.DEFAULT]._writer
        writer.transport.abort()
        await writer.wait_closed()
        with pytest.raises(OSError, match="closed"):
            writer.write(b"1")
        assert (await client.send(node, MetadataRequest([]))).brokers
    finally:
        await client.close()
