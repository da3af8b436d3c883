"""Run the demo: python -m examples.quakes [--speed 50000]

Without BROKER each service is a process of its own, on an embedded NATS server. BROKER=nats://..., jetstream://...,
amqp://... or kafka://... takes that server instead. Over Kafka only the events go, while the calls go over RPC_BROKER,
or else the embedded server. BROKER=memory:// runs all services in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from eventmicro import EventMicroError, Service, Unavailable, embedded

try:
    from rich.console import Console

    from examples.quakes import ingester
    from examples.quakes.launch import in_processes, in_this_process
    from examples.quakes.models import City, Position, Replay, Rule, Totals
    from examples.quakes.summary import InFile, compare, complete, recount, to_table
    from examples.quakes.view import View
except ModuleNotFoundError as missing:
    sys.exit(f"the demo needs {missing.name}: pip install 'eventmicro[demo]'")

T = TypeVar("T")

BROKER, RPC_BROKER = "EVENTMICRO_BROKER", "EVENTMICRO_RPC_BROKER"
START_TIMEOUT = 30.0  # seconds for the services to be there
END_TIMEOUT = 20.0  # seconds without any event before the rest counts as missing

NEXT_STEPS = """
Go on from here, each line in a terminal of its own (after `. .venv/bin/activate`):
  eventmicro run examples.quakes.geo:service           [dim]starts a NATS server, which the others join[/]
  eventmicro run examples.quakes.alerter:service
  eventmicro run examples.quakes.ingester:service
  eventmicro subscribe 'quakes.>'
  eventmicro call ingester.replay '{"speed": 50000}' --timeout 60
  eventmicro call geo.nearest '{"latitude": 24.1, "longitude": 121.7}'
"""


async def when_served(service: Service, endpoint: str, request: Any, reply: type[T], timeout: float = 5) -> T:
    """Call an endpoint as soon as somebody serves it."""
    give_up = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return await service.call(endpoint, request, reply, timeout=timeout)
        except Unavailable:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.1)


async def wait_for_the_rest(expected: InFile, view: View) -> None:
    """Events may be on their way still when the replay has ended; return when all have come, or none comes any more."""
    while not complete(expected, view):
        view.moved.clear()
        try:
            await asyncio.wait_for(view.moved.wait(), END_TIMEOUT)
        except TimeoutError:
            return


async def watch(speed: float, console: Console) -> bool:
    """Replay the week, draw it, and say whether all of it has come over the bus."""
    view = View(console)
    viewer = Service("view")
    viewer.add(view)
    async with viewer:
        await when_served(viewer, "geo.nearest", Position(latitude=0, longitude=0), City)
        rule = await when_served(viewer, "alerter.rule", None, Rule)
        expected = recount(ingester.FEED, rule)
        drawing = asyncio.create_task(view.draw())
        totals = await when_served(viewer, "ingester.replay", Replay(speed=speed), Totals, timeout=3600)
        await wait_for_the_rest(expected, view)
        drawing.cancel()
        await asyncio.wait([drawing])
    rows = compare(expected, totals, view)
    console.print(to_table(rows))
    return all(row.in_file == row.on_bus for row in rows)


async def main(speed: float) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that the services are stopped too
    console = Console()
    services = in_this_process if os.environ[BROKER].startswith("memory:") else in_processes
    async with services():
        nothing_missing = await watch(speed, console)
    console.print("Nothing is missing." if nothing_missing else "[red]Something is missing or too much.")
    console.print(NEXT_STEPS, highlight=False, soft_wrap=True)
    return 0 if nothing_missing else 1


@contextmanager
def brokers() -> Iterator[None]:
    """Say in the environment, as for any service, where the events and the calls go."""
    given, for_calls = os.environ.get("BROKER"), os.environ.get("RPC_BROKER")
    if given and (for_calls or not given.startswith("kafka")):
        os.environ |= {BROKER: given} | ({RPC_BROKER: for_calls} if for_calls else {})
        yield
    else:
        with embedded.running() as url:
            os.environ |= {BROKER: given, RPC_BROKER: url} if given else {BROKER: url}
            yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.quakes", description="A week of earthquakes, live.")
    parser.add_argument("--speed", type=float, default=50_000, help="times faster than reality (default: 50000)")
    speed = parser.parse_args().speed
    try:
        with brokers():
            sys.exit(asyncio.run(main(speed)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("stopped before the end")
    except EventMicroError as error:
        sys.exit(f"the demo cannot go on: {error}")
