"""States: what a broker says of its queues is so, and asking makes none; where it is one that `TellsQueues`."""

from __future__ import annotations

import asyncio

from eventmicro.broker import QueueState, TellsQueues
from eventmicro.conformance.bench import Bench, hold
from eventmicro.conformance.case import case

# How often a broker is asked again that takes a moment to count, in seconds.
LOOK_INTERVAL = 0.05


@case("durable")
async def a_queue_is_told_with_what_waits_in_it(bench: Bench) -> None:
    broker = await bench.publisher()
    if not isinstance(broker, TellsQueues):
        return
    worker = await bench.work()
    await worker.close()
    await bench.publish(5)
    await _until_left(broker, bench, 5)
    holding = await bench.work(settle=hold)
    await holding.wait_for(5)
    state = await _state(broker, bench)
    assert state.unsettled in (None, 5), f"5 are with a consumer, and it says {state}"
    await holding.close()
    await _until_left(broker, bench, 5)
    working = await bench.work()
    await working.wait_for(5)
    await working.close()
    await _until_left(broker, bench, 0)


@case("durable")
async def asking_for_a_queue_makes_none(bench: Bench) -> None:
    broker = await bench.publisher()
    if not isinstance(broker, TellsQueues):
        return
    for subject in (None, bench.subject, bench.subject):
        assert await broker.queue_state(bench.queue, subject=subject) is None


@case("durable")
async def queues_are_listed_by_name_or_not_at_all(bench: Bench) -> None:
    broker = await bench.publisher()
    if not isinstance(broker, TellsQueues):
        return
    await (await bench.work()).close()
    states = await broker.queue_states()
    if states is not None:
        names = [state.queue for state in states]
        assert names == sorted(names)
        assert names.count(bench.queue) == 1


async def _state(broker: TellsQueues, bench: Bench) -> QueueState:
    state = await broker.queue_state(bench.queue, subject=bench.subject)
    assert state is not None, f"there is a queue {bench.queue}, and it says that there is none"
    return state


async def _until_left(broker: TellsQueues, bench: Bench, count: int) -> None:
    """Return when it says that so many are not settled; the case's own bound ends what never is."""
    while True:
        state = await _state(broker, bench)
        assert state.queue == bench.queue
        if state.waiting is None or state.waiting + (state.unsettled or 0) == count:
            return
        await asyncio.sleep(LOOK_INTERVAL)
