"""Embedding: by which of its URLs a service goes over the embedded server, where nobody named a broker for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from eventmicro.embedded import keeping
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.plugins import unconnected_broker

log = logging.getLogger(__name__)


class Embeds(Protocol):
    """What is looked at of a service."""

    @property
    def name(self) -> str: ...
    @property
    def subscribers(self) -> Mapping[str, SubscriberDeclaration]: ...


def embedded_for(service: Embeds, url: str) -> str:
    """The embedded server's URL for a service: the plain one, unless it needs events that are kept.

    Args:
        url: the plain one; of a server that is only thought of its scheme is enough, `nats://`.
    """
    kept = keeping(url)
    return kept if kept != url and _gains(service, url, kept) else url


def place_embedded(service: Embeds, url: str) -> str:
    """The same for one that starts now; it is said where that is not the plain one."""
    place = embedded_for(service, url)
    if place != url:
        log.info(
            "%s goes over %s, as %s needs events that are kept", service.name, place, _gains(service, url, place)[0]
        )
    return place


def _gains(service: Embeds, url: str, kept: str) -> list[str]:
    """The subscribers that need something which only the broker that keeps events has."""
    plain, keeper = (unconnected_broker(each).capabilities for each in (url, kept))
    needed = {name: each.needs() for name, each in service.subscribers.items()}
    return [name for name, each in needed.items() if set(plain.missing(each)) - set(keeper.missing(each))]
