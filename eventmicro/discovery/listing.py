"""Listing: all who are there, as the registry has them and as they answer themselves; those of other frameworks too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventmicro.broker import Broker
from eventmicro.discovery.asking import WITHIN, ask_all, can_be_asked
from eventmicro.errors import UsageError
from eventmicro.information import INFO, PREFIX, WHOLE, read_information, record_of
from eventmicro.registry import Registry, ServiceRecord
from eventmicro.roster import Roster


async def list_all(broker: Broker, registry: Registry | None, name: str | None = None) -> list[ServiceRecord]:
    """The records of all services, or of one, in the order of names; whoever answers is taken before who is registered.

    Raises:
        Unavailable: the registry cannot be reached.
        UsageError: there is none, and the broker carries no questions.
    """
    asking = can_be_asked(broker)
    if registry is None and not asking:
        raise UsageError(
            f"{broker.url} carries no calls, by which services could be asked: name the registry that they are in, "
            "by --registry or EVENTMICRO_REGISTRY"
        )
    listed, asked = await asyncio.gather(_listed(registry), _asked(broker, name) if asking else _nobody())
    roster = Roster()
    for service in (*listed, *asked):
        roster.put(service)
    return roster.all() if name is None else roster.get(name)


async def _listed(registry: Registry | None) -> Sequence[ServiceRecord]:
    if registry is None:
        return ()
    await registry.connect()
    return await registry.list_services()


async def _asked(broker: Broker, name: str | None) -> Sequence[ServiceRecord]:
    subject = f"{PREFIX}.{INFO}" if name is None else f"{PREFIX}.{INFO}.{name}"
    answers = await ask_all(broker, subject, headers=WHOLE, within=WITHIN)
    forms = [form for answer in answers if (form := read_information(answer.body)) is not None]
    return [record for form in forms if (record := record_of(form)) is not None]


async def _nobody() -> Sequence[ServiceRecord]:
    return ()
