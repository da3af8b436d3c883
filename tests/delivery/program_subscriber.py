"""A subscriber in a process of its own, that a test may kill: prints a line for each event that it begins and ends.

Arguments: the broker's URL, the name of the bench, what it does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from eventmicro import Batch, Context, Retry, Service
from tests.delivery.bench import Bench, Number

url, name, mode = sys.argv[1:]
bench = Bench(url, name)
service = Service(name, broker=url)


async def see(event: Number, context: Context) -> None:
    """Hang for ever at multiples of ten."""
    print(f"began {event.value} {context.attempt}", flush=True)
    if event.value % 10 == 9:
        await asyncio.Event().wait()
    print(f"ended {event.value}", flush=True)


async def see_batch(events: list[Number]) -> None:
    """Hang for ever in the fourth batch."""
    if any(event.value >= 30 for event in events):
        print("in mid-batch", flush=True)
        await asyncio.Event().wait()
    print("ended", *(event.value for event in events), flush=True)


async def die(event: Number, context: Context) -> None:
    """Take the process along at 13."""
    print(f"began {event.value} {context.attempt}", flush=True)
    if event.value == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"ended {event.value}", flush=True)


async def count(event: Number) -> None:
    """Write down what was handled."""
    os.write(handled, b"%d\n" % event.value)


if mode == "hang":
    service.subscribe(bench.topic, name="see", concurrency=8)(see)
elif mode == "batch":
    service.subscribe(bench.topic, name="see", batch=Batch(10, 0.2))(see_batch)
elif mode == "die":
    service.subscribe(bench.topic, name="see", retry=Retry(attempts=1), prefetch=1)(die)
else:
    handled = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND)
    service.subscribe(bench.topic, name="see", concurrency=8)(count)


@service.after_start
def say_ready() -> None:
    print("ready", flush=True)


service.run()
