"""Events of one key reach one instance of a queue, also where the broker spreads a queue's events over all."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import (
    Batch,
    CallTimeout,
    Client,
    Context,
    MemoryBroker,
    Nack,
    NotFound,
    Reject,
    Retry,
    Service,
    Topic,
    Unsupported,
    UsageError,
)
from eventmicro.context import Side
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import NodeRecord, ServiceRecord
from eventmicro.running import sticking

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://sticking"


class Move(BaseModel):
    game: str
    number: int = 0


TOPIC = Topic("games.moved", Move)


class Instances:
    """Instances of one service, and which of them handled the events of each key."""

    def __init__(self, handle: Callable[[Move, Context], Awaitable[None]] | None = None, **words: Any) -> None:
        self.homes: dict[str, list[str]] = defaultdict(list)
        self.count = 0
        self._handle = handle
        self._words = words

    def make(self, id: str) -> Service:
        service = Service("games", id=id, broker=URL)

        @service.subscribe(TOPIC, sticky_by="game", **({"concurrency": 10} | self._words))
        async def move(event: Move, context: Context) -> None:
            self.homes[event.game].append(id)
            self.count += 1
            if self._handle is not None:
                await self._handle(event, context)

        return service


async def play(client: Client, games: int, moves: int = 5) -> None:
    for number in range(moves):
        for game in range(games):
            await client.publish(TOPIC, Move(game=f"g{game}", number=number))


@pytest.mark.parametrize("durable", [True, False])
async def test_a_key_stays_with_its_instance_and_moves_only_where_that_goes(durable: bool, until: Until) -> None:
    instances = Instances(durable=durable)
    async with AsyncExitStack() as stack, Client(URL) as client:
        services = [instances.make(name) for name in "abc"]
        for service in services:
            await stack.enter_async_context(service)
        await play(client, 30)
        await until(lambda: instances.count == 150)
        homes = {game: set(found) for game, found in instances.homes.items()}
        assert {len(found) for found in homes.values()} == {1}
        assert set.union(*homes.values()) == {"a", "b", "c"}
        await services[1].stop()
        instances.homes.clear()
        await play(client, 30)
        await until(lambda: instances.count == 300)
    for game, (home,) in homes.items():
        assert set(instances.homes[game]) <= {"a", "c"}
        if home != "b":
            assert set(instances.homes[game]) == {home}


async def test_an_event_out_of_an_object_store_goes_on_in_pieces(until: Until) -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    count, seen = 0, list[dict[str, str]]()
    large = Topic("games.saved", dict[str, str], large="object")

    def make(id: str) -> Service:
        service = Service("games", id=id, broker=MemoryBroker(URL, max_payload=2000))

        @service.subscribe(large, sticky_by="game", concurrency=10)
        async def save(event: dict[str, str], context: Context) -> None:
            nonlocal count
            assert len(event["state"]) == 10_000
            homes[event["game"]].add(id)
            seen.append(dict(context.metadata))
            count += 1

        return service

    async with make("a"), make("b"), MemoryBroker(URL, max_payload=2000) as broker, Client(broker) as client:
        for number in range(40):
            event = {"game": f"g{number % 20}", "state": "x" * 10_000}
            await client.publish(large, event, metadata={"Tenant": "acme"})
        await until(lambda: count == 40)
    assert {len(found) for found in homes.values()} == {1}
    assert set.union(*homes.values()) == {"a", "b"}
    assert seen == [{"Tenant": "acme"}] * 40


async def test_what_is_registered_and_gone_loses_nothing(until: Until) -> None:
    instances = Instances()
    async with MemoryRegistry(URL) as registry, instances.make("a"), Client(URL) as client:
        for letter in "xyz":
            gone = NodeRecord(id=letter, address=f"games.$node.{letter}")
            await registry.register(ServiceRecord(name="games", nodes=[gone]), ttl=30)
        await play(client, 20, 1)
        await until(lambda: instances.count == 20)
    assert {home for found in instances.homes.values() for home in found} == {"a"}


async def test_an_older_version_without_the_subscriber_is_passed_over(until: Until) -> None:
    instances = Instances()
    async with instances.make("a"), Service("games", id="old", broker=URL), Client(URL) as client:
        await play(client, 20, 1)
        await until(lambda: instances.count == 20)


async def test_how_an_event_ends_is_how_it_is_settled_where_it_came(until: Until) -> None:
    attempts: dict[str, int] = defaultdict(int)

    async def handle(event: Move, context: Context) -> None:
        attempts[event.game] += 1
        if event.game == "rejected":
            raise Reject("not that one")
        if event.game == "later" and attempts["later"] < 3:
            raise Nack(0.001)
        if event.game == "failing" and attempts["failing"] < 3:
            raise ZeroDivisionError

    instances = Instances(handle, retry=Retry(attempts=5, backoff=0.001))
    letters: list[str] = []
    async with AsyncExitStack() as stack, Client(URL) as client:
        for name in "abcd":
            await stack.enter_async_context(instances.make(name))
        watching = Service("watching", broker=URL)

        @watching.subscribe("dead.games.move", queue="dead.games.move")
        async def letter(event: Move, context: Context) -> None:
            letters.append(f"{event.game}: {context.metadata['Dead-Letter-Reason']}")

        await stack.enter_async_context(watching)
        for game in ("rejected", "later", "failing"):
            await client.publish(TOPIC, Move(game=game))
        await until(lambda: attempts["later"] == 3 and attempts["failing"] == 3 and letters)
    assert attempts["rejected"] == 1
    assert letters == ["rejected: rejected: not that one"]


async def test_headers_go_along(until: Until) -> None:
    seen: list[str] = []

    async def handle(event: Move, context: Context) -> None:
        seen.append(context.metadata.get("tenant", ""))

    instances = Instances(handle)
    async with instances.make("a"), instances.make("b"), Client(URL) as client:
        for game in range(10):
            await client.publish(TOPIC, Move(game=str(game)), metadata={"tenant": "acme"})
        await until(lambda: len(seen) == 10)
    assert set(seen) == {"acme"}


async def test_an_instance_that_hangs_is_waited_for_no_longer_than_the_timeout(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sticking, "LOOK", 0.5)
    async with MemoryBroker(URL) as wire, MemoryRegistry(URL) as registry, Client(URL) as client:
        instances = Instances(timeout=0.05, retry=Retry(attempts=50, backoff=0.001, longest=0.01))
        async with instances.make("a"):
            hung = NodeRecord(id="hung", address="games.$node.hung")
            record = ServiceRecord(name="games", nodes=[hung])
            await registry.register(record, ttl=30)
            subscription = await wire.subscribe("games.$node.hung.*", lambda call: None)
            await play(client, 10, 1)
            await asyncio.sleep(0)
            await registry.deregister(record)
            await subscription.drain()
            await until(lambda: instances.count == 10)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"sticky_by": "nothing"}, "nothing"),
        ({"sticky_by": "game", "batch": Batch()}, "sticky_by goes with a queue, without batch"),
        ({"sticky_by": "game", "ack": "manual"}, "sticky_by goes with a queue"),
        ({"sticky_by": "game", "queue": None}, "sticky_by goes with a queue"),
    ],
)
def test_what_does_not_go_together_is_refused(words: dict[str, Any], reason: str) -> None:
    service = Service("games")
    with pytest.raises(UsageError, match=reason):

        @service.subscribe(TOPIC, **words)
        async def move(event: Move) -> None: ...


async def test_what_the_broker_cannot_do_is_refused_at_the_start() -> None:
    class NoCalls(MemoryBroker):
        capabilities = replace(MemoryBroker.capabilities, request_reply=False)

    def service(**words: Any) -> Service:
        service = Service("games", **words)

        @service.subscribe(TOPIC, sticky_by="game")
        async def move(event: Move) -> None: ...

        return service

    with pytest.raises(Unsupported, match=r"games\.move needs request_reply"):
        await service(broker=NoCalls(URL)).start()
    with pytest.raises(Unsupported, match=r"games\.move has sticky_by, which needs a registry"):
        await service(broker=URL, registry="none").start()


async def test_a_handler_sees_the_same_wherever_its_event_came(until: Until) -> None:
    seen: dict[str, list[tuple[Any, ...]]] = defaultdict(list)

    async def handle(event: Move, context: Context) -> None:
        about = (context.side, context.service, context.endpoint, context.topic, context.attempt, context.metadata)
        seen[event.game].append((*about[:5], "Sticky-Topic" in about[5], context.id))
        if context.attempt == 1:
            raise ZeroDivisionError

    instances = Instances(handle, retry=Retry(attempts=3, backoff=0.001), timeout=5)
    async with instances.make("a"), instances.make("b"), Client(URL) as client:
        await play(client, games=20, moves=1)
        await until(lambda: len(seen) == 20 and all(len(each) == 2 for each in seen.values()))
    for (*first, one), (*second, two) in seen.values():
        assert first == [Side.SUBSCRIBER, "games", "move", "games.moved", 1, False]
        assert second == [Side.SUBSCRIBER, "games", "move", "games.moved", 2, False]
        assert one == two != ""
    assert len({each[0][-1] for each in seen.values()}) == 20
    assert all(len(set(homes)) == 1 for homes in instances.homes.values())


async def test_what_a_handler_settles_itself_is_settled_where_it_came(until: Until) -> None:
    attempts: dict[str, int] = defaultdict(int)
    letters: list[str] = []

    async def handle(event: Move, context: Context) -> None:
        attempts[event.game] += 1
        if event.game.startswith("acked"):
            await context.ack()
            raise ZeroDivisionError
        if event.game.startswith("rejected"):
            await context.reject("not that one")
            await context.ack()  # the first counts
        elif attempts[event.game] == 1:
            await context.nack(0.001)

    instances = Instances(handle, retry=Retry(attempts=5, backoff=0.001))
    games = [f"{what}{n}" for what in ("acked", "rejected", "later") for n in range(8)]
    async with instances.make("a"), instances.make("b"), Client(URL) as client:
        watching = Service("watching", broker=URL)

        @watching.subscribe("dead.games.move", queue="dead.games.move")
        async def letter(event: Move) -> None:
            letters.append(event.game)

        async with watching:
            for game in games:
                await client.publish(TOPIC, Move(game=game))
            await until(lambda: len(letters) == 8 and all(attempts[g] == 1 + g.startswith("later") for g in games))
    assert sorted(letters) == [f"rejected{n}" for n in range(8)]
    assert {game: attempts[game] for game in games} == {game: 1 + game.startswith("later") for game in games}


async def test_who_hands_over_and_waits_no_more_has_the_handler_cancelled(until: Until) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(event: Move, context: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Instances(handle).make("b"), Client(URL) as client:
        calling = asyncio.create_task(client.call("games.$node.b.move", Move(game="g"), timeout=60))
        await begun.wait()
        calling.cancel()
        async with asyncio.timeout(20):
            await ended.wait()


async def test_one_that_is_drained_finishes_what_was_handed_over_and_takes_no_more(until: Until) -> None:
    gate, handled, service = asyncio.Event(), list[str](), Service("games", id="b", broker=URL)

    async def wait(event: Move) -> None:
        handled.append(f"old {event.game}")
        await gate.wait()

    async def note(event: Move) -> None:
        handled.append(f"new {event.game}")

    async with service, Client(URL) as client:
        subscriber = await service.start_subscriber(TOPIC, wait, name="move", sticky_by="game", concurrency=10)
        calling = asyncio.create_task(client.call("games.$node.b.move", Move(game="g")))
        await until(lambda: handled)
        draining = asyncio.create_task(subscriber.drain())
        late: BaseException | None = CallTimeout("")
        while isinstance(late, CallTimeout):  # until it has begun with its end
            call = asyncio.create_task(client.call("games.$node.b.move", Move(game="late"), timeout=0.05))
            await asyncio.wait([call])
            late = call.exception()
        assert isinstance(late, NotFound)
        assert not draining.done()
        gate.set()
        await draining
        await calling
        handled.clear()
        async with await service.start_subscriber(TOPIC, note, name="move", sticky_by="game"):
            await client.call("games.$node.b.move", Move(game="g"))
        assert handled == ["new g"]


async def test_what_was_handed_over_may_drain_its_own_subscriber() -> None:
    service = Service("games", id="b", broker=URL)

    async def leave(event: Move) -> None:
        await subscriber.drain()

    async with service, Client(URL) as client:
        subscriber = await service.start_subscriber(TOPIC, leave, name="move", sticky_by="game")
        await client.call("games.$node.b.move", Move(game="g"), timeout=5)
