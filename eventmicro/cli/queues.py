"""`eventmicro queues`: what waits in durable queues, as the broker says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from eventmicro.broker import QueueState, TellsQueues
from eventmicro.checks import did_you_mean
from eventmicro.cli.connecting import Broker, Registry, connected_to_queues
from eventmicro.cli.output import Form, Json, Output, chosen, print_records
from eventmicro.cli.records import print_table
from eventmicro.cli.session import run
from eventmicro.cli.show import examples
from eventmicro.client import Client
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.registry import QUEUE

EPILOG = examples("eventmicro queues", "eventmicro queues orders.bill dead.orders.bill", "eventmicro queues --json")
COLUMNS = ("QUEUE", "WAITING", "UNSETTLED", "CONSUMERS", "OLDEST")
DEAD = "dead."
# How many queues an error names.
SHOWN = 20


def queues(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUEUE", help="Which; default: all of the broker, or else of the registry."),
    ] = None,
    output: Form = None,
    json: Json = False,
    broker: Broker = None,
    registry: Registry = None,
) -> None:
    """Show how many events wait in durable queues, how many are with a consumer, and since when the oldest waits.

    What a broker does not say is a ?. RabbitMQ lists no queues to its clients: name them, or a registry by --registry.
    """
    print_states(broker, lambda name: True, chosen(output, json), names or (), registry)


def print_states(
    broker: str | None,
    wanted: Callable[[str], bool],
    form: Output,
    names: Sequence[str] = (),
    registry: str | None = None,
) -> None:
    """Print how it is with queues: those that are named, or all that are wanted."""

    async def ask() -> list[QueueState]:
        async with connected_to_queues(broker, registry) as client:
            return [state for state in await _states(client, names) if wanted(state.queue)]

    states = run(ask())
    shown = [asdict(s) | {"oldest": None if s.oldest is None else s.oldest.isoformat()} for s in states]
    print_records(form, shown, lambda: print_table(COLUMNS, [_row(state) for state in states]))
    if not states and form is Output.table:
        typer.echo("no queues", err=True)


async def _states(client: Client, names: Sequence[str]) -> list[QueueState]:
    """How it is with the queues of these names, or with all.

    Raises:
        UsageError: there is none of a name, or the broker has no queues, or does not tell of them.
    """
    broker = client.broker
    if not isinstance(broker, TellsQueues):
        raise UsageError(f"{broker.url} keeps no events, or tells nothing of its queues")
    if names:
        return [await _one(broker, name) for name in names]
    listed = await broker.queue_states()
    if listed is not None:
        return list(listed)
    found = [await broker.queue_state(name) for name in await _known(client)]
    if not any(found):
        raise UsageError(_nobody_says(client, "none of a subscriber that is registered"))
    return [state for state in found if state is not None]


async def _one(broker: TellsQueues, name: str) -> QueueState:
    state = await broker.queue_state(name)
    if state is None:
        listed = [each.queue for each in await broker.queue_states() or ()]
        raise UsageError(f"there is no queue {name}{did_you_mean(name, listed) or _there_are(listed)}")
    return state


def _there_are(names: Sequence[str]) -> str:
    """Which queues there are, to be put behind an error; empty where none is known."""
    more = f" and {len(names) - SHOWN} more: eventmicro queues" if len(names) > SHOWN else ""
    return f": there are {', '.join(names[:SHOWN])}{more}" if names else ""


async def _known(client: Client) -> list[str]:
    """The queues of the subscribers that are registered, and those of their dead letters."""
    try:
        services = await client.services()
    except EventMicroError as error:
        raise UsageError(_nobody_says(client, str(error))) from error
    named = {each.metadata.get(QUEUE) for service in services for each in service.endpoints if each.is_subscriber}
    own = sorted(name for name in named if name)
    return [*own, *(f"{DEAD}{name}" for name in own)]


def _nobody_says(client: Client, why: str) -> str:
    return (
        f"{client.broker.url} lists no queues, and no registry says which there are: name them, as "
        f"`eventmicro queues orders.bill dead.orders.bill`, or another registry by --registry ({why})"
    )


def _row(state: QueueState) -> tuple[str, ...]:
    numbers = ("?" if n is None else str(n) for n in (state.waiting, state.unsettled, state.consumers))
    is_empty = state.waiting == 0 and not state.unsettled
    oldest = ("" if is_empty else "?") if state.oldest is None else state.oldest.astimezone().isoformat(" ", "seconds")
    return state.queue, *numbers, oldest
