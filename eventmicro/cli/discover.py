"""`eventmicro services`, `describe`, `nodes`, `health` and `stats`: who is there, and how they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from eventmicro.cli.connecting import Broker, Registry, RpcBroker, complete_service, connected_client, meant
from eventmicro.cli.output import Form, Json, Output, chosen, print_records
from eventmicro.cli.records import (
    FIGURES,
    LAST_ERROR,
    WIDE,
    Figures,
    console,
    framework,
    labels,
    make_table,
    narrow,
    numbers,
    print_subscribers,
    print_table,
    show,
    signature,
)
from eventmicro.cli.session import run
from eventmicro.cli.show import as_object, examples, one_line, print_line
from eventmicro.client import Client
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.registry import TOPIC, NodeRecord, ServiceRecord

if TYPE_CHECKING:
    from rich.console import RenderableType

    from eventmicro.discovery.health import Health
    from eventmicro.discovery.report import NodeStatistics

SERVICES_EPILOG = examples(
    "eventmicro services", "eventmicro services orders", "eventmicro services --json | jq '.[].name'"
)
DESCRIBE_EPILOG = examples("eventmicro describe orders")
NODES_EPILOG = examples("eventmicro nodes", "eventmicro nodes orders")
HEALTH_EPILOG = examples("eventmicro health", "eventmicro health orders")
STATS_EPILOG = examples(
    "eventmicro stats orders", "eventmicro stats --watch", "eventmicro stats --watch -o raw | jq .published"
)

# How long a node may take to say how it is, in seconds: its checks have 5.
ANSWER = 7.0
# The endpoints by which a node is asked, which it has by itself.
OWN = ("health", "stats")
# How often `--watch` looks again, in seconds.
EVERY = 1.0

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Name = Annotated[
    str | None,
    typer.Argument(metavar="[SERVICE]", help="Only this service.", show_default=False, autocompletion=complete_service),
]


def services(
    service: Name = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
    output: Form = None,
    as_json: Json = False,
) -> None:
    """List the services that are there, those of other frameworks too."""
    form = chosen(output, as_json)
    found = _ask(broker, rpc_broker, registry, lambda client: _records(client, service))
    rows = [
        (
            service.name,
            service.version,
            str(len(service.nodes)),
            ", ".join(e.name for e in service.endpoints if not e.is_subscriber),
            ", ".join(f"{e.name} ({e.metadata.get(TOPIC, '')})" for e in service.endpoints if e.is_subscriber),
            framework(service.nodes),
        )
        for service in found
    ]
    columns = ("SERVICE", "VERSION", "NODES", "ENDPOINTS", "SUBSCRIBERS", "FRAMEWORK")
    print_records(form, _dumped(found), lambda: print_table(columns, rows))


def describe(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Which one.", autocompletion=complete_service)],
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
    output: Form = None,
    as_json: Json = False,
) -> None:
    """Show a service: its endpoints, what they take and reply, its subscribers and its nodes."""
    form = chosen(output, as_json)
    found = _ask(broker, rpc_broker, registry, lambda client: _records(client, service))
    print_records(form, _dumped(found), lambda: _describe(found))


def _describe(found: Iterable[ServiceRecord]) -> None:
    for each in found:
        typer.echo(one_line(f"{each.name} {each.version}  {labels(_shared(each))}".rstrip()))
        print_table(("ENDPOINT", "TAKES", "REPLIES"), [signature(e) for e in each.endpoints if not e.is_subscriber])
        print_subscribers(e for e in each.endpoints if e.is_subscriber)
        print_table(("NODE", "ADDRESS", "LABELS"), [(n.id, n.address, labels(n.metadata)) for n in each.nodes])


def _shared(service: ServiceRecord) -> dict[str, str]:
    """The labels of a service that none of its nodes has otherwise."""
    said = service.metadata.items()
    return {name: value for name, value in said if all(n.metadata.get(name, value) == value for n in service.nodes)}


def nodes(
    service: Name = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
    output: Form = None,
    as_json: Json = False,
) -> None:
    """List the nodes that run services."""
    form = chosen(output, as_json)
    found = _nodes(_ask(broker, rpc_broker, registry, lambda client: _records(client, service)))
    rows = [(s.name, s.version, n.id, n.address, labels(n.metadata)) for s, n in found]
    shown = [{"service": s.name, "version": s.version} | n.model_dump(mode="json") for s, n in found]
    print_records(form, shown, lambda: print_table(("SERVICE", "VERSION", "NODE", "ADDRESS", "LABELS"), rows))


def health(
    service: Name = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
    output: Form = None,
    as_json: Json = False,
) -> None:
    """Ask each node how it is. The exit code is 1 where one is not ready, or nobody answers."""

    from eventmicro.discovery.health import Health  # who asks for something else does not wait for it

    async def ask(client: Client) -> Answers[Health]:
        return await _each(client, await _records(client, service), "health", Health)

    form = chosen(output, as_json)
    found = _ask(broker, rpc_broker, registry, ask)
    rows = [
        (name, node.id, answer.status if isinstance(answer, Health) else "silent", _faults(answer))
        for (name, node), answer in found
    ]
    shown = [_shown(node, answer) for node, answer in found]
    print_records(form, shown, lambda: print_table(("SERVICE", "NODE", "STATUS", "WHAT IS WRONG"), rows))
    if not found or not all(isinstance(answer, Health) and answer.ready for _, answer in found):
        raise typer.Exit(1)


def stats(
    service: Name = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C; with -o raw for programs.")
    ] = False,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Also the endpoints by which nodes are asked: health and stats.")
    ] = False,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
    output: Form = None,
    as_json: Json = False,
) -> None:
    """Show what each node has done: how many, how many failed, how long they took."""

    from eventmicro.discovery.report import NodeStatistics

    async def ask(client: Client) -> Answers[NodeStatistics]:
        there = await _records(client, service)
        listed = {(each.name, endpoint.name) for each in there for endpoint in each.endpoints}
        found = await _each(client, there, "stats", NodeStatistics)
        return found if all_of_them else [(who, _without_own(said, listed)) for who, said in found]

    form = chosen(output, as_json)
    if watch and form is Output.json:
        raise UsageError(
            "--watch has no end, and JSON is one document: for programs write --output raw, an object a line"
        )
    if watch:
        again = _draw_again if form is Output.table and console().is_terminal else partial(_print_again, form)
        _ask(broker, rpc_broker, registry, lambda client: again(lambda: ask(client)))
        return
    found = _ask(broker, rpc_broker, registry, ask)
    print_records(form, [_shown(node, answer) for node, answer in found], lambda: _show_figures(found))


Look = Callable[[], Awaitable["Answers[NodeStatistics]"]]


async def _draw_again(look: Look) -> None:
    """Draw a table anew, each second."""
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(_figures(await look(), live.console.width), refresh=True)
            await asyncio.sleep(EVERY)


async def _print_again(form: Output, look: Look) -> None:
    """Print it below what was printed before, each second, until nobody reads it any more."""
    while True:
        found = await look()
        if form is Output.table:
            _show_figures(found)
        elif not all(print_line(as_object(_shown(node, answer))) for node, answer in found):
            return
        await asyncio.sleep(EVERY)


def _show_figures(found: Answers[NodeStatistics]) -> None:
    screen = console()
    show(screen, _figures(found, screen.width))


# -- asking ----------------------------------------------------------------------------------------------------

Answers = list[tuple[tuple[str, NodeRecord], M | EventMicroError]]


def _ask(
    broker: str | None, rpc_broker: str | None, registry: str | None, question: Callable[[Client], Awaitable[T]]
) -> T:
    async def ask() -> T:
        async with connected_client(broker, rpc_broker=rpc_broker, registry=registry) as client:
            return await question(client)

    return run(ask())


async def _each(client: Client, found: Iterable[ServiceRecord], endpoint: str, kind: type[M]) -> Answers[M]:
    """What each node answers, or why it does not; those of other frameworks are not asked."""
    asked = [(each.name, node) for each, node in _nodes(found) if node.address]

    async def ask(node: NodeRecord) -> M | EventMicroError:
        try:
            return await client.call(f"{node.address}.{endpoint}", None, kind, timeout=ANSWER)
        except EventMicroError as error:
            return error

    return list(zip(asked, await asyncio.gather(*(ask(node) for _, node in asked)), strict=True))


async def _records(client: Client, name: str | None) -> list[ServiceRecord]:
    """What is there, or one service of it, which has to be there."""
    found = await client.services(name)
    if name is not None and not found:
        raise UsageError(f"there is no service {name!r}{await meant(client, name)}; see `eventmicro services`")
    return found


def _dumped(found: Iterable[ServiceRecord]) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in found]


def _nodes(found: Iterable[ServiceRecord]) -> list[tuple[ServiceRecord, NodeRecord]]:
    return [(service, node) for service in found for node in service.nodes]


def _figures(found: Answers[NodeStatistics], width: int) -> RenderableType:
    """A line for each handler; where the screen is too narrow for that, a small table for each node."""
    if width >= WIDE:
        rows = [(*who, *cells) for who, handlers in map(_handlers, found) for cells in handlers]
        return make_table(("SERVICE", "NODE", *FIGURES, LAST_ERROR), rows)
    from rich.console import Group

    return Group(*(part for who, handlers in map(_handlers, found) for part in narrow(who, handlers)))


def _handlers(answer: tuple[tuple[str, NodeRecord], NodeStatistics | EventMicroError]) -> Figures:
    (name, node), said = answer
    if isinstance(said, EventMicroError):
        return (name, node.id), [("", "", "", "", "", "", "", "", str(said))]
    return (name, node.id), [(each.name, *numbers(each)) for each in (*said.endpoints, *said.subscribers)]


def _without_own(
    said: NodeStatistics | EventMicroError, listed: Container[tuple[str, str]]
) -> NodeStatistics | EventMicroError:
    """What a node says of the service's handlers, without those by which it is asked; some may have its names."""
    if isinstance(said, EventMicroError):
        return said
    shown = [each for each in said.endpoints if each.name not in OWN or (said.service, each.name) in listed]
    return said.model_copy(update={"endpoints": shown})


def _faults(answer: Health | EventMicroError) -> str:
    if isinstance(answer, EventMicroError):
        return str(answer)
    return "; ".join(f"{check.name}: {check.detail}" for check in answer.checks if not check.ok)


def _shown(asked: tuple[str, NodeRecord], answer: BaseModel | EventMicroError) -> dict[str, Any]:
    name, node = asked
    if isinstance(answer, EventMicroError):
        return {"service": name, "node": node.id, "error": str(answer)}
    return answer.model_dump(mode="json")
