"""The contract of a service that runs, with its models, from its record in the registry."""

from __future__ import annotations

from eventmicro.errors import UsageError
from eventmicro.generating.models import IMPORTED, Models, Schema
from eventmicro.generating.schemas import with_schemas
from eventmicro.generating.source import (
    WrittenContract,
    WrittenMethod,
    camel,
    distinct,
    docstring,
    identifier,
    imports,
    write_contract,
    write_module,
)
from eventmicro.registry import STREAM, EndpointRecord, ServiceRecord
from eventmicro.terms import Terms
from eventmicro.wire import PROTOBUF, VERSION


def write_client(service: ServiceRecord) -> str:
    """A module with a contract for the endpoints of a service, and models for what they take and reply.

    What the registry does not know is not there: an endpoint whose request has no JSON Schema takes nothing.

    Raises:
        UsageError: it has no endpoints, or one of protobuf messages, whose `.proto` file says more than the registry.
    """
    endpoints = [each for each in with_schemas(service).endpoints if not each.is_subscriber]
    if not endpoints:
        raise UsageError(f"service {service.name!r} has no endpoints that can be called")
    name = distinct(identifier(camel(service.name)), IMPORTED)
    models = Models({name})
    for each in endpoints:
        models.look_at(each.request, each.reply)
    methods = tuple(_method(service, each, models) for each in endpoints)
    version = service.version if VERSION.fullmatch(service.version) else ""  # other frameworks have other ones
    contract = WrittenContract(name, service.name, version, methods)
    by = f"`eventmicro generate client {service.name}`"
    head = docstring(f"The contract of {service.name} {service.version}, written by {by}: do not edit.", "")
    start = f"{head}\n\n{imports([contract], others=models.imports)}"
    return write_module(start, *models.written(), write_contract(contract))


def _method(service: ServiceRecord, endpoint: EndpointRecord, models: Models) -> WrittenMethod:
    stream, terms = endpoint.metadata.get(STREAM, ""), endpoint.terms or Terms()
    takes_stream = stream in ("client", "bidirectional")
    return WrittenMethod(
        endpoint.name,
        endpoint.name,
        _annotation(service, endpoint, endpoint.request, models, "Any" if takes_stream else ""),
        _annotation(service, endpoint, endpoint.reply, models, "None"),
        takes_stream,
        stream in ("server", "bidirectional"),
        terms.timeout,
        terms.idempotent,
    )


def _annotation(
    service: ServiceRecord, endpoint: EndpointRecord, schema: Schema | None, models: Models, nothing: str
) -> str:
    if schema is None:
        models.imports |= {"from typing import Any"} if nothing == "Any" else set()
        return nothing
    if schema.get("contentMediaType") == PROTOBUF:
        raise UsageError(
            f"{service.name}.{endpoint.name} speaks protobuf ({schema.get('title')}): its contract comes from its own "
            ".proto file, by `eventmicro generate proto`"
        )
    return models.annotation(schema)
