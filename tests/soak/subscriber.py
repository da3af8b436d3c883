"""A service in a process of its own, which may be killed and frozen; it notes what it has handled.

Arguments: the broker's URL, the name of the bench, the file of its notes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from eventmicro import Context, Reject, Retry, Service
from tests.delivery.bench import Bench, Number
from tests.soak.subscribers import QUEUES, READY

url, name, file = sys.argv[1:]
service = Service(name, broker=url)
notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def handle(queue: str, event: Number, context: Context) -> None:
    """Wait now and then, fail, and refuse, so that something of each is under way when something breaks."""
    if event.value % 20 == 0:
        await asyncio.sleep(0.002)
    if event.value % 100 == 7 and context.attempt <= 2:
        raise ValueError("not yet")
    if event.value % 1000 == 13:
        raise Reject("never")
    os.write(notes, b"%s %d %.6f\n" % (queue.encode(), event.value, time.monotonic()))


def subscribe(queue: str, order_by: str | None) -> None:
    retry = Retry(attempts=5, backoff=0.2)

    @service.subscribe(Bench(url, name).topic, name=queue, retry=retry, order_by=order_by, concurrency=8)
    async def take(event: Number, context: Context) -> None:
        await handle(queue, event, context)


@service.after_start
def say_ready() -> None:
    Path(READY.format(pid=os.getpid())).touch()


for queue, order_by in QUEUES.items():
    subscribe(queue, order_by)
service.run()
