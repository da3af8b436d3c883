"""Reviving: a consumer that has failed is made anew, for as long as it takes; the same is not told each time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from eventmicro.errors import Disconnected, UsageError
from eventmicro_kafka.errors import KafkaError, plain

log = logging.getLogger(__name__)

# What passes when the cluster is there again.
AWAY = (Disconnected, KafkaError, OSError)  # TimeoutError is an OSError


async def made_anew(make: Callable[[], Awaitable[None]], interval: float, about: str, extra: Mapping[str, str]) -> None:
    """Return when it is made, which is tried each `interval` seconds.

    Args:
        about: whose consumer it is, for the log, with `extra`.
    """
    said = ""
    while True:
        await asyncio.sleep(interval)
        try:
            return await make()
        except AWAY as error:
            log.debug("%s: its consumer cannot be made: %s", about, plain(error))
        except UsageError as error:  # it is refused, and may be mended yet
            if str(error) != said:
                said = str(error)
                log.error("%s, trying on", error, extra=extra)
        except Exception as error:  # aiokafka's own failures among them
            if repr(error) != said:
                said = repr(error)
                log.exception("%s: its consumer cannot be made, which is tried again", about, extra=extra)
