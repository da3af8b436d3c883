"""SyncClient: without a service, what it refuses and when it begins; the rest is in tests/integration."""

from __future__ import annotations

import asyncio
import threading

import pytest

from eventmicro import CallTimeout, MemoryBroker, SyncClient, Topic, Unavailable, UsageError
from eventmicro.context import Context, Side, enter_context

SEEN = Topic("sync.seen", int)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "eventmicro client"]


def test_it_begins_with_the_first_use_and_ends_with_its_close() -> None:
    client = SyncClient("memory://")
    assert threads() == []
    client.publish(SEEN, 1)
    assert len(threads()) == 1
    client.close()
    client.close()
    assert threads() == []
    with client:
        client.publish_many(SEEN, [1, 2])
    assert threads() == []


def test_one_that_is_forgotten_is_closed() -> None:
    client = SyncClient("memory://")
    client.publish(SEEN, 1)
    del client
    assert threads() == []


def test_errors_are_those_of_a_client() -> None:
    with SyncClient("memory://") as client, pytest.raises(Unavailable, match=r"nobody serves orders\.quote"):
        client.call("orders.quote", 1, int)


def test_wrong_words_are_refused_when_it_is_made() -> None:
    with pytest.raises(UsageError, match="timeout=-1"):
        SyncClient("memory://", timeout=-1)
    with pytest.raises(UsageError, match="write a URL, or a function that makes a Broker"):
        SyncClient(MemoryBroker())  # type: ignore[arg-type]
    with SyncClient(MemoryBroker) as client:
        client.publish(SEEN, 1)


async def test_it_refuses_to_block_an_event_loop() -> None:
    client = SyncClient("memory://")
    for use in (client.connect, client.close, client.flush, lambda: client.publish(SEEN, 1), client.__enter__):
        with pytest.raises(UsageError, match="would block the event loop that runs here: use `async with Client"):
            use()
    assert threads() == []
    await asyncio.to_thread(client.publish, SEEN, 1)
    await asyncio.to_thread(client.close)


async def test_in_a_thread_of_a_handler_it_has_no_more_time_than_the_handler() -> None:
    client = SyncClient("memory://", patience=60)

    def ask() -> None:
        with pytest.raises((Unavailable, CallTimeout)):
            client.call("orders.quote", 1, int)

    enter_context(Context(Side.ENDPOINT, deadline=asyncio.get_running_loop().time() + 0.2))
    await asyncio.wait_for(asyncio.to_thread(ask), 20)
    await asyncio.to_thread(client.close)
