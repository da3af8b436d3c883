"""A client that is used from another event loop than its own: refused at once, whatever it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Client, EventMicroError, Topic, UsageError

# How long all of them may take, in seconds: less than any one's own timeout.
AT_ONCE = 4.0


def uses(client: Client, topic: Topic[int], calls: bool) -> dict[str, Callable[[], Awaitable[Any]]]:
    over_calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "call": lambda: client.call(f"{topic.name}.quote", 1, int),
        "patient call": lambda: client.call(f"{topic.name}.quote", 1, int, patience=60),
        "stream": lambda: anext(aiter(client.stream(f"{topic.name}.quote", 1, int))),
        "services": client.services,
    }
    return {
        "publish": lambda: client.publish(topic, 1),
        "publish_many": lambda: client.publish_many(topic, [1, 2]),
        "flush": client.flush,
        "connect": client.connect,
        "close": client.close,
    } | (over_calls if calls else {})


async def _ask_all(client: Client, topic: Topic[int]) -> dict[str, str]:
    said = dict[str, str]()
    async with asyncio.timeout(AT_ONCE):
        for name, use in uses(client, topic, client.broker.capabilities.request_reply).items():
            try:
                await use()
            except Exception as error:
                said[name] = f"{type(error).__name__}: {error}"
    return said


@pytest.mark.parametrize("url", ["memory", "nats_url", "jetstream_url", "rabbitmq_url", "kafka_url"])
async def test_a_client_is_refused_in_another_loop_while_its_own_goes_on(
    url: str, subject: str, request: pytest.FixtureRequest
) -> None:
    topic = Topic(subject, int)
    async with Client("memory://loops" if url == "memory" else request.getfixturevalue(url)) as client:
        if client.broker.capabilities.request_reply:
            with pytest.raises(EventMicroError):
                await client.call(f"{subject}.quote", 1, int, timeout=2)
        said = await asyncio.to_thread(asyncio.run, _ask_all(client, topic))
        assert {name for name, what in said.items() if "serves that one alone: close it before" in what} == {
            *uses(client, topic, client.broker.capabilities.request_reply)
        }, said
        await client.publish(topic, 1)


def test_one_that_was_left_open_in_a_loop_that_has_ended_is_refused_in_the_next() -> None:
    client, topic = Client("memory://loops"), Topic("loops.seen", int)
    asyncio.run(client.connect())
    said = asyncio.run(_ask_all(client, topic))
    assert said.keys() == uses(client, topic, True).keys()
    assert all(what.startswith(UsageError.__name__) for what in said.values())


def test_one_that_was_closed_may_be_used_in_the_next() -> None:
    client, topic = Client("memory://loops"), Topic("loops.seen", int)

    async def use() -> None:
        async with client:
            await client.publish(topic, 1)

    for _ in range(2):
        asyncio.run(use())
