"""Pitfalls: what a service is told at its start that works, and yet is hardly meant so."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventmicro.broker import Broker, StoresRequests
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.events.options import DEAD
from eventmicro.rpc.caller import stored
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.wire import endpoint_subject

log = logging.getLogger(__name__)


async def warn_of_stored(service: str, broker: Broker, endpoints: Sequence[EndpointDeclaration]) -> None:
    """Say what stores the calls of these endpoints; their callers would get its confirmation, too."""
    if not endpoints or not isinstance(broker, StoresRequests):
        return
    subjects = [endpoint_subject(service, endpoint.name) for endpoint in endpoints]
    found = await broker.stores(subjects) or {}
    by_store: dict[str, list[str]] = {}
    for subject, stores in found.items():
        for store in stores:
            by_store.setdefault(store, []).append(subject)
    for store, its_subjects in by_store.items():
        log.warning("service %r: %s", service, stored(store, its_subjects))


def warn_of_letters(service: str, broker: Broker, subscribers: Sequence[SubscriberDeclaration]) -> None:
    """Say which of them take dead letters without naming their queue, so that another one keeps these, too."""
    durable = [s for s in subscribers if s.options.is_durable(broker.capabilities)]
    letters = {subscriber.options.dead_letter_subject() for subscriber in durable}
    for s in durable:
        is_letters = s.subject in letters or (s.subject.startswith(DEAD) and not s.has_wildcards)
        if is_letters and s.queue == f"{service}.{s.name}":
            log.warning(
                "%s takes dead letters by a queue of its own, which gets none of before it was made, and settles "
                "none of those that are kept: write queue=%r",
                s.queue,
                s.subject,
            )
