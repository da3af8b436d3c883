"""The watchdog of a JetStream queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream.durable import DurableSubscription, gives
from eventmicro_nats.jetstream.queues import Place, Queue

from tests.unit.nats.kit import Server


@pytest.mark.parametrize(("pending", "comes", "anew"), [(3, False, True), (3, True, False), (0, False, False)], ids=str)
async def test_a_queue_begins_anew_where_nothing_comes_that_should(
    pending: int, comes: bool, anew: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server, found = Server(), 0
    queue = Queue("EVENTS", "q", 30.0, Place(1, 0.0), created="then")

    async def find(first: Place | None) -> Queue:
        nonlocal found
        found += 1
        return queue

    subscription: Any = DurableSubscription(queue, find, lambda delivery: None, 10)
    await subscription.open(server)
    await subscription._watchdog.look()
    server.tell(num_pending=pending)
    if comes:
        server.give(1)
    subscription._watchdog._limit = 0.0
    await subscription._watchdog.look()
    assert (subscription.mending is not None) is anew
    assert ("events and room" in caplog.text) is anew
    if anew:
        await subscription.mending
        assert found == 1
        subscription._watchdog._limit = 0.0
        await subscription._watchdog.look()
        assert subscription.mending is not None, "what is known of the queue holds yet"
    subscription.lost()
    assert not await subscription._is_waiting(), "away, nothing is known"
    tasks = subscription.tasks
    subscription.end()
    await asyncio.wait(tasks)


@pytest.mark.parametrize(
    ("info", "answer"),
    [
        ({"config": {}, "num_ack_pending": 5}, True),
        ({"config": {"max_ack_pending": -1}, "num_ack_pending": 5}, True),
        ({"config": {"max_ack_pending": 6}, "num_ack_pending": 5}, True),
        ({"config": {"max_ack_pending": 5}, "num_ack_pending": 5}, False),
        ({"config": {}, "num_ack_pending": 0, "paused": True}, False),
    ],
)
def test_a_server_that_gives_nothing_just_now_is_not_waited_for(info: dict[str, Any], answer: bool) -> None:
    assert gives(info) is answer
