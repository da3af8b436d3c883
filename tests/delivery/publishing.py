"""Publishing with confirmation while a broker comes and goes; what was not confirmed is told."""

from __future__ import annotations

import asyncio

from eventmicro import Client, NotAllPublished, TransportError
from tests.delivery.bench import Bench, Number


async def publish_together(
    client: Client, bench: Bench, portion: list[Number], timeout: float | None = None
) -> dict[int, Exception]:
    """Publish events with one confirmation, waited for `timeout` seconds; why which were not confirmed, by position."""
    try:
        await client.publish_many(bench.topic, portion, timeout=timeout)
    except NotAllPublished as error:
        return error.failed
    return {}


async def publish_singly(
    client: Client, bench: Bench, portion: list[Number], timeout: float | None = None
) -> dict[int, Exception]:
    """Publish events each for itself, all at the same time; why which were not confirmed, by position."""
    publishing = (client.publish(bench.topic, event, timeout=timeout) for event in portion)
    results = await asyncio.gather(*publishing, return_exceptions=True)
    errors = {number: error for number, error in enumerate(results) if error is not None}
    failed = {number: error for number, error in errors.items() if isinstance(error, TransportError)}
    assert failed == errors, errors
    return dict(failed)
