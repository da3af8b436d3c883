"""How much memory something holds."""

from __future__ import annotations

import gc
import tracemalloc

from eventmicro import Service


async def memory_of_start(service: Service) -> int:
    """What a service holds when it has started, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        await service.start()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
