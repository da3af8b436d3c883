"""What commands that go over a broker have in common: its options, a client, the completion of names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from eventmicro.checks import did_you_mean
from eventmicro.cli.session import Places, Session, current, run
from eventmicro.cli.settings import find_url
from eventmicro.cli.show import show_error
from eventmicro.client import Client
from eventmicro.embedded import find_keeping
from eventmicro.errors import EventMicroError, NotFound, ServiceError, UsageError
from eventmicro.plugins import BROKER_VARIABLE, REGISTRY_VARIABLE, RPC_BROKER_VARIABLE
from eventmicro.rpc.replies import is_nobody

if TYPE_CHECKING:
    from eventmicro.registry import ServiceRecord

T = TypeVar("T")

# How long a person who presses the tabulator waits at most, in seconds.
COMPLETED = 1.5

Broker = Annotated[
    str | None,
    typer.Option(
        envvar=BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="Default: the embedded server that runs on this machine.",
        show_default=False,
    ),
]
Registry = Annotated[
    str | None,
    typer.Option(
        envvar=REGISTRY_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The registry, as etcd://127.0.0.1:2379. Default: that of the broker's own server, if it can keep one.",
        show_default=False,
    ),
]
RpcBroker = Annotated[
    str | None,
    typer.Option(
        envvar=RPC_BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The broker for calls, where --broker carries none, as Kafka.",
        show_default=False,
    ),
]


def connected_client(
    broker: str | None, rpc_broker: str | None = None, registry: str | None = None
) -> AbstractAsyncContextManager[Client]:
    """A client on a broker over which others can be reached: that of the shell, or one for this command alone.

    Raises:
        UsageError: it is one within this process, or there is none.
    """
    session = current()
    if session is not None and session.places.cover(Places(broker, rpc_broker, registry)):
        return _kept(session)
    return client_for_others(broker, rpc_broker, registry)


def run_answered(work: Coroutine[Any, Any, T]) -> T:
    """Run what an endpoint answers to its end; an error that it answers goes to stderr, and the exit code is 1."""
    try:
        return run(work)
    except ServiceError as error:
        show_error(error)
        raise typer.Exit(1) from None


def connected_to_queues(broker: str | None, registry: str | None = None) -> AbstractAsyncContextManager[Client]:
    """The same for what only a broker has that keeps events: of the embedded server its way to keep them."""
    return connected_client(broker or find_keeping(), registry=registry)


@asynccontextmanager
async def _kept(session: Session) -> AsyncIterator[Client]:
    yield await session.client()


def client_for_others(broker: str | None, rpc_broker: str | None = None, registry: str | None = None) -> Client:
    """A client, not yet connected, on a broker over which others can be reached.

    Raises:
        UsageError: it is one within this process, or there is none.
    """
    client = Client(broker, rpc_broker=rpc_broker, registry=registry)
    if client.broker.url.startswith("memory://"):
        raise UsageError(
            f"{client.broker.url} lives within one process: from here nobody is reached over it; name the broker "
            f"that the services are on, by --broker or {BROKER_VARIABLE}"
        )
    return client


async def meant(client: Client, service: str) -> str:
    """Which service is perhaps meant, of those that are there, to be put behind an error."""
    try:
        there = {each.name for each in await client.services()}
    except EventMicroError:
        return ""
    return "" if service in there else did_you_mean(service, there)


async def add_meant(client: Client, error: ServiceError, endpoint: str) -> None:
    """Say in the error of a call which service is perhaps meant, where there is none of this name."""
    service = endpoint.partition(".")[0]
    is_away = is_nobody(error) or (isinstance(error, NotFound) and error.id == service)
    if is_away and (perhaps := await meant(client, service)):
        error.detail = error.detail.rstrip("?") + perhaps


def complete_service(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """The names of services that begin so; none where that cannot be known soon."""
    return sorted({s.name for s in _known(ctx) if s.name.startswith(incomplete)})


def complete_endpoint(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """The endpoints that begin so, as `orders.quote`."""
    names = {f"{s.name}.{e.name}" for s in _known(ctx) for e in s.endpoints if not e.is_subscriber}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_stream(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """The endpoints that serve streams and begin so."""
    from eventmicro.registry import STREAM  # of pydantic's, as the records are

    names = {f"{s.name}.{e.name}" for s in _known(ctx) for e in s.endpoints if STREAM in e.metadata}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_node(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """The ids of nodes that begin so."""
    return sorted({n.id for s in _known(ctx) for n in s.nodes if n.id.startswith(incomplete)})


def _known(ctx: typer.Context | None) -> list[ServiceRecord]:
    """What there is to complete, where the options say that were typed before; nothing where nobody can be asked."""
    typed = {} if ctx is None else ctx.params
    places = [typed.get(each) for each in ("broker", "rpc_broker", "registry")]

    async def ask() -> list[ServiceRecord]:
        async with client_for_others(*places) as client:
            return await client.services()

    try:
        return asyncio.run(asyncio.wait_for(ask(), COMPLETED))
    except (EventMicroError, OSError, TimeoutError):
        return []
