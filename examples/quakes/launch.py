"""How the services come to run: each in a process of its own, or all in this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from examples.quakes import alerter, geo, ingester

CHECKOUT = Path(__file__).parents[2]
STOP_TIMEOUT = 15.0  # seconds


@asynccontextmanager
async def in_processes() -> AsyncIterator[None]:
    """Each service in a process of its own, as `python -m examples.quakes.geo`."""
    environment = {"EVENTMICRO_LOG_LEVEL": "warning"} | os.environ
    async with AsyncExitStack() as undo:
        for name in ("geo", "alerter", "ingester"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"examples.quakes.{name}", cwd=CHECKOUT, env=environment, start_new_session=True
            )
            undo.push_async_callback(terminate, process)
        yield


async def terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def in_this_process() -> AsyncIterator[None]:
    async with AsyncExitStack() as undo:
        for service in (geo.service, alerter.service, ingester.service):
            await service.start()
            undo.push_async_callback(service.stop)
        yield
