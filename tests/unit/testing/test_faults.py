"""What goes wrong because a test says so: handlers that fail, messages that are late, lost, or come twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from eventmicro import (
    CallTimeout,
    Client,
    Context,
    Disconnected,
    InternalError,
    NotAllPublished,
    NotStored,
    Service,
    Topic,
    Unavailable,
    UsageError,
)
from eventmicro.testing import NeverApplied, World
from tests.unit.testing.shop import BILLED, LATER, PLACED, RESERVED, Order, Reserved, Shop


def is_salt(order: Order) -> bool:
    return order.sku == "salt"


TEA, SALT = Order(sku="tea"), Order(sku="salt")


async def reserve(client: Client, order: Order = TEA, timeout: float = 5.0) -> Reserved:
    return await client.call("stock.reserve", order, Reserved, timeout=timeout)


async def test_an_endpoint_fails_as_often_as_is_said() -> None:
    async with World(*Shop().all) as world:
        fault = world.fail("stock.reserve", Unavailable("no stock today"), times=2)
        for _ in range(2):
            with pytest.raises(Unavailable, match="no stock today"):
                await reserve(world.client)
        assert (await reserve(world.client)).left == 9
        assert fault.applied == 2
        assert [each.outcome for each in world.handled("stock.reserve")] == ["failed", "failed", "done"]
        assert len(world.published(RESERVED)) == 1  # the handler has not run


async def test_what_is_no_answer_of_a_service_is_answered_as_a_handler_that_raises_it() -> None:
    async with World(*Shop().all) as world:
        with world.fail("stock.*", KeyError), pytest.raises(InternalError):
            await reserve(world.client)
        assert (await reserve(world.client)).left == 9


async def test_a_subscriber_fails_and_is_tried_again() -> None:
    async with World(*Shop().all) as world:
        with world.fail("billing.bill", ValueError("not now"), where=lambda order: order.sku == "tea", times=1):
            await world.client.publish(PLACED, TEA)
            await world.client.publish(PLACED, SALT)
            await world.idle()
        assert [(each.value.sku, each.attempt, each.outcome) for each in world.handled("billing.bill")] == [
            ("tea", 1, "failed"),
            ("salt", 1, "done"),
            ("tea", 2, "done"),
        ]


async def test_an_event_cannot_be_published() -> None:
    shop = Shop()
    async with World(*shop.all) as world:
        with world.fail(RESERVED, NotStored("the disk is full")) as fault, pytest.raises(InternalError):
            await reserve(world.client)
        assert fault.applied == 1
        assert world.published(RESERVED) == []
        assert [each.outcome for each in world.messages(RESERVED)] == ["failed"]
        with world.fail(PLACED, Disconnected("away"), where=is_salt), pytest.raises(NotAllPublished) as failed:
            await world.client.publish_many(PLACED, [TEA, SALT, TEA])
        assert (list(failed.value.failed), failed.value.confirmed) == ([1], 2)
        assert world.published(PLACED) == [TEA, TEA]


async def test_events_are_lost_and_who_has_published_them_does_not_know() -> None:
    async with World(*Shop().all) as world:
        world.drop(PLACED, times=1)
        await world.client.publish(PLACED, TEA)
        await world.client.publish(PLACED, SALT)
        await world.idle()
        assert [each.sku for each in world.published(BILLED)] == ["salt"]
        assert [each.outcome for each in world.messages(PLACED)] == ["dropped", "stored"]
        assert world.published(PLACED) == [TEA, SALT]


async def test_requests_are_lost_and_their_callers_time_is_over() -> None:
    async with World(*Shop().all) as world:
        with world.drop("stock.reserve"):
            with pytest.raises(CallTimeout) as late:
                await reserve(world.client, timeout=30.0)
            assert late.value.elapsed == pytest.approx(30.0)
            with pytest.raises(CallTimeout):  # also where one node is asked
                await world.client.call("stock.reserve", TEA, Reserved, timeout=30.0, selector="random")
        assert world.handled("stock.reserve") == []


async def test_events_are_late_and_others_overtake_them() -> None:
    async with World(*Shop().all) as world:
        with world.delay("shop.placed", 10.0, times=1):
            await world.client.publish(PLACED, TEA)
            await world.client.publish(PLACED, SALT)
            await world.advance(9.999)
            assert [each.sku for each in world.published(BILLED)] == ["salt"]
            await world.advance(0.001)
            assert [each.sku for each in world.published(BILLED)] == ["salt", "tea"]
        assert [each.outcome for each in world.messages(PLACED)] == ["delayed", "stored"]


async def test_requests_are_late_too_late_perhaps() -> None:
    async with World(*Shop().all) as world:
        with world.delay("stock.reserve", 4.0):
            assert (await reserve(world.client)).left == 9
            with pytest.raises(CallTimeout):
                await reserve(world.client, timeout=3.0)
        await world.idle()


async def test_events_and_requests_come_twice() -> None:
    async with World(*Shop().all) as world:
        with world.duplicate("shop.>"), world.duplicate("stock.reserve"):
            await world.client.publish(PLACED, TEA)
            await reserve(world.client)
            await world.idle()
        assert len(world.handled("billing.bill")) == len(world.handled("stock.reserve")) == 2
        assert len(world.published(PLACED)) == 1


async def test_several_faults_meet_one_message() -> None:
    async with World(*Shop().all) as world:
        with world.delay(PLACED, 1.0), world.delay(PLACED, 2.0), world.duplicate(PLACED):
            await world.client.publish(PLACED, TEA)
            await world.advance(2.999)
            assert world.handled(PLACED) == []
            await world.idle()
        assert len(world.handled(PLACED)) == 2


async def test_what_is_held_back_at_the_end_is_never_sent() -> None:
    async with World(*Shop().all) as world:
        world.delay(PLACED, 60.0)
        await world.client.publish(PLACED, TEA)
    assert world.handled(PLACED) == []


async def test_a_fault_that_nothing_has_met_is_an_error_of_its_block_or_its_world() -> None:
    async with World(*Shop().all) as world:
        fault = world.drop(BILLED)
        with pytest.raises(NeverApplied, match=r"drop\('shop\.billed'\) was never applied: it met no message"), fault:
            await world.idle()

    async def one(world: World) -> None:
        world.fail("stock.reserve", Unavailable, where=is_salt)
        await reserve(world.client)

    async def two(world: World) -> None:
        world.drop(PLACED)
        world.delay("stock.reserve", 1.0)

    async def another(world: World) -> None:  # which is not hidden by it
        world.drop(PLACED)
        raise ZeroDivisionError

    for test, kind, said in (
        (one, NeverApplied, "it met no message for which where= is true"),
        (two, NeverApplied, r"drop\('shop\.placed'\), delay\('stock\.reserve'\) were never applied"),
        (another, ZeroDivisionError, None),
    ):
        world = World(*Shop().all)
        with pytest.raises(kind, match=said):
            await run_in(world, test)


async def run_in(world: World, test: Callable[[World], Awaitable[None]]) -> None:
    async with world:
        await test(world)


async def test_a_fault_is_over_when_it_is_said() -> None:
    async with World(*Shop().all) as world:
        fault = world.fail("stock.reserve", Unavailable("no"))
        with pytest.raises(Unavailable):
            await reserve(world.client)
        fault.end()
        fault.end()
        assert (await reserve(world.client)).left == 9


async def test_a_fault_may_be_set_before_the_start() -> None:
    world = World(*Shop().all)
    world.fail("stock.reserve", Unavailable("no"), times=1)
    async with world:
        with pytest.raises(Unavailable):
            await reserve(world.client)


async def test_a_name_that_nobody_has_is_refused_with_those_that_are_near() -> None:
    async with World(*Shop().all) as world:
        with pytest.raises(UsageError, match=r"nothing in this world is called 'stock\.reserv'.*'stock\.reserve'"):
            world.fail("stock.reserv", Unavailable)
        with pytest.raises(UsageError, match=r"there are billing\.bill, orders\.place, shop\.placed, stock\."):
            world.drop("x.y.z")
        with pytest.raises(UsageError, match=r"delay\('billing\.bill'\): that is a subscriber; name the topic"):
            world.delay("billing.bill", 1.0)
        with pytest.raises(UsageError, match="write what is to be raised"):
            world.fail("stock.reserve", "an error")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="write a topic, or the name"):
            world.drop(7)  # type: ignore[arg-type]
        for times in (0, -1, 1.5):
            with pytest.raises(UsageError, match="times"):
                world.drop(PLACED, times=times)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="seconds"):
            world.delay(PLACED, -1.0)


async def test_patterns_of_both_sides_meet() -> None:
    service, logs = Service("logs"), Topic("logs.{level}.*", Order)

    @service.subscribe(logs, retry=LATER)
    async def keep(order: Order, context: Context) -> None: ...

    async with World(service) as world:
        with world.drop("logs.error.>") as dropped, world.drop(logs, times=0 or None):
            await world.client.publish("logs.error.disk", TEA)
            await world.idle()
        assert dropped.applied == 1
        with pytest.raises(UsageError, match="nothing in this world"):
            world.drop("logs.error")
        assert world.handled(logs) == []


async def test_a_handler_that_runs_already_is_not_met() -> None:
    waits, go_on = Service("waits"), asyncio.Event()

    @waits.rpc
    async def go() -> str:
        await go_on.wait()
        return "done"

    async with World(waits) as world:
        calling = asyncio.create_task(world.client.call("waits.go", None, str))
        await world.advance(0)
        with world.fail("waits.go", Unavailable):
            go_on.set()
            assert await calling == "done"
            with pytest.raises(Unavailable):
                await world.client.call("waits.go", None, str)


async def test_what_is_delayed_and_cannot_be_sent_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with World(*Shop().all) as world:
        with world.delay(PLACED, 5.0):
            await world.client.publish(PLACED, Order(sku="x" * 2_000_000))
            await world.idle()
        (told,) = [record.message for record in caplog.records]
        assert told.startswith("a message to shop.placed that was delayed could not be sent: shop.placed: 2000")


async def test_what_is_too_large_among_many_is_seen_as_failed() -> None:
    async with World(*Shop().all) as world:
        with pytest.raises(NotAllPublished):
            await world.client.publish_many(PLACED, [TEA, Order(sku="x" * 2_000_000), SALT])
        assert [each.outcome for each in world.messages(PLACED)] == ["stored", "failed", "stored"]
        assert world.published(PLACED) == [TEA, SALT]
