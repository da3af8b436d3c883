"""The registry record of a node, made from what its service declares."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from eventmicro.broker import Bindings, Broker
from eventmicro.codecs.struct_schemas import struct_schema
from eventmicro.codecs.structs import handles_by_msgspec
from eventmicro.errors import UsageError
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.handlers.signature import MISSING
from eventmicro.registry import (
    BINDINGS,
    EXCHANGE,
    HEADERS,
    IDEMPOTENT,
    QUEUE,
    STREAM,
    SUBSCRIBER,
    TIMEOUT,
    TOPIC,
    EndpointRecord,
    NodeRecord,
    ServiceRecord,
)
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.running.identity import Identity
from eventmicro.running.telling import told_of_calls, told_of_events
from eventmicro.wire import endpoint_subject

FRAMEWORK = "framework"
BROKER = "broker"


def make_record(
    identity: Identity,
    endpoints: Iterable[EndpointDeclaration],
    subscribers: Iterable[SubscriberDeclaration],
    broker: Broker,
    rpc_broker: Broker,
    address: str,
) -> ServiceRecord:
    """The record of a service with this one node; endpoints in the order of names, subscribers in that of topics.

    Args:
        address: the subject below which the node alone is called; empty where it has none.
    """
    name, version, metadata = identity.service, identity.version, identity.metadata
    service = make_service_record(name, version, metadata, endpoints, subscribers, broker, rpc_broker)
    labels = {**identity.metadata, FRAMEWORK: "eventmicro", BROKER: rpc_broker.url.partition("://")[0]}
    return service.of_node(NodeRecord(id=identity.id, address=address, metadata=labels))


def make_service_record(
    name: str,
    version: str,
    metadata: Mapping[str, str],
    endpoints: Iterable[EndpointDeclaration],
    subscribers: Iterable[SubscriberDeclaration],
    broker: Broker | None = None,
    rpc_broker: Broker | None = None,
) -> ServiceRecord:
    """The same of what is declared, without a node that runs it, and perhaps without its brokers."""
    called = sorted(
        (_endpoint(name, each, rpc_broker) for each in endpoints if not each.internal), key=lambda e: e.name
    )
    taken = [_subscriber(each, broker) for each in sorted(subscribers, key=lambda s: (s.subject, s.name))]
    return ServiceRecord(name=name, version=version, metadata=dict(metadata), endpoints=called + taken)


def _told(bindings: Bindings | None) -> dict[str, str]:
    if bindings is None:
        return {}
    parts = {"channel": bindings.channel, "operation": bindings.operation}
    return {EXCHANGE: bindings.exchange, BINDINGS: _as_text(parts)}


def _as_text(parts: dict[str, Any]) -> str:
    return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)


def _endpoint(service: str, endpoint: EndpointDeclaration, broker: Broker | None) -> EndpointRecord:
    told = _told(told_of_calls(broker, endpoint_subject(service, endpoint.name)))
    return EndpointRecord(
        name=endpoint.name,
        request=schema_of(endpoint.request, "validation"),
        reply=schema_of(endpoint.reply, "serialization"),
        metadata=_terms(endpoint) | ({STREAM: endpoint.stream} if endpoint.stream else {}) | told,
    )


def _terms(endpoint: EndpointDeclaration) -> dict[str, str]:
    said = {IDEMPOTENT: "true"} if endpoint.idempotent else {}
    return said if endpoint.timeout is None else said | {TIMEOUT: f"{endpoint.timeout:g}"}


def _subscriber(subscriber: SubscriberDeclaration, broker: Broker | None) -> EndpointRecord:
    metadata = {SUBSCRIBER: "true", TOPIC: subscriber.subject, QUEUE: subscriber.queue or ""}
    metadata |= _told(told_of_events(broker, subscriber))
    if subscriber.told_by is not None:
        metadata[HEADERS] = _as_text(subscriber.told_by.schema)
    return EndpointRecord(name=subscriber.name, request=schema_of(subscriber.event, "validation"), metadata=metadata)


def schema_of(kind: Any, mode: Literal["validation", "serialization"]) -> dict[str, Any] | None:
    """The JSON Schema of a type; None where there is none, as of bytes and of protobuf messages without their names."""
    try:
        return _schema_of(kind, mode)
    except TypeError:  # a type that cannot be hashed
        return _make_schema(kind, mode)


def _make_schema(kind: Any, mode: Literal["validation", "serialization"]) -> dict[str, Any] | None:
    from pydantic import PydanticUserError, TypeAdapter

    if kind in (MISSING, None, type(None), bytes, Any):
        return None
    if (descriptor := getattr(kind, "DESCRIPTOR", None)) is not None:
        return {"title": descriptor.full_name, "contentMediaType": "application/protobuf"}
    if handles_by_msgspec(kind):
        return struct_schema(kind)
    try:
        return TypeAdapter(kind).json_schema(mode=mode)
    except (PydanticUserError, UsageError):  # a part of it has no JSON Schema, as a plain function
        return None


_schema_of = lru_cache(1000)(_make_schema)
