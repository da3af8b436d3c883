"""A service with very many endpoints or subscribers, and what calls or publishes to them in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import cycle

from benchmarks.cpu import Processes
from benchmarks.load import Caller, Result, Stream
from benchmarks.messages import PROGRESS, Order, Progress, Reading, Receipt, Tally, accept
from benchmarks.scale.resident import Said, resident
from benchmarks.worker import Pids, until_input_ends
from eventmicro import Client, Service, Topic

MADE = Topic(PROGRESS, Progress)
Make = Callable[[str, int, Tally], Service]


def with_endpoints(url: str, number: int, _: Tally) -> Service:
    """A service with so many endpoints."""
    service = Service("orders", broker=url)

    async def place(order: Order) -> Receipt:
        return accept(order)

    for each in range(number):
        service.rpc(name=f"place{each}")(place)
    return service


def with_subscribers(url: str, number: int, tally: Tally) -> Service:
    """A service with so many subscribers, each to a topic of its own; all count in one tally."""
    service = Service("archive", broker=url)

    async def take(reading: Reading) -> None:
        progress = tally.count(reading)
        if progress:
            await service.publish(MADE, progress)

    for each in range(number):
        service.subscribe(topic(each), name=f"take{each}")(take)
    return service


def topic(number: int) -> Topic[Reading]:
    """The topic of one of the subscribers."""
    return Topic(f"readings.{number}", Reading)


async def serve(make: Make, url: str, number: int) -> Result:
    """Declare, start, work until the input ends, stop; what each took, and what was counted meanwhile."""
    async with make(url, 1, Tally()):
        pass  # what is made once in a process is there from now on
    said, tally, before, moments = Said(), Tally(), resident(), [time.process_time()]
    service = make(url, number, tally)
    moments.append(time.process_time())
    await service.start()
    moments.append(time.process_time())
    started = resident()
    await until_input_ends()
    worked, moment = resident(), time.process_time()
    await service.stop()
    return {
        "declare_s": moments[1] - moments[0],
        "start_s": moments[2] - moments[1],
        "stop_s": time.process_time() - moment,
        "bytes_each": (started - before) / number,
        "bytes_each_worked": (worked - before) / number,
        "said": said.lines,
        **vars(tally),
    }


async def call(url: str, number: int, seconds: float, pids: Pids) -> Result:
    """Call so many endpoints in turn."""
    names = cycle([f"orders.place{each}" for each in range(number)])
    async with Client(url) as client:
        caller = Caller(lambda order: client.call(next(names), order, Receipt))
        return await caller.measure(seconds, Processes(pids | {"client": os.getpid()}))


async def publish(url: str, number: int, seconds: float, pids: Pids) -> Result:
    """Publish to the topics of so many subscribers in turn."""
    topics, stream, station = cycle([topic(each) for each in range(number)]), Stream(), Service("station", broker=url)

    @station.subscribe(MADE)
    async def hear(progress: Progress) -> None:
        stream.hear(progress)

    async with station:
        processes = Processes(pids | {"publisher": os.getpid()})
        return await stream.measure(lambda reading: station.publish(next(topics), reading), seconds, processes)
