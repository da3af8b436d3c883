"""Transactions: what is published with an acknowledgement holds with it, and neither does without the other."""

from __future__ import annotations

import asyncio
from typing import cast

from eventmicro.broker import Broker, PublishesAndAcks
from eventmicro.conformance.bench import QUIET, Bench, hold, raises
from eventmicro.conformance.case import case
from eventmicro.conformance.publishing import TOO_LARGE
from eventmicro.errors import Disconnected, MessageTooLarge, UsageError
from eventmicro.message import Delivery, Message


@case("transactions")
async def what_is_published_with_an_acknowledgement_comes_once(bench: Bench) -> None:
    """Several at the same time; when the call has returned its event is settled, whatever becomes of the process."""
    broker, out = await bench.broker(), f"{bench.subject}.out"
    outcomes = await bench.work(f"{out}.q", subject=out)

    async def pass_on(delivery: Delivery) -> None:
        await _publish_and_ack(broker, [Message(out, b"out " + delivery.body, key=delivery.key)], delivery)
        await delivery.nack()  # it is settled

    worker = await bench.work(settle=pass_on, broker=broker, transactional=True)
    sent = await bench.publish(200)
    await bench.all_arrive([b"out " + body for body in sent], outcomes)
    await bench.all_arrive(sent, worker)
    await worker.close()
    after = await bench.work(transactional=True)
    await bench.all_arrive(await bench.publish([b"after"]), after)


@case("transactions")
async def several_are_published_and_acknowledged_together(bench: Bench) -> None:
    broker, out = await bench.broker(), f"{bench.subject}.out"
    outcomes = await bench.work(f"{out}.q", subject=out)
    worker = await bench.work(settle=hold, broker=broker, transactional=True)
    await bench.publish(5)
    await worker.wait_for(5)
    await _publish_and_ack(broker, [Message(out, b"%d" % number, key="key") for number in range(3)], *worker.deliveries)
    await bench.all_arrive([b"0", b"1", b"2"], outcomes)
    assert outcomes.bodies == [b"0", b"1", b"2"], "they were published in this order"
    await worker.close()
    await bench.all_arrive(await bench.publish([b"after"]), await bench.work(transactional=True))


@case("transactions")
async def where_one_is_refused_nothing_is_done(bench: Bench) -> None:
    broker, out = await bench.broker(), f"{bench.subject}.out"
    outcomes = await bench.work(f"{out}.q", subject=out)
    worker = await bench.work(settle=hold, broker=broker, transactional=True)
    await bench.publish(1)
    await worker.wait_for(1)
    messages = [Message(out, b"small", key="key"), Message(out, bytes(TOO_LARGE), key="key")]
    await raises(MessageTooLarge, _publish_and_ack(broker, messages, worker.deliveries[0]))
    await worker.deliveries[0].nack()
    await worker.wait_for(2)
    assert worker.deliveries[1].attempt == 2
    await asyncio.sleep(QUIET)
    assert outcomes.bodies == [], "it was published with one that was refused"
    await _publish_and_ack(broker, messages[:1], worker.deliveries[1])
    await bench.all_arrive([b"small"], outcomes)


@case("transactions")
async def what_is_handled_elsewhere_by_now_is_not_published(bench: Bench) -> None:
    broker, out = await bench.broker(), f"{bench.subject}.out"
    outcomes = await bench.work(f"{out}.q", subject=out)
    late = await bench.work(settle=hold, broker=broker, transactional=True)
    sent = await bench.publish(3)
    await late.wait_for(3)
    await broker.close()
    await broker.connect()
    again = await bench.work(settle=hold, transactional=True)
    await again.wait_for(3)
    await _publish_and_ack(broker, [Message(out, b"late", key="key")], *late.deliveries)
    await _publish_and_ack(again.broker, [Message(out, b"in time", key="key")], *again.deliveries)
    await bench.all_arrive([b"in time"], outcomes)
    await bench.all_arrive(sent, again)


@case("transactions")
async def only_events_of_a_transactional_queue_are_acknowledged_so(bench: Bench) -> None:
    """Unless every queue is one."""
    broker, out = await bench.broker(), f"{bench.subject}.out"
    outcomes = await bench.work(f"{out}.q", subject=out)
    worker = await bench.work(settle=hold, broker=broker)
    await bench.publish(1)
    await worker.wait_for(1)
    try:
        await _publish_and_ack(broker, [Message(out, b"out", key="key")], worker.deliveries[0])
    except UsageError:
        await bench.all_arrive([], outcomes)
        await worker.deliveries[0].nack()
        await worker.wait_for(2)
    else:
        await bench.all_arrive([b"out"], outcomes)
    await raises((UsageError, Disconnected), _publish_and_ack(broker, [Message(out, b"none")], Delivery(bench.subject)))


async def _publish_and_ack(broker: Broker, messages: list[Message], *deliveries: Delivery) -> None:
    assert isinstance(broker, PublishesAndAcks), "it declares transactions, and has no publish_and_ack"
    await cast("PublishesAndAcks", broker).publish_and_ack(messages, deliveries)
