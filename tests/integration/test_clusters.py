"""The clusters of the tests themselves, by the quickest of them: what goes on without which nodes."""

from __future__ import annotations

import asyncio

import pytest

from eventmicro import Client, TransportError
from tests.servers.nats_cluster import NatsCluster


@pytest.mark.timeout_seconds(120)
async def test_a_cluster_takes_events_without_one_node_and_none_without_two(subject: str) -> None:
    with NatsCluster() as cluster:
        async with Client(cluster.url) as client:
            await client.publish(subject, b"all are there", timeout=20)
            cluster.kill(0)
            await client.publish(subject, b"one is gone", timeout=20)
            cluster.freeze(1)
            with pytest.raises(TransportError):
                await client.publish(subject, b"two are gone", timeout=0.5)
            cluster.thaw(1)
            await asyncio.to_thread(cluster.start, 0)
            await client.publish(subject, b"all are there again", timeout=20)
        pids = [node.pid for node in cluster.nodes]
        await asyncio.to_thread(cluster.restart, 2)
        assert [node.pid == pid for node, pid in zip(cluster.nodes, pids, strict=True)] == [True, True, False]
