"""What is declared fits together, and what is not declared is refused: neither ignored nor done all the same.

`persistent` and `crash_attempts` cannot be asked for through the port, and what has survived a crash once may have
been lucky: of these there is no case that wants to be refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from eventmicro.broker import Durable, PublishesAndAcks
from eventmicro.conformance.bench import Bench, Consumer, raises, until
from eventmicro.conformance.case import case
from eventmicro.errors import Unsupported
from eventmicro.events.placing import check_places
from eventmicro.message import Message
from eventmicro.places import Exchange, Place, Queue

# What makes no sense alone: a capability and those that it rests on.
RESTS_ON = {
    "no_responders": ["request_reply"],
    "persistent": ["durable"],
    "crash_attempts": ["durable"],
    "ordered": ["durable", "ordered_keys"],  # who keeps the order of all keeps that of each key
    "ordered_keys": ["durable"],
    "replay": ["durable"],
    "dedupe": ["durable"],
    "transactions": ["durable"],
}


@case()
async def what_is_declared_fits_together(bench: Bench) -> None:
    capabilities = bench.make_broker().capabilities
    for name, others in RESTS_ON.items():
        missing = [other for other in others if not getattr(capabilities, other)]
        assert not (getattr(capabilities, name) and missing), f"{name} is declared and {missing} is not"


@case("durable")
async def what_cannot_be_asked_for_is_described(bench: Bench) -> None:
    capabilities = bench.make_broker().capabilities
    silent = [name for name in ("order", "delay", "attempts", "twice", "stored") if not getattr(capabilities, name)]
    assert not silent, f"declared durable, and says nothing on {silent}"


@case(lacks=["request_reply"])
async def calls_are_refused(bench: Bench) -> None:
    broker = await bench.broker()
    await raises(Unsupported, broker.send(Message(bench.subject, reply=f"{bench.subject}.reply")))
    await raises(Unsupported, _inbox(bench))


@case("request_reply", lacks=["no_responders"])
async def a_request_that_nobody_takes_stays_unanswered(bench: Bench) -> None:
    broker = await bench.broker()
    inbox = broker.inbox()
    replies = await bench.listen(f"{inbox}.*", broker=broker)
    await broker.send(Message(bench.subject, reply=f"{inbox}.1"))
    await broker.send(Message(f"{inbox}.2", b"marker"))
    await until(lambda: b"marker" in replies.bodies)
    assert replies.bodies == [b"marker"], "what nobody took was answered, and no_responders is not declared"


@case(lacks=["queue_groups"])
async def queues_of_live_subscriptions_are_refused(bench: Bench) -> None:
    broker = await bench.broker()
    await raises(Unsupported, broker.subscribe(bench.subject, Consumer(broker), queue=bench.queue))


@case(lacks=["broadcast"])
async def subscriptions_without_a_queue_are_refused(bench: Bench) -> None:
    broker = await bench.broker()
    await raises(Unsupported, broker.subscribe(bench.subject, Consumer(broker)))


@case("broadcast", lacks=["wildcards"])
async def wildcards_are_refused(bench: Bench) -> None:
    broker = await bench.broker()
    for pattern in ("*", ">", "*.placed"):
        await raises(Unsupported, broker.subscribe(f"{bench.subject}.{pattern}", Consumer(broker)))


@case("durable", lacks=["wildcards"])
async def queues_with_wildcards_are_refused(bench: Bench) -> None:
    for pattern in ("*", ">", "*.placed"):
        await raises(Unsupported, bench.work(subject=f"{bench.subject}.{pattern}"))


@case(lacks=["durable"])
async def durable_queues_are_refused(bench: Bench) -> None:
    for durable in (Durable(), Durable(ordered=True), Durable(dedupe=60.0), Durable(start="all")):
        broker = await bench.broker()
        await raises(Unsupported, broker.subscribe(bench.subject, Consumer(broker), queue=bench.queue, durable=durable))


@case("durable", lacks=["ordered", "ordered_keys"])
async def ordered_queues_are_refused(bench: Bench) -> None:
    await raises(Unsupported, bench.work(ordered=True))


@case("durable", lacks=["replay"])
async def a_start_in_the_past_is_refused(bench: Bench) -> None:
    await raises(Unsupported, bench.work(start="all"))
    await raises(Unsupported, bench.work(start=datetime.now(UTC)))
    await bench.all_arrive([], await bench.work())


@case("durable", lacks=["dedupe"])
async def deduplication_is_refused(bench: Bench) -> None:
    await raises(Unsupported, bench.work(dedupe=60.0))
    worker = await bench.work()
    await (await bench.publisher()).publish_many([Message(bench.subject, b"same", id="same")] * 2)
    await bench.all_arrive([b"same", b"same"], worker)


@case("durable", lacks=["transactions"])
async def transactions_are_refused(bench: Bench) -> None:
    assert not isinstance(bench.make_broker(), PublishesAndAcks), "it has publish_and_ack, which is not declared"
    await raises(Unsupported, bench.work(transactional=True))


@case()
async def places_of_another_broker_are_refused(bench: Bench) -> None:
    broker = bench.make_broker()
    for place in (ExchangeElsewhere(), QueueElsewhere()):
        try:
            check_places(bench.subject, broker, place)
        except Unsupported:
            continue
        raise AssertionError(f"{place.name} is none of its own, and it says in `places` that it knows it")


class PlaceElsewhere(Place):
    """What no broker knows."""

    product: ClassVar[str] = "nobody"
    name = "elsewhere"


class ExchangeElsewhere(PlaceElsewhere, Exchange):
    """An exchange that is nowhere."""


class QueueElsewhere(PlaceElsewhere, Queue):
    """A queue that is nowhere."""


async def _inbox(bench: Bench) -> str:
    return (await bench.broker()).inbox()
