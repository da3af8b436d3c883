"""Run the demo: python -m examples.quakes [--speed 50000]

Without BROKER each service is a process of its own, on an embedded NATS server. BROKER=nats://... takes that server
instead; BROKER=memory:// runs them all in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import nullcontext
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


async def watch(broker: str, speed: float, console: Console) -> bool:
    """Replay the week, draw it, and say whether all of it has come over the bus."""
    view = View(console)
    viewer = Service("view", broker=broker)
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


async def main(broker: str, speed: float) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that the services are stopped too
    console = Console()
    services = in_this_process if broker.startswith("memory:") else in_processes
    async with services(broker):
        nothing_missing = await watch(broker, speed, console)
    console.print("Nothing is missing." if nothing_missing else "[red]Something is missing or too much.")
    console.print(NEXT_STEPS, highlight=False, soft_wrap=True)
    return 0 if nothing_missing else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.quakes", description="A week of earthquakes, live.")
    parser.add_argument("--speed", type=float, default=50_000, help="times faster than reality (default: 50000)")
    speed = parser.parse_args().speed
    given = os.environ.get("BROKER")
    try:
        with nullcontext(given) if given else embedded.running() as url:
            sys.exit(asyncio.run(main(url, speed)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("stopped before the end")
    except EventMicroError as error:
        sys.exit(f"the demo cannot go on: {error}")
