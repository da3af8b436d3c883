"""`eventmicro check` and `declare`: before a service runs, what would be refused, and what is to be made for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sized
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import typer

from eventmicro.broker import Broker, DeclaresCalls, DeclaresQueues, Durable
from eventmicro.cli.processes.running import find_code
from eventmicro.cli.settings import find_url, url_of
from eventmicro.cli.show import examples, indented, one_line
from eventmicro.cli.target import BrokenModule, load_services, log_broken, topics_of
from eventmicro.errors import BrokerNotFound, EventMicroError, Missing, UsageError
from eventmicro.events.placing import check_places
from eventmicro.places import Place
from eventmicro.plugins import (
    BROKER_VARIABLE,
    REGISTRY_VARIABLE,
    RPC_BROKER_VARIABLE,
    open_broker,
    open_registry,
    unconnected_broker,
)
from eventmicro.running.embedding import embedded_for
from eventmicro.running.refusing import Needs, misnamed_topics
from eventmicro.service import Service
from eventmicro.sources import said_url
from eventmicro.topic import Topic

CHECK_EPILOG = examples(
    "eventmicro check app:service --broker kafka://",
    "eventmicro check app.py --broker amqp:// --rpc-broker nats://",
    "eventmicro check",
)
DECLARE_EPILOG = examples(
    "eventmicro declare app:service --broker jetstream://127.0.0.1:4222",
    "eventmicro declare app:service --broker kafka://127.0.0.1:9092 --dry-run",
)
# What `eventmicro run` embeds where no broker is named.
EMBEDDED = "nats://"
# The exit code of `declare --dry-run` where nothing is wrong and something is to be made.
ONLY_MISSING = 3


class _Found(Enum):
    """How it is with what a service needs: made or there; not there; or so that it cannot be made."""

    GOOD = auto()
    MISSING = auto()
    WRONG = auto()


Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        help="What is to be run, as of `eventmicro run`: code, or a folder with an eventmicro.toml. "
        "Default: this folder.",
        show_default=False,
    ),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option(
        "--broker",
        envvar=BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The broker for services whose code names none; kafka:// is enough, no server is asked.",
        show_default=False,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--broker",
        envvar=BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The broker for services whose code names none.",
    ),
]
RpcBroker = Annotated[
    str | None,
    typer.Option(
        envvar=RPC_BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The broker for endpoints and calls.",
        show_default=False,
    ),
]
RegistryUrl = Annotated[
    str | None,
    typer.Option(
        envvar=REGISTRY_VARIABLE, callback=find_url, metavar="URL", help="The registry, or none.", show_default=False
    ),
]


def check(
    context: typer.Context,
    targets: Targets = None,
    broker: BrokerUrl = None,
    rpc_broker: RpcBroker = None,
    registry: RegistryUrl = None,
) -> None:
    """Say what would be refused if services were run, without a server: what a broker cannot do, options, types, names.

    The exit code is 1 where something would be. What only a server knows is not said: which queues and topics are there
    already, and how they are made; what a user may do.
    """
    found, topics = _load(targets)
    broker = url_of(context, "broker", broker)  # that of the folder which is named, and so on
    rpc_broker = url_of(context, "rpc_broker", rpc_broker)
    registry = url_of(context, "registry", registry)
    refused = 0
    for service in found:
        wrong = [str(refusal) for refusal in _refusals(service, broker, rpc_broker, registry, topics)]
        refused += len(wrong)
        for text in dict.fromkeys(wrong):
            typer.echo(f"{service.name}: refused: {indented(text)}", err=True)
        if not wrong:
            kind = unconnected_broker(_events(service, broker)).url.partition("://")[0]
            counts = f"{_count(service.endpoints, 'endpoint')}, {_count(service.subscribers, 'subscriber')}"
            typer.echo(f"{service.name}: {counts}: nothing that {kind}:// would refuse")
    if refused:
        raise typer.Exit(1)


def _count(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def declare(
    context: typer.Context,
    targets: Targets = None,
    broker: Server = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Make nothing; say what is missing (exit code 3), or cannot be (1)."),
    ] = False,
    change: Annotated[
        bool,
        typer.Option(
            "--change",
            help="Also change what is made otherwise, while no instance runs: on JetStream max_age, max_bytes and "
            "replicas of the stream, and whether a queue is ordered.",
        ),
    ] = False,
) -> None:
    """Make the streams, exchanges, queues and topics that services need, and end. Run it before them, when you deploy.

    It makes what their subscribers need, and the topics at the top of their modules, for those who publish; with the
    rights of its own user, so that the services, with `declare=check` in their URL, need none of these. What is there
    stays as it is. The exit code is 1 where something cannot be made; with --dry-run it is 3 where something is only
    missing, and will be made without it.
    """
    if dry_run and change:
        raise UsageError("--dry-run changes nothing: leave it out, or --change")
    found, topics = _load(targets)
    broker = url_of(context, "broker", broker)
    found_out: set[_Found] = set()
    for service in found:
        used = _opened(service, service.broker or broker, dry_run=dry_run)
        named = service.rpc_broker or said_url("rpc_broker")
        calls = _opened(service, named, dry_run=dry_run) if named else used
        found_out |= asyncio.run(_declare(service, used, calls, topics, change=change))
    if _Found.WRONG in found_out:
        raise typer.Exit(1)
    if _Found.MISSING in found_out:
        raise typer.Exit(ONLY_MISSING if dry_run else 1)


def _load(targets: list[str] | None) -> tuple[list[Service], list[Topic[object]]]:
    code = find_code(targets or [])
    try:
        return load_services(code), topics_of(code)
    except BrokenModule as broken:
        log_broken(code, broken)
        raise typer.Exit(1) from None


def _refusals(
    service: Service,
    broker: str | None,
    rpc_broker: str | None,
    registry: str | None,
    topics: list[Topic[object]],
) -> Iterator[UsageError]:
    """All that is wrong with a service, where its brokers can be told what they are."""
    try:
        events = unconnected_broker(_events(service, broker))
        calls = unconnected_broker(service.rpc_broker or rpc_broker or said_url("rpc_broker") or events)
        kept = open_registry(service._registry or registry, events, calls)
    except UsageError as error:
        yield error
        return
    needs = Needs(service.name, events, calls, has_registry=kept is not None)
    endpoints, subscribers = list(service.endpoints.values()), list(service.subscribers.values())
    yield from needs.refusals(endpoints, subscribers)
    yield from needs.misnamed(endpoints, subscribers)
    yield from misnamed_topics(events, topics)


def _events(service: Service, broker: str | None) -> str | Broker:
    """Where a service's events go; without a broker to the server that `eventmicro run` embeds, if it can."""
    if named := service.broker or broker:
        return named
    try:
        return embedded_for(service, EMBEDDED)
    except BrokerNotFound:
        return EMBEDDED


def _opened(service: Service, named: Broker | str | None, *, dry_run: bool) -> Broker:
    """The broker in which things are made; for a dry run it looks what is there.

    Raises:
        UsageError: there is none, or it is an object, of which nobody knows how it is made otherwise.
    """
    if not named:
        raise UsageError(f"{service.name}: no broker is set: name the one in which queues are made, by --broker")
    if not dry_run:
        return open_broker(named)
    if not isinstance(named, str):
        raise UsageError(f"{service.name} names a Broker in its code: --dry-run needs a URL; leave one of them out")
    parts = urlsplit(named)
    words = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"declare": "check"}
    is_made = isinstance(open_broker(named), DeclaresQueues)
    return open_broker(urlunsplit(parts._replace(query=urlencode(words))) if is_made else named)


async def _declare(
    service: Service, broker: Broker, calls: Broker, topics: list[Topic[object]], *, change: bool
) -> set[_Found]:
    """Make what a service needs, and say so; how it was with each."""
    said: set[str] = set()
    done: list[_Found] = []
    if isinstance(broker, DeclaresQueues):
        async with _connected(broker):
            done = [await _make(broker, said, *each, change=change) for each in _wanted(service, broker, topics)]
    else:
        typer.echo(f"{service.name}: nothing is to be made on {broker.url}")
    if isinstance(calls, DeclaresCalls):
        async with _connected(calls):
            done.append(await _make_calls(calls, said, is_needed=bool(service.endpoints)))
    return set(done)


@asynccontextmanager
async def _connected(broker: Broker) -> AsyncIterator[None]:
    await broker.connect()
    try:
        yield
    finally:
        await broker.close()


def _wanted(
    service: Service, broker: Broker, topics: list[Topic[object]]
) -> Iterator[tuple[str, str | None, Durable | None, dict[str, Place]]]:
    """Subjects, each with its queue and how that is to be; and those that are only published."""
    for subscriber in service.subscribers.values():
        options = subscriber.options
        is_durable = options.is_durable(broker.capabilities)
        queue, durable = (options.queue_name, options.to_durable()) if is_durable else (None, None)
        yield subscriber.subject, queue, durable, options.places()
    taken = {subscriber.subject for subscriber in service.subscribers.values()}
    for topic in topics:
        if topic.name not in taken:
            yield topic.name, None, None, {} if topic.exchange is None else {"exchange": topic.exchange}


async def _make(
    broker: DeclaresQueues,
    said: set[str],
    subject: str,
    queue: str | None,
    durable: Durable | None,
    places: dict[str, Place],
    *,
    change: bool,
) -> _Found:
    """Make what events of a subject need, and say so; whether that was possible."""
    try:
        check_places(subject, broker, *places.values())
        of_its_kind: dict[str, Any] = {**places}
        made = await broker.declare(subject, queue=queue, durable=durable, change=change, **of_its_kind)
    except EventMicroError as error:
        return _say_why(error, said)
    return _say(made, said)


async def _make_calls(broker: DeclaresCalls, said: set[str], *, is_needed: bool) -> _Found:
    """Make what calls need, and say so; whether that was possible, or a service without endpoints may do without."""
    try:
        return _say(await broker.declare_calls(), said)
    except EventMicroError as error:
        if is_needed or isinstance(error, Missing):
            return _say_why(error, said)
        typer.echo(f"not made, so that nothing can be called: {indented(str(error))}", err=True)
        return _Found.GOOD


def _say(made: Mapping[str, bool], said: set[str]) -> _Found:
    for what, is_new in made.items():
        if what not in said:
            typer.echo(one_line(f"{'made' if is_new else 'there'}: {what}"))
        said.add(what)
    return _Found.GOOD


def _say_why(error: EventMicroError, said: set[str]) -> _Found:
    """What is only missing by its name; how it is made is this very command."""
    if not isinstance(error, Missing):
        typer.echo(f"refused: {indented(str(error))}", err=True)
        return _Found.WRONG
    for what in error.what:
        if what not in said:
            typer.echo(one_line(f"missing: {what}"), err=True)
        said.add(what)
    return _Found.MISSING
