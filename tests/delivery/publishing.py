"""Publishing with confirmation while a broker comes and goes; what was not confirmed is told."""

from __future__ import annotations

import asyncio

from eventmicro import Client, NotAllPublished, TransportError
from tests.delivery.bench import Bench, Number


async def publish_together(
    client: Client, bench: Bench, portion: list[Number], timeout: float | None = None
) -> list[Number]:
    """Publish events with one confirmation, waited for `timeout` seconds; those that were not confirmed."""
    try:
        await client.publish_many(bench.topic, portion, timeout=timeout)
    except NotAllPublished as error:
        return [portion[number] for number in sorted(error.failed)]
    return []


async def publish_singly(
    client: Client, bench: Bench, portion: list[Number], timeout: float | None = None
) -> list[Number]:
    """Publish events each for itself, all at the same time; those that were not confirmed."""
    publishing = (client.publish(bench.topic, event, timeout=timeout) for event in portion)
    errors = await asyncio.gather(*publishing, return_exceptions=True)
    assert all(error is None or isinstance(error, TransportError) for error in errors), errors
    return [event for event, error in zip(portion, errors, strict=True) if error is not None]
