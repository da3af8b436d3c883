"""Events of one key reach one instance of a queue, on real brokers that spread a queue's events over all of them."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from pydantic import BaseModel

from eventmicro import Client, Service, Topic

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Move(BaseModel):
    game: str


@pytest.mark.parametrize("broker", ["nats", "jetstream", "rabbitmq"])
async def test_a_key_has_one_home_and_no_event_is_lost_when_that_goes(
    broker: str, request: pytest.FixtureRequest, until: Until
) -> None:
    url, calls = request.getfixturevalue(f"{broker}_url"), request.getfixturevalue("jetstream_url")
    rpc_broker = calls.replace("jetstream://", "nats://") if broker == "rabbitmq" else None
    name = f"games-{secrets.token_hex(4)}"
    topic = Topic(f"{name}.moved", Move)
    homes: dict[str, list[str]] = defaultdict(list)

    def instance(id: str) -> Service:
        service = Service(name, id=id, broker=url, rpc_broker=rpc_broker)

        @service.subscribe(topic, sticky_by="game", concurrency=20)
        async def move(event: Move) -> None:
            homes[event.game].append(id)

        return service

    def count() -> int:
        return sum(map(len, homes.values()))

    async with AsyncExitStack() as stack, Client(url, rpc_broker=rpc_broker) as client:
        instances = [instance(letter) for letter in "abc"]
        for each in instances:
            await stack.enter_async_context(each)
        await client.flush()
        for number in range(100):
            await client.publish(topic, Move(game=f"g{number % 20}"))
        await until(lambda: count() == 100)
        before = {game: set(found) for game, found in homes.items()}
        homes.clear()
        await instances[0].stop()
        for number in range(100):
            await client.publish(topic, Move(game=f"g{number % 20}"))
        await until(lambda: count() == 100)
    for game, found in before.items():
        assert len(found) == 1
        assert set(homes[game]) <= {"b", "c"}
        assert found == {"a"} or set(homes[game]) == found
