"""Who takes what goes to a subject, as the registered services say it: a person at a shell is told of a slip."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from eventmicro.checks import did_you_mean
from eventmicro.cli.records import fields_of
from eventmicro.cli.show import one_line
from eventmicro.client import Client
from eventmicro.errors import BadRequest, EventMicroError, ServiceError, UsageError
from eventmicro.generating.schemas import is_schema
from eventmicro.registry import TOPIC, EndpointRecord, ServiceRecord

NO_BODY = "no body was given"


async def check_callable(client: Client, endpoint: str, records: Iterable[ServiceRecord]) -> None:
    """Refuse to call a topic: those who subscribe to it would handle the request, and nobody answers.

    Args:
        records: what is known of the service itself; nobody else is asked where that has the endpoint.

    Raises:
        UsageError: it is a topic, and no endpoint; it says who subscribes to it.
    """
    if has_endpoint(records, endpoint):
        return
    there = await registered(client)
    if has_endpoint(there, endpoint):
        return
    takers = sorted({each.name for each in there for e in each.endpoints if _subscribes(e, endpoint)})
    if takers:
        raise UsageError(
            f"{endpoint} is no endpoint but a topic, subscribed to by {', '.join(takers)}: "
            f"`eventmicro publish {endpoint}` publishes an event to it"
        )


def has_endpoint(records: Iterable[ServiceRecord], endpoint: str) -> bool:
    """Whether these services have an endpoint of this name."""
    return any(f"{each.name}.{e.name}" == endpoint for each in records for e in each.endpoints if not e.is_subscriber)


def say_what_it_takes(error: ServiceError, endpoint: str, records: Iterable[ServiceRecord]) -> None:
    """Say in the error of a call without a body what the endpoint takes, where that is what was wrong."""
    named = [e for each in records for e in each.endpoints if f"{each.name}.{e.name}" == endpoint]
    if isinstance(error, BadRequest) and (what := next(filter(None, map(_needs_body, named)), None)):
        error.detail, error.errors = f"{NO_BODY}: {endpoint} takes {what}", []


async def say_who_takes(client: Client, subject: str, *, empty: bool) -> None:
    """Say what a slip may be, where services are registered: nobody takes this subject, but one that is like it; or
    the event has no body, and those who take it need one."""
    subscribed = [e for each in await registered(client) for e in each.endpoints if e.is_subscriber]
    takers = [each for each in subscribed if _covers(each.metadata.get(TOPIC, ""), subject)]
    topics = sorted({each.metadata.get(TOPIC, "") for each in subscribed})
    if not takers and (meant := did_you_mean(subject, topics)):
        typer.echo(one_line(f"eventmicro: no registered service subscribes to {subject}{meant}"), err=True)
    if empty and (what := next(filter(None, map(_needs_body, takers)), None)):
        typer.echo(one_line(f"eventmicro: {NO_BODY}: who subscribes to {subject} takes {what}"), err=True)


async def registered(client: Client) -> list[ServiceRecord]:
    """Who is in the registry; nobody where there is none, or it cannot be reached: what is done goes on without it."""
    if client.registry is None:
        return []
    try:
        await client.registry.connect()
        return list(await client.registry.list_services())
    except EventMicroError:
        return []


def _subscribes(endpoint: EndpointRecord, subject: str) -> bool:
    return endpoint.is_subscriber and endpoint.metadata.get(TOPIC) == subject


def _needs_body(endpoint: EndpointRecord) -> str | None:
    """What it takes, in a line; None where that may be nothing, or is not known."""
    schema = endpoint.request
    if schema is None or not is_schema(schema):
        return None
    if schema.get("type") == "null" or {"type": "null"} in schema.get("anyOf", ()):
        return None
    return fields_of(schema)


def _covers(pattern: str, subject: str) -> bool:
    """Whether a subject that may have wildcards covers one that has none."""
    if pattern.endswith(">"):
        head = pattern.split(".")[:-1]
        tokens = subject.split(".")
        return len(tokens) > len(head) and _same(head, tokens[: len(head)])
    return _same(pattern.split("."), subject.split("."))


def _same(pattern: list[str], tokens: list[str]) -> bool:
    return len(pattern) == len(tokens) and all(a in ("*", b) for a, b in zip(pattern, tokens, strict=True))
