"""`--interactive`: what an endpoint or the subscribers of a subject take, and a body that is filled in after that."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from eventmicro.cli.asking import Questions
from eventmicro.cli.connecting import connected_client, meant
from eventmicro.cli.session import Places, current, run
from eventmicro.cli.show import one_line, printable
from eventmicro.client import Client
from eventmicro.discovery.asking import ask_service, can_be_asked
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.generating.schemas import is_schema
from eventmicro.information import record_of
from eventmicro.registry import TOPIC, EndpointRecord, ServiceRecord

Interactive = Annotated[
    bool, typer.Option("--interactive", "-i", help="Ask for the body field by field, as the service's schema has it.")
]
# How long it is waited for a service that is asked what it has, in seconds.
WITHIN = 0.5


def fill_in_request(endpoint: str, places: Places) -> str:
    """A request for an endpoint, in JSON; empty where it takes none."""

    async def find(client: Client) -> EndpointRecord:
        service, _, name = endpoint.partition(".")
        records = await records_of(client, service)
        if not records:
            raise UsageError(f"there is no service {service!r}{await meant(client, service)}")
        return _named([e for record in records for e in record.endpoints if not e.is_subscriber], name, endpoint)

    return _fill_in(endpoint, _ask_for(find, places))


def fill_in_event(subject: str, places: Places) -> str:
    """An event for the subscribers of a subject, in JSON."""

    async def find(client: Client) -> EndpointRecord:
        takers = [e for record in await client.services() for e in record.endpoints if e.metadata.get(TOPIC) == subject]
        if not takers:
            raise UsageError(f"no service subscribes to {subject}, so nobody says what it takes: write BODY")
        return next((each for each in takers if each.request), takers[0])

    return _fill_in(subject, _ask_for(find, places))


async def records_of(client: Client, service: str) -> list[ServiceRecord]:
    """The records of a service: of one of its nodes, which is asked, or of the registry."""
    if can_be_asked(client.rpc_broker):
        form = await ask_service(client.rpc_broker, service, within=WITHIN)
        if form is not None and (record := record_of(form)) is not None:
            return [record]
    try:
        return await client.services(service)
    except EventMicroError:
        return []


def _ask_for(find: Callable[[Client], Awaitable[EndpointRecord]], places: Places) -> EndpointRecord:
    async def ask() -> EndpointRecord:
        async with connected_client(places.broker, places.rpc_broker, places.registry) as client:
            return await find(client)

    return run(ask())


def _named(endpoints: list[EndpointRecord], name: str, endpoint: str) -> EndpointRecord:
    for each in endpoints:
        if each.name == name:
            return each
    raise UsageError(f"there is no {endpoint}; there are {', '.join(each.name for each in endpoints) or 'none'}")


def _fill_in(what: str, endpoint: EndpointRecord) -> str:
    if endpoint.request is None or not is_schema(endpoint.request):
        raise UsageError(f"{what} does not say what it takes, or takes nothing: write BODY, or leave --interactive out")
    if endpoint.request.get("type") == "null":
        return ""
    try:
        value = Questions(endpoint.request, _ask, _tell).request()
    except EOFError:
        raise UsageError(f"{what} is not called: its request was not filled in to the end") from None
    text = json.dumps(value, ensure_ascii=False)
    typer.echo(printable(text), err=True)
    return text


def _ask(question: str) -> str:
    session = current()
    if session is not None:
        return session.ask(question)
    typer.echo(question, err=True, nl=False)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip()


def _tell(text: str) -> None:
    typer.echo(one_line(text), err=True)
