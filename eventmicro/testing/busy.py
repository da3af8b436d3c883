"""Busy: what a world has still to do, in words; nothing where it is idle."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING

from eventmicro.client import Client
from eventmicro.errors import TransportError
from eventmicro.events.batches import BatchSubscriber
from eventmicro.rpc.endpoint import Endpoint
from eventmicro.running.hanging import frames_of, where
from eventmicro.testing.wire import Wire

if TYPE_CHECKING:
    from eventmicro.service import Service


class StillBusy(AssertionError):
    """A world was to be idle, and is not.

    busy: what it still has to do.
    """

    def __init__(self, busy: list[str], waited: str) -> None:
        super().__init__(f"the world is still busy after {waited}:\n  " + "\n  ".join(busy or ["its event loop"]))
        self.busy = busy


async def what_is_busy(services: Iterable[Service], client: Client, wire: Wire) -> list[str]:
    """All of it. A stream that is open is not among it: whether it has an end its two sides know."""
    services = list(services)
    return [
        *(each for service in services for each in _handlers(service)),
        *_calls(client, services),
        *[each async for each in _queues(wire)],
        *(f"{count} on {subject} held back by delay" for subject, count in Counter(wire.delayed.values()).items()),
    ]


def _handlers(service: Service) -> Iterator[str]:
    if service._node is None:
        return
    streams = {f"{service.name}.{name}" for name, declared in service.endpoints.items() if declared.stream}
    for handler in service._node._parts.handlers:
        if isinstance(handler, BatchSubscriber) and handler.collected:
            yield f"{handler.name}: {handler.collected} collected for a batch"
        if len(handler) and not (isinstance(handler, Endpoint) and handler.name in streams):
            places = [where(frames_of(task)) for task, _ in handler.inflight.running()]
            stand = f", at {'; '.join(dict.fromkeys(places))}" if places else ""
            yield f"{handler.name}: {len(handler)} being handled{stand}"


def _calls(client: Client, services: Iterable[Service]) -> Iterator[str]:
    owners = {"the world's client": client}
    owners |= {service.name: service._client for service in services if service._client is not None}
    for name, each in owners.items():
        if waiting := len(each._calls):
            yield f"{name} waits for {waiting} {'reply' if waiting == 1 else 'replies'}"


async def _queues(wire: Wire) -> AsyncIterator[str]:
    for queue, (subject, broker) in wire.queues.items():
        try:
            state = await broker.queue_state(queue, subject=subject)
        except TransportError as error:
            yield f"queue {wire.inner(queue)}: {error}"
            continue
        if state is not None and state.consumers != 0 and (state.waiting or state.unsettled):
            yield f"queue {wire.inner(queue)}: {state.waiting or 0} waiting, {state.unsettled or 0} unsettled"
