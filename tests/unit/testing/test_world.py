"""A world of several services: what it has seen, that it waits for what is under way, and how it begins and ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest

from eventmicro import (
    Batch,
    Client,
    Conflict,
    Context,
    Depends,
    MemoryBroker,
    NotFound,
    Service,
    Topic,
    Unavailable,
    UsageError,
    rpc,
    subscribe,
)
from eventmicro.errors import CallTimeout, DecodeError, TransportError
from eventmicro.testing import StillBusy, World
from tests.unit.testing.shop import BILLED, LATER, PLACED, RESERVED, Invoice, Order, Reserved, Shop, shelf


async def test_what_is_published_called_and_handled_is_seen_by_its_type() -> None:
    shop = Shop()
    async with World(*shop.all) as world:
        assert await world.client.call("orders.place", Order(sku="tea"), Reserved) == Reserved(sku="tea", left=9)
        await world.idle()
        assert world.published(PLACED) == [Order(sku="tea")]
        assert world.published(RESERVED) == [Reserved(sku="tea", left=9)]
        assert world.published(BILLED, where=lambda invoice: invoice.cents > 100) == []
        [invoice] = world.messages(BILLED)
        assert (invoice.value, invoice.service, invoice.subject) == (
            Invoice(sku="tea", cents=100),
            "billing",
            "shop.billed",
        )
        assert (invoice.metadata, invoice.outcome) == ({"kind": "new"}, "stored")
        [placed] = world.messages(PLACED)
        assert (placed.key, placed.id, placed.service) == ("tea", "tea", "orders")
        [call] = world.called("stock.reserve", Reserved, Order)
        assert (call.request, call.reply, call.service, call.outcome) == (
            Order(sku="tea"),
            Reserved(sku="tea", left=9),
            "orders",
            "done",
        )
        [bill] = world.handled("billing.bill")
        assert (bill.value, bill.service, bill.attempt, bill.outcome) == (Order(sku="tea"), "billing", 1, "done")
        assert world.handled(PLACED) == [bill]
        assert [each.handler for each in world.handled("stock.reserve")] == ["stock.reserve"]
    assert world.published(BILLED) == [Invoice(sku="tea", cents=100)]  # what it has seen it still knows


async def test_a_pattern_and_a_mere_subject_give_what_their_json_says() -> None:
    async with World(*Shop().all) as world:
        await world.client.publish("other.thing", {"a": 1})
        await world.client.publish(PLACED, Order(sku="tea"))
        await world.idle()
        assert world.published("other.thing") == [{"a": 1}]
        assert [each.subject for each in world.messages("shop.*")] == ["shop.placed", "shop.billed"]
        with pytest.raises(DecodeError):
            world.published(Topic("other.thing", Order))
        with pytest.raises(UsageError, match="write tokens with dots between"):
            world.published("two words")


async def test_a_call_that_fails_is_seen_with_its_error() -> None:
    async with World(*Shop().all) as world:
        with pytest.raises(Conflict):
            await world.client.call("stock.reserve", {"sku": "salt", "quantity": 2}, Reserved)
        with pytest.raises(NotFound):
            await world.client.call("stock.nothing", Order(sku="salt"))
        failed, unknown = world.called("stock.*")
        assert (failed.outcome, failed.service, failed.reply) == ("failed", "client", None)
        assert isinstance(failed.error, Conflict)
        assert isinstance(unknown.error, NotFound)
        [typed] = world.called("stock.reserve", Reserved, Order)
        assert typed.request == Order(sku="salt", quantity=2)  # what was given as a dict
        [handled] = world.handled("stock.reserve")
        assert (handled.outcome, type(handled.error)) == ("failed", Conflict)


async def test_calls_to_each_node_and_what_a_node_answers_beside_its_endpoints_do_not_get_in_the_way() -> None:
    shop = Shop()
    async with World(*shop.all) as world:
        await world.client.call("stock.reserve", Order(sku="tea"), Reserved, selector="random")
        await world.client.call("stock.health", None, dict)
        assert len(world.called("stock.reserve")) == 1
        assert [each.handler for each in world.handled("stock.>")] == ["stock.reserve"]


async def test_it_is_idle_when_all_that_follows_is_done_nested_calls_and_batches_too() -> None:
    stored: list[list[Invoice]] = []
    shop = Shop()
    store = Service("store")

    @store.subscribe(BILLED, batch=Batch(size=10, within=5.0))
    async def keep(invoices: list[Invoice]) -> None:
        await asyncio.sleep(3600)
        stored.append(invoices)

    async with World(*shop.all, store) as world:
        for _ in range(3):
            await world.client.call("orders.place", Order(sku="tea"), Reserved)
        await world.advance(1)
        with pytest.raises(StillBusy) as busy:
            await world.idle(within=10)
        assert busy.value.busy[0].startswith("store.keep: 1 being handled, at ")
        assert busy.value.busy[1] == "queue store.keep: 0 waiting, 3 unsettled"
        await world.idle()
        assert [len(batch) for batch in stored] == [3]
        [kept] = world.handled("store.keep")
        assert kept.value == stored[0]
        assert kept.outcome == "done"


async def test_a_batch_of_a_queue_that_keeps_nothing_is_waited_for() -> None:
    shop, stored = Shop(), list[int]()

    @shop.stock.subscribe(PLACED, batch=Batch(size=10, within=5.0), durable=False)
    async def look(orders: list[Order]) -> None:
        stored.append(len(orders))

    async with World(*shop.all) as world:
        await world.client.publish(PLACED, Order(sku="tea"))
        await world.advance(0)
        assert stored == []
        await world.idle()
    assert stored == [1]


async def test_who_never_ends_is_named_with_the_place_where_it_stands() -> None:
    async with World(*Shop().all) as world:
        counting = asyncio.create_task(world.client.call("stock.count", timeout=1e6))
        with pytest.raises(
            StillBusy, match=r"after 3600 s of its time:\n  stock.count: 1 being handled, at .*shop\.py"
        ):
            await world.idle()
        counting.cancel()
        await world.idle()


async def test_events_that_go_round_and_round_are_found_out() -> None:
    ping, topic = Service("ping"), Topic("ping.pong", int)

    @ping.subscribe(topic)
    async def pong(number: int) -> None:
        await ping.publish(topic, number + 1)

    async with World(ping, patience=0.05) as world:
        await world.client.publish(topic, 1)
        with pytest.raises(StillBusy, match=r"after 0\.05 s of computing, or in threads"):
            await world.idle()


async def test_a_thread_that_does_not_end_is_found_out() -> None:
    blocking, ended = Service("blocking"), threading.Event()

    @blocking.rpc
    def wait() -> None:
        ended.wait(30)

    async with World(blocking, patience=0.05) as world:
        calling = asyncio.create_task(world.client.call("blocking.wait"))
        with pytest.raises(StillBusy, match=r"blocking\.wait: 1 being handled"):
            await world.idle()
        ended.set()
        await world.idle()
        assert await calling is None


async def test_an_event_that_was_given_up_is_among_the_dead() -> None:
    async with World(*Shop().all) as world:
        world.fail("billing.bill", ValueError("no such account"))
        await world.client.publish(PLACED, Order(sku="tea"), metadata={"tenant": "acme"})
        await world.client.publish("shop.placed", {"wrong": True})
        await world.idle()
        unread, dead = world.dead()
        assert (dead.value, dead.subject, dead.queue, dead.attempts) == (
            {"sku": "tea", "quantity": 1},
            "shop.placed",
            "billing.bill",
            3,
        )
        assert dead.reason == "failed 3 times, the last time by ValueError: no such account"
        assert dead.metadata["tenant"] == "acme"
        assert [letter.value for letter in world.dead(PLACED)[1:]] == [Order(sku="tea")]
        with pytest.raises(DecodeError):
            _ = world.dead(PLACED)[0].value
        assert unread.attempts == 1
        assert len(world.dead("billing.bill")) == len(world.dead("shop.*")) == 2
        assert world.published("dead.>") == []
        with pytest.raises(UsageError, match=r"did you mean 'billing\.bill'"):
            world.dead("billing.bil")


async def test_streams_are_seen_and_an_open_one_is_not_waited_for() -> None:
    counting = Service("counting")

    @counting.rpc
    async def up(start: int) -> AsyncIterator[int]:
        while True:
            yield start
            start += 1

    async with World(counting) as world:
        async with world.client.stream("counting.up", 5, int) as numbers:
            assert await anext(numbers) == 5
            await world.idle()
            assert [each.outcome for each in world.handled("counting.up")] == ["running"]
        await world.idle()
        assert [each.outcome for each in world.handled("counting.up")] != ["running"]
        [call] = world.called("counting.up")
        assert (call.request, call.reply) == (5, None)


async def test_events_of_one_key_keep_their_order_over_a_retry_and_what_comes_twice_is_handled_once() -> None:
    shop, seen = Shop(), list[str]()

    @shop.stock.subscribe(PLACED, order_by="sku", retry=LATER, dedupe=600.0)
    async def pack(order: Order, context: Context) -> None:
        seen.append(f"{order.sku} {order.quantity} {context.attempt}")
        if order.quantity == 1 and context.attempt == 1:
            raise ValueError("not yet")

    async with World(shop.stock) as world:
        with world.duplicate(PLACED) as twice:
            for number in (1, 2):
                await world.client.publish(PLACED, Order(sku="tea", quantity=number), id=number)
        await world.idle()
    assert seen == ["tea 1 1", "tea 1 2", "tea 2 1"]
    assert twice.applied == 2


# -- dependencies ---------------------------------------------------------------------------------------------------


async def test_a_dependency_is_another_one_in_the_block_and_from_the_start() -> None:
    shop, world_of_tea = Shop(), {"tea": 1}
    async with World(*shop.all, overrides={shelf: lambda: world_of_tea}) as world:
        assert (await world.client.call("stock.reserve", Order(sku="tea"), Reserved)).left == 0
        with world.override(shelf, lambda: {"tea": 100}):
            assert (await world.client.call("stock.reserve", Order(sku="tea"), Reserved)).left == 99
        assert (await world.client.call("stock.reserve", Order(sku="tea"), Reserved)).left == 0
    async with World(*shop.all) as world:
        assert (await world.client.call("stock.reserve", Order(sku="tea"), Reserved)).left == 9


def one() -> int:
    return 1


def name() -> str:
    return "plain"


async def test_a_dependency_of_another_kind_takes_its_place_under_middleware_and_in_threads() -> None:
    service, seen = Service("kinds", middleware=[lambda message, context, call_next: call_next(message, context)]), []

    async def fake() -> AsyncIterator[str]:
        yield "fake"
        seen.append("cleaned up")

    @service.rpc
    def greet(who: Annotated[str, Depends(name)]) -> str:
        return f"{who} in {threading.current_thread().name[:10]}"

    @service.subscribe(PLACED)
    async def hear(order: Order, who: Annotated[str, Depends(name)]) -> None:
        seen.append(who)

    async with World(service) as world:
        with world.override(name, fake):
            assert await world.client.call("kinds.greet", None, str) == "fake in eventmicro"
            await world.client.publish(PLACED, Order(sku="tea"))
            await world.idle()
        assert await world.client.call("kinds.greet", None, str) == "plain in eventmicro"
    assert seen == ["cleaned up", "fake", "cleaned up"]


class Streets:
    @rpc
    async def walk(self, start: int, step: Annotated[int, Depends(one)]) -> AsyncIterator[int]:
        for number in range(start, start + 3 * step, step):
            yield number

    @subscribe(PLACED, sticky_by="sku")
    async def stick(self, order: Order, step: Annotated[int, Depends(one)]) -> None:
        self.seen = step


async def test_streams_and_methods_fail_and_are_given_other_dependencies_too() -> None:
    service, streets = Service("streets"), Streets()
    service.add(streets)
    async with World(service) as world:
        with world.override(one, lambda: 10):
            await world.client.publish(PLACED, Order(sku="tea"))
            await world.idle()
            assert [number async for number in world.client.stream("streets.walk", 1, int)] == [1, 11, 21]
        assert streets.seen == 10
        assert [number async for number in world.client.stream("streets.walk", 1, int)] == [1, 2, 3]
        with world.fail("streets.walk", Conflict("road works")), pytest.raises(Conflict, match="road works"):
            await anext(aiter(world.client.stream("streets.walk", 1, int)))
        with world.override(one, lambda: 5), world.override(one, lambda: 7):
            assert [number async for number in world.client.stream("streets.walk", 0, int)] == [0, 7, 14]
        assert [number async for number in world.client.stream("streets.walk", 1, int)] == [1, 2, 3]


async def test_a_subscriber_that_is_started_later_is_seen_and_fails_by_its_name() -> None:
    service, seen = Service("late"), list[Order]()

    async def take(order: Order) -> None:
        seen.append(order)

    async with World(service) as world:
        running = await service.start_subscriber(PLACED, take, retry=LATER)
        await world.client.publish(PLACED, Order(sku="tea"))
        await world.idle()
        assert seen == world.published(PLACED)
        assert [each.handler for each in world.handled(PLACED)] == ["late.take"]
        assert [each.handler for each in world.handled("late.take")] == ["late.take"]
        world.fail("late.take", ValueError("no"), times=3)
        await world.client.publish(PLACED, Order(sku="salt"))
        await world.idle()
        assert [each.queue for each in world.dead("late.take")] == ["late.take"]
        async with running:
            pass


async def test_a_dependency_that_nobody_has_is_refused() -> None:
    with pytest.raises(UsageError, match="no handler depends on Shop; they depend on shelf"):
        World(*Shop().all, overrides={Shop: shelf})
    async with World(*Shop().all) as world:
        with pytest.raises(UsageError, match="no handler depends on Shop"):
            world.override(Shop, shelf)


# -- its life --------------------------------------------------------------------------------------------------------


async def test_two_worlds_at_once_know_nothing_of_each_other() -> None:
    first, second = Shop(), Shop()
    async with World(*first.all) as one, World(*second.all) as other:
        await one.client.publish(PLACED, Order(sku="tea"))
        await other.idle()
        await one.idle()
        assert (len(one.published(BILLED)), len(other.published(BILLED))) == (1, 0)
        assert [record.name for record in await other.client.services("stock")] == ["stock"]
        with pytest.raises(UsageError, match="'orders' is started already, perhaps in another world"):
            await World(first.orders).__aenter__()


async def test_two_worlds_in_two_threads() -> None:
    def run(found: list[int]) -> None:
        async def test(world: World) -> None:
            await world.client.publish(PLACED, Order(sku="tea"))
            await world.idle()
            found.append(len(world.published(BILLED)))

        World(*Shop().all).run(test)

    found: list[int] = []
    await asyncio.gather(*(asyncio.to_thread(run, found) for _ in range(2)))
    assert found == [1, 1]


async def test_a_world_has_one_life() -> None:
    world = World(*Shop().all)
    with pytest.raises(UsageError, match="has not begun: use it in its block"):
        await world.idle()
    with pytest.raises(UsageError, match="has not begun"):
        _ = world.client
    with pytest.raises(UsageError, match="run is for a test that is no coroutine"):
        world.run(World.idle)

    def no_coroutine(world: World) -> Any: ...

    with pytest.raises(UsageError, match=r"write `async def no_coroutine\(world\)`"):
        await asyncio.to_thread(World(*Shop().all).run, no_coroutine)
    async with world:
        pass
    for use in (world.idle(), world.advance(1), world.__aenter__()):
        with pytest.raises(UsageError, match=r"is over|has one life"):
            await use
    for call in (lambda: world.drop(PLACED), lambda: world.override(shelf, shelf)):
        with pytest.raises(UsageError, match="is over"):
            call()
    with pytest.raises(TransportError):
        await world.client.publish(PLACED, Order(sku="tea"))


async def test_where_one_service_fails_to_start_none_is_left_running() -> None:
    shop, entered = Shop(), []

    @shop.billing.before_start
    async def look() -> None:
        await asyncio.sleep(0)
        raise ValueError("no licence")

    @shop.stock.after_stop
    async def left() -> None:
        entered.append("left")

    with pytest.raises(ValueError, match="no licence") as failed:
        async with World(*shop.all):
            pytest.fail("it has begun")
    assert failed.value.__notes__ == ["service billing could not be started in this world"]
    for each in shop.all:
        with pytest.raises(UsageError, match="is not started"):
            _ = each.client


async def test_what_cannot_be_a_world_is_refused() -> None:
    shop = Shop()
    with pytest.raises(UsageError, match=r"is no Service: write World\(orders, stock\)"):
        World("orders")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stock: a world has one service of a name"):
        World(shop.stock, Service("stock"))
    with pytest.raises(UsageError, match="patience"):
        World(shop.stock, patience=-1)
    with pytest.raises(UsageError, match=r"broker=.* write a URL"):
        World(shop.stock, broker=MemoryBroker())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is installed"):
        World(shop.stock, broker="memry://")
    with pytest.raises(UsageError, match=r"'late' needs payments, and would wait .* such as Service\('payments'\)"):
        async with World(Service("late", needs=["payments"])):
            pytest.fail("it has begun")


async def test_services_that_need_one_another_are_started_together() -> None:
    first, second = Service("first", needs=["second"]), Service("second")
    second.rpc(name="hi")(_nothing)
    async with World(first, second) as world:
        assert await world.client.call("second.hi") is None


async def _nothing() -> None:
    return None


async def test_a_test_that_is_cancelled_leaves_nothing_behind() -> None:
    shop, begun = Shop(), asyncio.Event()

    async def test() -> None:
        async with World(*shop.all) as world:
            world.delay(PLACED, 60)
            await world.client.publish(PLACED, Order(sku="tea"))
            begun.set()
            await world.client.call("stock.count", timeout=1e9)

    running = asyncio.create_task(test())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await shop.billing.start("memory://after")  # it has stopped
    await shop.billing.stop()


async def test_a_broker_in_memory_that_is_like_kafka_carries_events_and_another_one_the_calls() -> None:
    async with World(*Shop().all, broker="memory://?like=kafka") as world:
        await world.client.call("orders.place", Order(sku="tea"), Reserved)
        await world.idle()
        assert len(world.published(BILLED)) == len(world.called("stock.reserve")) == 1


async def test_a_client_beside_it_meets_nobody() -> None:
    async with World(*Shop().all), Client("memory://") as client:
        with pytest.raises(Unavailable, match="nobody serves"):
            await client.call("stock.reserve", Order(sku="tea"), Reserved)


def test_a_plain_test_runs_in_a_world() -> None:
    async def test(world: World) -> int:
        with pytest.raises(CallTimeout):
            await world.client.call("stock.count", timeout=3600)
        return 7

    assert World(*Shop().all).run(test) == 7


async def test_an_endpoint_that_a_service_here_does_not_have_is_refused_one_of_another_service_is_not() -> None:
    async with World(*Shop().all) as world:
        assert world.called("stock.reserve") == world.called("stock.health") == world.called("pay.charge") == []
        assert world.called("stock.*") == []
        with pytest.raises(
            UsageError, match=r"'stock' has no endpoint 'stock\.resreve'; did you mean 'stock\.reserve'"
        ):
            world.called("stock.resreve")
        with pytest.raises(
            UsageError, match=r"; did you mean 'stock\.health'\?$"
        ):  # what begins alike is not near by that
            world.called("stock.helth")
        with pytest.raises(UsageError, match=r"there are billing\.health, billing\.stats"):
            world.called("billing.xxxxxxxxxx")


async def test_a_subject_that_is_nearly_a_known_one_is_refused_and_a_topic_of_it_is_not() -> None:
    async with World(*Shop().all) as world:
        assert world.published("shop.placed") == world.published("elsewhere.done") == world.published("shop.*") == []
        with pytest.raises(
            UsageError, match=r"did you mean 'shop\.placed'\? If not, write Topic\('shop\.palced', object\)"
        ):
            world.published("shop.palced")
        assert world.published(Topic("shop.palced", object)) == []
        await world.client.publish("shop.palced", {"sku": "tea"})
        assert world.published("shop.palced") == [{"sku": "tea"}]


def test_a_test_that_is_no_coroutine_is_told_how_to_write_it() -> None:
    def test(world: World) -> None:
        assert world

    with pytest.raises(UsageError, match=r"write `async def .*test\(world\)`"):
        World(Service("stock")).run(test)  # type: ignore[arg-type]
    assert World(Service("stock")).run(lambda world: asyncio.sleep(0, world.client)) is not None
