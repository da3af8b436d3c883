"""The server is killed, or stopped in order, and started again: all goes on by itself, and nothing kept is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from eventmicro.broker import Broker, CountsReconnects
from eventmicro.conformance.bench import QUIET, Bench, Consumer, hold, numbered, raises, until
from eventmicro.conformance.case import case
from eventmicro.errors import Disconnected, NotStored, TransportError, Unconfirmed
from eventmicro.message import Message

# How long a case may take in which servers start, in seconds, and what must be bounded while none is there.
SECONDS = 180.0
BOUND = 30.0


@case("durable", "persistent", restarts=True, seconds=SECONDS)
async def what_was_published_survives_a_kill(bench: Bench) -> None:
    worker = await bench.work()
    await worker.close()
    sent = await bench.publish(100)
    async with bench.server_away():
        pass
    await bench.all_arrive(sent, await bench.work(), twice=True)


@case("durable", "persistent", restarts=True, seconds=SECONDS)
async def publishers_and_consumers_go_on_after_restarts(bench: Bench) -> None:
    """Watermill 15: a hundred publishers of 10000 events in all, the broker ended at a third and at half of them.

    One consumer, from before to after, gets each event whose publish has returned; what was sent and not confirmed
    was published again, and counts where it comes twice.
    """
    worker, brokers = await bench.work(), [await bench.broker() for _ in range(5)]
    accepted: list[bytes] = []
    sent = numbered(10_000)

    async def publish(number: int) -> None:
        for body in sent[number::100]:
            await _publish_until_accepted(brokers[number % 5], Message(bench.subject, body, key=str(number)))
            accepted.append(body)

    publishing = [bench.start(publish(number)) for number in range(100)]
    for count, in_order in ((3333, True), (5000, False)):
        await until(lambda: len(accepted) >= count)  # noqa: B023
        async with bench.server_away(in_order=in_order):
            await asyncio.sleep(QUIET)
    await asyncio.gather(*publishing)
    await bench.all_arrive(sent, worker, twice=True)


@case("durable", "persistent", restarts=True, seconds=SECONDS)
async def what_was_settled_stays_so_and_what_was_not_comes_again(bench: Bench) -> None:
    """What is settled before close may come again after a kill that follows at once; then it is counted."""
    worker = await bench.work(settle=hold)
    sent = await bench.publish(100)
    await worker.wait_for(100)
    for delivery in worker.deliveries[:50]:
        await delivery.ack()
    await worker.close()
    async with bench.server_away():
        pass
    after = await bench.work()
    await until(lambda: set(sent[50:]) <= set(after.bodies))
    bench.account(sent, worker.bodies[:50] + after.bodies, twice=True)


@case("durable", "persistent", restarts=True, seconds=SECONDS)
async def what_a_consumer_holds_over_a_kill_is_not_lost(bench: Bench) -> None:
    """It may come again, or be settled still where the broker keeps leases; settling it meanwhile fails in no case."""
    worker = await bench.work(settle=hold, prefetch=10)
    sent = await bench.publish(10)
    await worker.wait_for(10)
    async with bench.server_away():
        await worker.deliveries[0].ack()
        await worker.deliveries[1].nack()
    await _flush_at_last(worker.broker)
    await worker.close()
    after = await bench.work()
    await until(lambda: set(sent[1:]) <= set(after.bodies))


@case("durable", "persistent", restarts=True, seconds=SECONDS)
async def publish_waits_for_a_server_that_comes_back(bench: Bench) -> None:
    worker, publisher = await bench.work(), await bench.publisher()
    async with bench.server_away():
        await until(lambda: not publisher.online)
        publishing = bench.start(publisher.publish(Message(bench.subject, b"kept"), timeout=SECONDS))
        batch = [Message(bench.subject, body) for body in numbered(10)]
        many = bench.start(publisher.publish_many(batch, timeout=SECONDS))
        await asyncio.sleep(0.5)
        assert not publishing.done()
    await asyncio.gather(publishing, many)
    await bench.all_arrive([b"kept", *numbered(10)], worker)


@case(restarts=True, seconds=SECONDS)
async def a_lost_connection_is_seen_and_made_again(bench: Bench) -> None:
    broker = await bench.broker()
    for times, in_order in enumerate((False, True), 1):
        async with bench.server_away(in_order=in_order):
            await until(lambda: not broker.online)
            assert broker.connected
        await until(lambda: broker.online)
        await _flush_at_last(broker)
        await until(lambda: _reconnects(broker, times) >= times)  # noqa: B023


@case(restarts=True, seconds=SECONDS)
async def without_a_server_everything_ends_in_time(bench: Bench) -> None:
    publisher, closed = await bench.broker(), await bench.broker()
    async with bench.server_away():
        await until(lambda: not publisher.online)
        async with asyncio.timeout(BOUND):
            await raises((Disconnected, Unconfirmed), publisher.publish(Message(bench.subject), timeout=0.5))
            await raises(TransportError, publisher.publish_many([Message(bench.subject)] * 3, timeout=0.5))
            await raises(Disconnected, publisher.flush())
            await asyncio.gather(closed.close(), closed.close())
    await _flush_at_last(publisher)


@case("broadcast", restarts=True, seconds=SECONDS)
async def live_subscriptions_are_taken_up_again(bench: Bench) -> None:
    """What is published while the server was away is not for them; what comes afterwards is."""
    listener = await bench.listen()
    for round_, in_order in enumerate((False, True)):
        async with bench.server_away(in_order=in_order):
            await until(lambda: not listener.broker.online)
        await _flush_at_last(listener.broker)
        await _flush_at_last(await bench.publisher())
        await bench.publish([b"%d" % round_])
        await until(lambda: b"%d" % round_ in listener.bodies)  # noqa: B023
        assert not listener.subscription.ended


@case("broadcast", restarts=True, seconds=SECONDS)
async def a_live_subscription_drains_without_a_server(bench: Bench) -> None:
    listener = await bench.listen()
    sent = await bench.publish(10)
    await listener.wait_for(10)
    async with bench.server_away():
        async with asyncio.timeout(BOUND):
            await listener.subscription.drain()
            await listener.broker.close()
    assert listener.bodies == sent


@case("durable", restarts=True, seconds=SECONDS)
async def a_durable_subscription_ends_without_a_server(bench: Bench) -> None:
    worker: Consumer = await bench.work(settle=hold)
    await bench.publish(10)
    await worker.wait_for(10)
    async with bench.server_away():
        async with asyncio.timeout(BOUND):
            await worker.deliveries[0].ack()
            await worker.subscription.drain()
            await asyncio.gather(worker.broker.close(), worker.broker.close())
    assert not worker.broker.connected


async def _publish_until_accepted(broker: Broker, message: Message) -> None:
    while True:
        with suppress(Disconnected, Unconfirmed, NotStored):
            return await broker.publish(message, timeout=5.0)
        await asyncio.sleep(0.05)


async def _flush_at_last(broker: Broker) -> None:
    while True:
        with suppress(Disconnected):
            return await broker.flush()
        await asyncio.sleep(0.05)


@case("request_reply", "no_responders", "queue_groups", restarts=True, seconds=SECONDS)
async def calls_go_on_after_a_kill(bench: Bench) -> None:
    """By those who were there before: what was on its way is lost, and no answer comes to another call."""
    server, client = await bench.broker(), await bench.broker()
    answering = Consumer(server, lambda request: server.send(Message(request.reply, request.body)))
    await server.subscribe(bench.subject, answering, queue="q")
    await server.flush()
    inbox = client.inbox()
    replies = await bench.listen(f"{inbox}.>", broker=client)
    await client.send(Message(bench.subject, b"before", reply=f"{inbox}.before"))
    await replies.wait_for(1)
    async with bench.server_away():
        pass
    await _flush_at_last(server)
    await _flush_at_last(client)
    for number in range(100):
        await client.send(Message(bench.subject, b"%d" % number, reply=f"{inbox}.{number}"))
    await client.send(Message(f"{bench.subject}.nobody", reply=f"{inbox}.nobody"))
    await replies.wait_for(102)
    await answering.settled()
    got = {delivery.subject.removeprefix(f"{inbox}."): delivery.body for delivery in replies.deliveries}
    assert got == {"before": b"before", "nobody": b""} | {str(n): b"%d" % n for n in range(100)}


def _reconnects(broker: Broker, otherwise: int) -> int:
    """How often its connection was made again; a broker that does not count is taken to have counted right."""
    return broker.reconnects if isinstance(broker, CountsReconnects) else otherwise
