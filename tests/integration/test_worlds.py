"""The same test in a world on each real broker: what is seen, faults, retries, calls, and two that do not meet."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_rabbitmq import RabbitQueue
from pydantic import BaseModel

from eventmicro import CallTimeout, Conflict, Retry, Service, Topic, Unavailable, UsageError
from eventmicro.testing import StillBusy, World
from tests.conftest import Until

BROKERS = ["nats", "jetstream", "rabbitmq", "kafka"]
SOON = Retry(attempts=2, backoff=0.01, jitter=0.0)


class Order(BaseModel):
    sku: str


class Reserved(BaseModel):
    sku: str


PLACED = Topic("worlds.placed", Order, key="sku")
RESERVED = Topic("worlds.reserved", Reserved)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return f"{url}?new_queue_wait=0" if request.param == "rabbitmq" else url


def services(*, durable: bool) -> tuple[Service, Service]:
    stock, orders = Service("stock"), Service("orders")

    @stock.rpc
    async def reserve(order: Order) -> Reserved:
        if order.sku == "gold":
            raise Conflict("no gold left")
        return Reserved(sku=order.sku)

    async def take(order: Order) -> None:
        await orders.publish(RESERVED, await orders.call("stock.reserve", order, Reserved))

    orders.subscribe(PLACED, retry=SOON)(take) if durable else orders.subscribe(PLACED)(take)
    return stock, orders


@pytest.mark.timeout_seconds(90)
async def test_a_test_of_several_services_runs_on_a_real_broker(broker: str) -> None:
    durable = not broker.startswith("nats:")
    async with World(*services(durable=durable), broker=broker) as world:
        world.fail("stock.reserve", Unavailable("busy"), times=1)
        await world.client.publish(PLACED, Order(sku="tea"))
        await world.idle()
        await world.client.publish(PLACED, Order(sku="salt"))
        await world.idle()
        assert world.published(RESERVED) == [Reserved(sku=sku) for sku in (["tea", "salt"] if durable else ["salt"])]
        assert [(each.value.sku, each.outcome) for each in world.handled("orders.take")] == [
            ("tea", "failed"),
            *([("tea", "done")] if durable else []),
            ("salt", "done"),
        ]
        assert [each.subject for each in world.handled(PLACED)][-1] == "worlds.placed"
        if durable:
            await world.client.publish(PLACED, Order(sku="gold"))
            await world.idle()
            [dead] = world.dead(PLACED)
            assert (dead.value, dead.subject, dead.queue, dead.attempts) == (
                Order(sku="gold"),
                "worlds.placed",
                "orders.take",
                1,  # a Conflict is none that a second attempt would mend
            )
        with pytest.raises(UsageError, match=r"time is real over \w+:// and cannot be advanced"):
            await world.advance(1)


@pytest.mark.timeout_seconds(90)
async def test_two_worlds_on_one_server_do_not_meet(broker: str) -> None:
    durable = not broker.startswith("nats:")
    one, other = (World(*services(durable=durable), broker=broker) for _ in range(2))
    async with one, other:
        with one.duplicate(PLACED), other.drop(PLACED):
            await asyncio.gather(*(each.client.publish(PLACED, Order(sku="tea")) for each in (one, other)))
            await asyncio.gather(one.idle(), other.idle())
        assert (len(one.published(RESERVED)), len(other.published(RESERVED))) == (2, 0)
        [record] = await other.client.services("stock")
        assert len(record.nodes) == 1


@pytest.mark.timeout_seconds(60)
async def test_a_place_of_the_brokers_own_keeps_its_name(rabbitmq_url: str) -> None:
    stock, seen = Service("stock"), list[Order]()

    @stock.subscribe(PLACED, queue=RabbitQueue("worlds-own"), retry=SOON)
    async def take(order: Order) -> None:
        seen.append(order)

    async with World(stock, broker=rabbitmq_url) as world:
        world.fail("stock.take", ValueError("no"), times=1)
        await world.client.publish(PLACED, Order(sku="tea"))
        await world.idle()
        assert seen == [Order(sku="tea")]
        assert [each.attempt for each in world.handled("stock.take")] == [1, 2]


@pytest.mark.timeout_seconds(60)
async def test_who_is_busy_is_named_and_a_lost_request_is_too_late(nats_url: str, until: Until) -> None:
    busy, go_on = Service("busy"), asyncio.Event()

    @busy.rpc
    async def wait() -> None:
        await go_on.wait()

    async with World(busy, broker=nats_url) as world:
        waiting = asyncio.create_task(world.client.call("busy.wait"))
        await until(lambda: world.handled("busy.wait"))
        with pytest.raises(StillBusy, match=r"after 0\.1 s:\n  busy\.wait: 1 being handled, at .*test_worlds\.py"):
            await world.idle(within=0.1)
        go_on.set()
        await world.idle()
        assert waiting.done()
        with world.drop("busy.wait"), pytest.raises(CallTimeout):
            await world.client.call("busy.wait", timeout=0.05)
