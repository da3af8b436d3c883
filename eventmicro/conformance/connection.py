"""The connection: opened and closed as often as one likes, at the same time too."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from eventmicro.conformance.bench import Bench, cancel_at_once, numbered, raises, stuck, until
from eventmicro.conformance.case import case
from eventmicro.errors import Disconnected
from eventmicro.message import Delivery, Message


@case()
async def connect_and_close_may_be_called_twice(bench: Bench) -> None:
    broker = bench.make_broker()
    assert not broker.connected
    for _ in range(2):
        await broker.connect()
        assert broker.connected
        assert broker.online
    for _ in range(2):
        await broker.close()
        assert not broker.connected


@case()
async def many_connect_and_close_at_once(bench: Bench) -> None:
    broker = bench.make_broker()
    await asyncio.gather(*(broker.connect() for _ in range(5)))
    assert broker.connected
    await asyncio.gather(*(broker.close() for _ in range(5)))
    assert not broker.connected
    await asyncio.gather(broker.connect(), broker.close(), return_exceptions=True)
    await broker.close()
    assert not broker.connected
    await broker.connect()
    await broker.flush()
    await broker.close()


@case()
async def a_connect_that_is_cancelled_leaves_nothing_open(bench: Bench) -> None:
    broker = bench.make_broker()
    connecting = bench.start(broker.connect())
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])
    await broker.connect()
    await broker.flush()
    await broker.close()
    assert not broker.connected


@case()
async def a_closed_broker_takes_nothing(bench: Bench) -> None:
    never, closed = bench.make_broker(), await bench.broker()
    await closed.close()
    for broker in (never, closed):
        await raises(Disconnected, broker.publish(Message(bench.subject)))
        await raises(Disconnected, broker.flush())


@case()
async def what_is_used_from_another_event_loop_refuses_at_once(bench: Bench) -> None:
    """It would be waited for without end, as what it waits for happens in its own."""
    broker = await bench.broker()
    listener = await bench.listen(broker=broker) if broker.capabilities.broadcast else None
    message = Message(bench.subject, b"from another loop")

    async def use() -> list[str]:
        uses = [
            broker.connect(),
            broker.publish(message),
            broker.publish_many([message]),
            broker.subscribe(bench.subject, lambda delivery: None),
            broker.flush(),
            broker.close(),
        ]
        if broker.capabilities.request_reply:
            uses.append(broker.send(message))
        async with asyncio.timeout(10):
            return [type(await _failure(each)).__name__ for each in uses]

    said = await asyncio.to_thread(asyncio.run, use())
    assert set(said) == {"UsageError"}, said
    sent = await bench.publish(1)
    await broker.flush()
    if listener is not None:
        await bench.all_arrive(sent, listener)


async def _failure(using: Coroutine[Any, Any, Any]) -> BaseException | None:
    try:
        await using
    except Exception as error:
        return error
    return None


@case("broadcast")
async def a_closed_broker_can_be_connected_again_without_its_subscriptions(bench: Bench) -> None:
    before = await bench.listen()
    await before.broker.close()
    await raises(Disconnected, before.broker.subscribe(bench.subject, before))
    await before.broker.connect()
    after = await bench.listen(broker=before.broker)
    await bench.all_arrive(await bench.publish(3), after)
    assert before.bodies == []


@case("durable")
async def a_closed_broker_can_be_connected_again_and_take_its_queue_up(bench: Bench) -> None:
    before = await bench.work()
    await before.close()
    sent = await bench.publish(10)
    await before.broker.connect()
    after = await bench.work(broker=before.broker)
    await bench.all_arrive(sent, after)
    assert before.bodies == []


@case("broadcast")
async def close_sends_what_was_published(bench: Bench) -> None:
    """Watermill 10: publishers that close when they have published."""
    listener = await bench.listen()
    sent = await bench.publish(1000)
    await (await bench.publisher()).close()
    await bench.all_arrive(sent, listener)


@case()
async def what_is_cancelled_leaves_the_broker_usable(bench: Bench) -> None:
    broker = await bench.broker()
    message = Message(bench.subject, b"cancelled")
    for turns in range(3):
        tasks = [
            asyncio.create_task(broker.flush()),
            asyncio.create_task(broker.publish(message)),
            asyncio.create_task(broker.publish_many([message] * 10)),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await broker.flush()
    assert broker.connected


@case("broadcast")
async def a_drain_that_is_cancelled_leaves_the_broker_usable(bench: Bench) -> None:
    taken: list[Delivery] = []
    broker = await bench.broker()
    subscription = await broker.subscribe(bench.subject, stuck(taken))
    other = await bench.listen(broker=broker)
    await bench.publish(5)
    await until(lambda: taken)
    draining = bench.start(subscription.drain())
    await asyncio.sleep(0.05)
    draining.cancel()
    await asyncio.wait([draining])
    assert subscription.ended
    await bench.publish([b"after"])
    await until(lambda: b"after" in other.bodies)
    assert len(taken) == 1


@case("durable")
async def a_durable_drain_that_is_cancelled_leaves_its_events_to_the_others(bench: Bench) -> None:
    """It is cancelled as soon as it has begun, as by a service that gives its stop no time at all."""
    taken: list[Delivery] = []
    leaving = await bench.work(receive=stuck(taken))
    sent = numbered(20)
    # many keys: where partitions are given to instances, some are with the one that leaves
    await (await bench.publisher()).publish_many([Message(bench.subject, body, key=body.decode()) for body in sent])
    await until(lambda: taken)
    await cancel_at_once(bench, leaving.subscription)
    await taken[0].ack()
    others = await bench.work()
    await bench.all_arrive([body for body in sent if body != taken[0].body], others)
    assert len(taken) == 1
