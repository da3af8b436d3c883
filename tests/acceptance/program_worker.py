"""A service for the acceptance tests: takes its broker from the environment, says when it serves."""

from __future__ import annotations

import asyncio
import os

from eventmicro.service import Service

service = Service("worker", stop_timeout=20.0)


@service.rpc
async def work(seconds: float) -> int:
    """Take a while, then say who did it."""
    await asyncio.sleep(seconds)
    return os.getpid()


@service.after_start
def say_ready() -> None:
    print("ready", flush=True)


if __name__ == "__main__":
    service.run()
