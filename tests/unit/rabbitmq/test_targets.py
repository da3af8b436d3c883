"""RabbitMQ: exchanges that are published to are looked at for as long as the broker is open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventmicro_rabbitmq.places import RabbitExchange
from eventmicro_rabbitmq.targets import Target, Targets

from eventmicro.errors import Disconnected, UsageError


class Server:
    """A connection, what declares on it, and what is asked whether an exchange stands."""

    def __init__(self) -> None:
        self.stands = True
        self.events = RabbitExchange("events")

    async def wait(self) -> Server:
        return self

    async def exchange(self, connection: object, exchange: RabbitExchange) -> None:
        self.stands = True

    def remakes(self, exchange: RabbitExchange) -> bool:
        return True

    def forget(self, name: str) -> None:
        pass

    async def has_exchange(self, connection: object, name: str) -> bool:
        return self.stands


class Publishes:
    """A publisher with events on their way: it keeps its channel until they are confirmed."""

    def __init__(self) -> None:
        self.asked = 0

    async def begin_anew(self) -> None:
        self.asked += 1


async def looking(server: Any, publisher: Any, every: float = 0.001) -> tuple[Targets, Target]:
    target = Target(server, None, 60.0, lambda: None)
    await target.prepare(server)
    targets = Targets(server, {publisher: target}, every, 1.0)
    vars(targets)["_kept"] = server
    return targets, target


@pytest.mark.parametrize("error", [UsageError("no channel is left"), Disconnected("away"), ValueError("a slip")])
async def test_nothing_that_goes_wrong_ends_the_looking(error: Exception) -> None:
    asked = asyncio.Semaphore(0)

    class Failing(Server):
        async def has_exchange(self, connection: object, name: str) -> bool:
            asked.release()
            raise error

    targets, _ = await looking(Failing(), Publishes())
    targets.begin()
    for _ in range(3):
        await asyncio.wait_for(asked.acquire(), 5)
    await targets.close()


async def test_a_publisher_is_asked_for_another_channel_for_as_long_as_the_exchange_is_gone() -> None:
    server, publisher = Server(), Publishes()
    targets, _ = await looking(server, publisher)
    await targets.look()
    assert publisher.asked == 0
    server.stands = False
    for _ in range(3):
        await targets.look()
    assert publisher.asked == 3
    server.stands = True  # a subscriber has made it again, and the others are still binding their queues
    await targets.look()
    assert publisher.asked == 4


async def test_when_it_is_made_again_a_channel_is_kept() -> None:
    server: Any = Server()
    publisher = Publishes()
    target = Target(server, None, 0.0, lambda: None)
    await target.prepare(server)
    targets = Targets(server, {publisher: target}, 60.0, 1.0)  # type: ignore[dict-item]
    vars(targets)["_kept"] = server
    server.stands = False
    await targets.look()
    await target.prepare(server)
    await targets.look()
    assert publisher.asked == 1
