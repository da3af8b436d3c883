"""JetStream on three nodes: what becomes of a queue whose leader dies, with the default lease of half a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from eventmicro_nats import JetStreamBroker

from eventmicro.message import Message
from tests.integration.jetstream.kit import administrator, at_once, once_unsettled, work
from tests.servers.nats_cluster import NatsCluster
from tests.told import redelivered, until_told

# Less than a lease, and more than a cluster takes for a leader.
BOUND = 25.0


async def soon(condition: Callable[[], object]) -> None:
    """Return as soon as it is true; fail where that takes about as long as a lease."""
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0.01)


async def follower_of(cluster: NatsCluster, consumer: str) -> tuple[int, int]:
    """A node that does not lead this consumer, and the one that does."""
    leader = await cluster.leader_of("EVENTS", consumer)
    return (leader + 1) % len(cluster.nodes), leader


async def declared(cluster: NatsCluster, ordered: bool) -> None:
    """Have the stream and the queue, so that it is known who leads them."""
    async with JetStreamBroker(cluster.url) as broker:
        await work(broker, "a", ordered=ordered)


async def all_settled(port: int) -> None:
    async with administrator(port) as admin:
        await once_unsettled(admin, 0, bound=BOUND)
        await until_told(lambda: redelivered(admin), 0, BOUND)


@pytest.mark.timeout_seconds(90)
@pytest.mark.parametrize(("ordered", "comes_back"), [(True, False), (False, True)])
async def test_acks_that_were_lost_with_the_leader_are_said_again(ordered: bool, comes_back: bool) -> None:
    with NatsCluster() as cluster:
        await declared(cluster, ordered)
        near, leader = await follower_of(cluster, "q")
        async with JetStreamBroker(f"{cluster.urls[near]}?replicas=3") as broker:
            worker = await work(broker, "a", ordered=ordered, settle=False)
            await broker.publish_many([Message("a", b"%d" % number) for number in range(50)])
            await soon(lambda: len(worker.deliveries) == 50)
            cluster.nodes[leader].pause()
            for delivery in worker.deliveries:
                at_once(delivery.ack())
            await soon(lambda: broker._driver and not broker._driver.pending_data_size)
            cluster.nodes[leader].kill()
            if comes_back:
                cluster.nodes[leader].begin()
            await broker.publish(Message("a", b"next"), timeout=BOUND)
            await soon(lambda: len(worker.deliveries) == 51)
            assert worker.bodies[50] == b"next"
            at_once(worker.deliveries[50].ack())
            await all_settled(cluster.nodes[near].port)
