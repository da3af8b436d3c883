"""`eventmicro register`, `deregister`: nodes that do not register themselves, or that are gone without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer
from pydantic import ValidationError

from eventmicro.cli.bodies import check_json, read_argument
from eventmicro.cli.connecting import (
    Broker,
    Registry,
    RpcBroker,
    complete_node,
    complete_service,
    connected_client,
    meant,
)
from eventmicro.cli.session import current, run, run_beside
from eventmicro.cli.show import examples, one_line
from eventmicro.client import Client
from eventmicro.errors import EventMicroError, NotFound, TransportError, UsageError
from eventmicro.plugins import REGISTRY_VARIABLE
from eventmicro.registry import Registry as RegistryPort
from eventmicro.registry import ServiceRecord, check_record

REGISTER_EPILOG = examples(
    """eventmicro register '{"name": "legacy", "nodes": [{"id": "legacy-1", "address": "legacy.one"}]}'""",
    "eventmicro register @legacy.json --keep",
    "eventmicro describe legacy -o raw | eventmicro register -",
)
DEREGISTER_EPILOG = examples("eventmicro deregister legacy --node legacy-1", "eventmicro deregister legacy --all")
# For how long a record is kept where nothing else is said, in seconds, as that of a service.
TTL = 90.0


def register(
    record: Annotated[
        str | None,
        typer.Argument(
            metavar="RECORD",
            help="A service with its nodes, in JSON, as `eventmicro describe -o raw` prints it; - reads stdin, @FILE a "
            "file. Default: what is piped in.",
            show_default=False,
        ),
    ] = None,
    ttl: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="When the registry forgets it.")] = TTL,
    keep: Annotated[bool, typer.Option("--keep", help="Renew it until Ctrl-C, and then take it out.")] = False,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
) -> None:
    """Register nodes of a service that does not do that itself, such as one of another framework.

    The registry forgets them when their time is over, unless they are registered again by then.
    """
    service = _read_record(read_argument(record))

    async def register_it(begun: Callable[[], None]) -> None:
        async with connected_client(broker, rpc_broker, registry) as client:
            known = await _registry_of(client)
            await known.register(service, ttl=ttl)
            typer.echo(f"{service.name}: {len(service.nodes)} nodes registered for {ttl:g} s", err=True)
            begun()
            if keep:
                await _renew(known, service, ttl)

    async def check_kept() -> None:
        async with connected_client(broker, rpc_broker, registry) as client:
            await _check_kept(await _registry_of(client), service)

    if keep:
        run_beside(f"register {service.name}", register_it)
        return
    run(register_it(lambda: None))
    if current() is None:
        run(check_kept())  # over another connection, as everybody else sees it


def deregister(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Whose.", autocompletion=complete_service)],
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="This node; as often as needed.", autocompletion=complete_node),
    ] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All nodes of the service.")] = False,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
) -> None:
    """Take nodes of a service out of the registry at once, such as those of a machine that is gone.

    A node that is there registers itself again with its next heartbeat.
    """
    if all_of_them == bool(node):
        raise UsageError("say which nodes: --node ID, or --all")

    async def deregister_them() -> int:
        async with connected_client(broker, rpc_broker, registry) as client:
            known = await _registry_of(client)
            try:
                found = await known.get_service(service)
            except NotFound:
                raise UsageError(f"no node of {service!r} is registered{await meant(client, service)}") from None
            _check_there(service, found, node or [])
            gone = [(r, n) for r in found for n in r.nodes if all_of_them or n.id in (node or ())]
            for record, each in gone:
                await known.deregister(record.of_node(each))
            return len(gone)

    typer.echo(f"{service}: {run(deregister_them())} nodes taken out", err=True)


def _read_record(body: bytes) -> ServiceRecord:
    if not body.strip():
        raise UsageError("no record: write one in JSON, @FILE, or pipe it in")
    check_json(body, "the record")
    try:
        return check_record(ServiceRecord.model_validate_json(body))
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or "the record"
        raise UsageError(f"{place}: {wrong['msg']}; a record is that of one service, with its nodes") from None


async def _registry_of(client: Client) -> RegistryPort:
    registry = client.registry
    if registry is None:
        raise UsageError(f"there is no registry: name one by --registry or {REGISTRY_VARIABLE}")
    await registry.connect()
    return registry


async def _check_kept(registry: RegistryPort, service: ServiceRecord) -> None:
    """Refuse to say that all is well where a registry forgets what it was told once its process is gone."""
    try:
        kept = {node.id for record in await registry.get_service(service.name) for node in record.nodes}
    except NotFound:
        kept = set()
    if not kept.issuperset(node.id for node in service.nodes):
        raise EventMicroError(
            f"{service.name} is forgotten already: {registry.url} knows of nodes while somebody speaks for them; pass "
            "--keep, or name a registry that keeps records, by --registry"
        )


async def _renew(registry: RegistryPort, service: ServiceRecord, ttl: float) -> None:
    try:
        while True:
            await asyncio.sleep(ttl / 3)
            try:
                await registry.register(service, ttl=ttl)
            except TransportError as error:  # it may come back before it has forgotten
                typer.echo(one_line(f"eventmicro: {service.name} is not renewed: {error}"), err=True)
    finally:
        await registry.deregister(service)


def _check_there(service: str, found: list[ServiceRecord], wanted: list[str]) -> None:
    there = [node.id for record in found for node in record.nodes]
    if missing := [node for node in wanted if node not in there]:
        raise UsageError(f"{service} has no node {', '.join(missing)}; it has {', '.join(there)}")
