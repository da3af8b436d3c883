"""What is cancelled, at whatever moment: each call has one outcome, each event is settled or comes again."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from eventmicro import Client, Context, Retry, Service, Topic
from eventmicro.errors import CallTimeout, NotAllPublished, ServiceError, TransportError, Unavailable, Unconfirmed
from eventmicro.memory import MemoryBroker
from eventmicro.memory.live import LiveSubscription
from tests.conftest import Until

# How many times a service is stopped, and how many things are begun meanwhile.
STOPS, AT_ONCE = 5, 60


class Trial:
    """A service of one instance after the other, a client, and what becomes of what is begun with it.

    confirmed: the events whose publish has returned; published: all of which it was begun.
    handled: how often a handler returned for an event; cut: how often one was cancelled.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.chance = url, random.Random(seed)
        self.name = f"t{secrets.token_hex(5)}"
        self.topic = Topic(f"{self.name}.placed", int)
        self.outcomes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.published = 0
        self.confirmed: set[int] = set()
        self.handled: Counter[int] = Counter()
        self.cut: Counter[int] = Counter()

    def service(self) -> Service:
        service = Service(self.name, broker=self.url, stop_timeout=self.chance.choice([0.0, 0.01, 5.0]))

        @service.rpc
        async def double(number: int) -> int:
            self.calls["begun"] += 1
            try:
                await self.moment()
            except asyncio.CancelledError:
                self.calls["cut"] += 1
                raise
            self.calls["ended"] += 1
            return 2 * number

        @service.subscribe(
            self.topic, concurrency=8, prefetch=20, retry=Retry(attempts=50, backoff=0.001, longest=0.01)
        )
        async def take(event: int, context: Context) -> None:
            try:
                await self.moment()
            except asyncio.CancelledError:
                self.cut[event] += 1
                raise
            if self.chance.random() < 0.1:
                raise ValueError("not yet")
            self.handled[event] += 1

        return service

    async def moment(self) -> None:
        """Some turns of the loop, or some milliseconds."""
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.random() * 0.004)
        else:
            for _ in range(self.chance.randrange(6)):
                await asyncio.sleep(0)

    async def cancelled_somewhere(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it, and two times out of three cancel it in the midst."""
        task = asyncio.ensure_future(work)
        await self.moment()
        if self.chance.random() < 0.67:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def call(self, client: Client) -> None:
        self.calls["made"] += 1
        number = self.chance.randrange(1000)
        try:
            outcome = "right" if await client.call(f"{self.name}.double", number, int) == 2 * number else "wrong"
        except asyncio.CancelledError:
            outcome = "cancelled"
        except (Unavailable, CallTimeout, ServiceError, TransportError) as error:
            outcome = type(error).__name__
        self.outcomes[outcome] += 1

    async def publish(self, client: Client) -> None:
        event = self.published = self.published + 1
        with suppress(Unconfirmed):
            await client.publish(self.topic, event)
            self.confirmed.add(event)

    async def publish_many(self, client: Client) -> None:
        events = range(self.published + 1, self.published + 6)
        self.published += 5
        try:
            await client.publish_many(self.topic, events)
            self.confirmed.update(events)
        except NotAllPublished as error:
            self.confirmed.update(event for place, event in enumerate(events) if place not in error.failed)

    async def watch(self, client: Client) -> None:
        async with client.events(self.topic) as events:
            async for _ in events:
                pass

    async def burst(self, client: Client) -> None:
        """Many things at once, which are cancelled each at a moment of its own, and some that would never end."""
        works = self.chance.choices([self.call, self.publish, self.publish_many], [3, 2, 1], k=AT_ONCE)
        watching = [asyncio.ensure_future(self.watch(client)) for _ in range(3)]
        await asyncio.gather(*(self.cancelled_somewhere(work(client)) for work in works))
        for watch in watching:
            watch.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    async def stop(self, service: Service) -> None:
        """Stop it, and cancel that in the midst; a second stop sees to the end of the first."""
        await self.moment()
        await self.cancelled_somewhere(service.stop())
        await service.stop()


def subscriptions(client: Client) -> int:
    """How many live ones there are, in memory of all connections, over NATS of this one."""
    broker: Any = client.broker
    if isinstance(broker, MemoryBroker):
        assert broker._hub is not None
        everywhere = [*broker._hub._wild, *(each for some in broker._hub._exact.values() for each in some)]
        return sum(isinstance(each, LiveSubscription) for each in everywhere)
    return len(broker._driver._takes)


@pytest.fixture(params=["memory", "jetstream"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("jetstream_url"))


async def all_settled(client: Client, queue: str) -> None:
    """Return when nothing of it is left, before the lease of an event that was not given back would end."""
    broker: Any = client.broker
    async with asyncio.timeout(20):
        while (state := await broker.queue_state(queue)) is None or state.waiting or state.unsettled:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_cancelled_has_one_outcome_and_leaves_nothing(url: str, seed: int, until: Until) -> None:
    trial = Trial(url, seed)
    async with Client(url, timeout=1) as client:
        await trial.call(client)  # which opens what is there once
        before = subscriptions(client)
        service = trial.service()
        await service.start()
        for _ in range(STOPS):
            await asyncio.gather(trial.burst(client), trial.stop(service))
            service = trial.service()
            await service.start()
        await all_settled(client, f"{trial.name}.take")
        await until(lambda: trial.calls["begun"] == trial.calls["ended"] + trial.calls["cut"])
        await service.stop()
        assert client._caller is not None
        assert (len(client._caller), subscriptions(client)) == (0, before)
    assert trial.confirmed <= trial.handled.keys() <= set(range(1, trial.published + 1))
    assert trial.outcomes.total() == trial.calls["made"]
    assert trial.outcomes["wrong"] == 0
    assert trial.outcomes["cancelled"] > 0 < trial.outcomes["right"] <= trial.calls["ended"]
