"""AsyncAPI 3.0 documents of services, after https://www.asyncapi.com/docs/reference/specification/v3.0.0.

An endpoint is an operation that receives, with a `reply` on a channel whose address is known only when it is called; a
subscriber is one that receives. What AsyncAPI has no word for stands beside it, in words that begin with `x-`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eventmicro.generating.components import Components, title_of
from eventmicro.generating.schemas import with_schemas
from eventmicro.registry import (
    BINDINGS,
    EXCHANGE,
    HEADERS,
    QUEUE,
    STREAM,
    SUBJECT,
    TOPIC,
    EndpointRecord,
    ServiceRecord,
)
from eventmicro.wire import ENDPOINT_QUEUE, JSON

Part = dict[str, Any]

VERSION = "3.0.0"
# The protocol of each scheme, as AsyncAPI names it.
PROTOCOLS = {
    "nats": "nats",
    "tls": "nats",
    "jetstream": "nats",
    "amqp": "amqp",
    "amqps": "amqps",
    "kafka": "kafka",
    "kafkas": "kafka-secure",
    "kafka+ssl": "kafka-secure",
}
# How one logs in to Kafka, as AsyncAPI names it.
SASL = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512", "GSSAPI": "gssapi"}

ERROR: Part = {
    "type": "object",
    "title": "Error",
    "required": ["code", "detail"],
    "properties": {
        "id": {"type": "string", "description": "Where it happened, as service.endpoint."},
        "code": {"type": "integer", "description": "What kind of error it is, a number as HTTP has them."},
        "status": {"type": "string", "description": "The words for the code."},
        "detail": {"type": "string", "description": "What happened."},
        "errors": {"type": "array", "items": {"type": "object"}, "description": "The parts of it, such as fields."},
        "retryable": {"type": "boolean", "description": "Whether a second try may succeed without harm."},
    },
}


def write_document(
    services: Iterable[ServiceRecord], url: str | None = None, about: Mapping[str, str] | None = None
) -> Part:
    """The document of these services.

    Args:
        url: the broker that they are on, if that is to be told. Of user and password it says only that there are some.
        about: what is to be said of services and of what they have, by the name: `orders`, `orders.quote`.
    """
    services = [with_schemas(each) for each in services]
    document = _Document(url, about or {})
    for service in services:
        for endpoint in service.endpoints:
            document.add(service, endpoint)
    return document.write(services)


class _Document:
    def __init__(self, url: str | None, about: Mapping[str, str]) -> None:
        self._about = about
        self._scheme = urlsplit(url or "").scheme
        self._servers, self._security = _servers(url) if url else ({}, {})
        self._schemas = Components()
        self._messages: Part = {}
        self._channels: Part = {}
        self._operations: Part = {}

    def add(self, service: ServiceRecord, endpoint: EndpointRecord) -> None:
        """An endpoint or a subscriber, with its channel and its messages."""
        name = f"{service.name}.{endpoint.name}"
        if endpoint.is_subscriber:
            subject, queue = endpoint.metadata.get(TOPIC, name), endpoint.metadata.get(QUEUE, "")
            title = f"{subject}.{title_of(endpoint.request) or 'event'}"
        else:
            subject, queue, title = endpoint.metadata.get(SUBJECT, name), ENDPOINT_QUEUE, f"{name}.request"
        bindings = {word: part for word, part in _said(endpoint, BINDINGS).items() if isinstance(part, dict)}
        channel = self._channel(subject, bindings.get("channel", {}), endpoint.metadata.get(EXCHANGE, ""))
        operation: Part = {
            "action": "receive",
            "title": endpoint.name,
            "description": self._about.get(name, ""),
            "channel": _ref("channels", channel),
            "messages": [self._message(channel, title, endpoint.request, _said(endpoint, HEADERS))],
            "tags": [{"name": service.name}],
        }
        if not endpoint.is_subscriber:
            operation["reply"] = self._reply(name, endpoint.reply)
        if stream := endpoint.metadata.get(STREAM):
            operation["x-stream"] = stream
        if bindings:
            operation["bindings"] = bindings.get("operation", {})
        elif queue:
            operation |= self._queue(queue)
        taken = name in self._operations
        self._operations[f"{name}@{service.version}" if taken else name] = _without_empty(operation)

    def write(self, services: list[ServiceRecord]) -> Part:
        """All of it; parts that would be empty are left out."""
        components = {
            "schemas": self._schemas.schemas,
            "messages": self._messages,
            "securitySchemes": self._security,
        }
        document = {
            "asyncapi": VERSION,
            "info": self._info(services),
            "defaultContentType": JSON,
            "servers": self._servers,
            "channels": self._channels,
            "operations": self._operations,
            "components": _without_empty(components),
        }
        return _without_empty(document)

    def _info(self, services: list[ServiceRecord]) -> Part:
        names = list(dict.fromkeys(service.name for service in services))
        versions = [service.version or "0.0.0" for service in services]
        is_one = len(set(versions)) == 1
        lines = [self._about[name] for name in names if self._about.get(name)]
        if not is_one:
            lines += [f"{service.name} {service.version}" for service in services]
        info = {
            "title": ", ".join(names),
            "version": versions[0] if is_one else "0.0.0",
            "description": "\n".join(lines),
        }
        return _without_empty(info)

    def _channel(self, subject: str, bindings: Part, exchange: str) -> str:
        """The channel of a subject, made where it is not there yet; a wildcard is a parameter of its address.

        By another exchange the same subject is another channel.
        """
        name = subject
        if self._channels.get(name, {}).get("bindings", bindings) != bindings:
            name = f"{subject}@{exchange}"
        if name not in self._channels:
            address, parameters = _address(subject)
            of_wildcards = {"parameters": parameters, "x-subject": subject} if parameters else {}
            bound = {"bindings": bindings} if bindings else {}
            self._channels[name] = {"address": address, "messages": {}} | of_wildcards | bound
        return name

    def _reply(self, name: str, schema: Part | None) -> Part:
        channel = f"{name}.reply"
        self._channels.setdefault(channel, {"address": None, "messages": {}})
        messages = [self._message(channel, channel, schema), self._message(channel, "Error", ERROR)]
        return {"channel": _ref("channels", channel), "messages": messages}

    def _message(self, channel: str, name: str, schema: Part | None, headers: Part | None = None) -> Part:
        """A reference to a message of a channel, which it then has; two that are unlike get two names."""
        message: Part = {"name": name, "title": title_of(schema) or name}
        if schema is not None and "contentMediaType" in schema:  # protobuf, which has no JSON Schema
            message["contentType"] = schema["contentMediaType"]
        elif schema is not None:
            message["payload"] = self._schemas.add(schema, name)
        if headers:
            message["headers"] = headers
        key, number = name, 1
        while self._messages.setdefault(key, message) != message:
            number += 1
            key = f"{name}.{number}"
        self._channels[channel]["messages"][key] = _ref("components", "messages", key)
        return _ref("channels", channel, "messages", key)

    def _queue(self, queue: str) -> Part:
        """Who shares the messages, in the words that the protocol has for it."""
        protocol = PROTOCOLS.get(self._scheme, "")
        if protocol == "nats":
            return {"bindings": {"nats": {"queue": queue}}}
        if protocol.startswith("kafka"):
            return {"bindings": {"kafka": {"groupId": {"type": "string", "enum": [queue]}}}}
        return {"x-queue": queue}


def _said(endpoint: EndpointRecord, word: str) -> Part:
    """What a record says as JSON; nothing where it says what nobody can read."""
    try:
        read = json.loads(endpoint.metadata.get(word, ""))
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _address(subject: str) -> tuple[str, Part]:
    """A subject as an address, and its parameters: `orders.*.>` is `orders.{token2}.{rest}`."""
    tokens, parameters = [], dict[str, Any]()
    for place, token in enumerate(subject.split("."), 1):
        name = {"*": f"token{place}", ">": "rest"}.get(token)
        tokens.append(token if name is None else f"{{{name}}}")
        if name is not None:
            parameters[name] = {"description": "One token." if token == "*" else "One or more tokens."}
    return ".".join(tokens), parameters


def _servers(url: str) -> tuple[Part, Part]:
    """The servers of a broker's URL, one a host, and how one logs in to them."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    server: Part = {"protocol": PROTOCOLS.get(parts.scheme, parts.scheme or "unknown")}
    if parts.path.strip("/"):
        server["pathname"] = parts.path
    schemes = dict(_logins(parts.scheme, login, {word: values[-1] for word, values in parse_qs(parts.query).items()}))
    if schemes:
        server["security"] = [_ref("components", "securitySchemes", name) for name in schemes]
    named = hosts.split(",")
    servers = {
        "broker" if len(named) == 1 else f"broker{n}": {"host": host} | server for n, host in enumerate(named, 1)
    }
    return servers, schemes


def _logins(scheme: str, login: str, settings: dict[str, str]) -> Iterator[tuple[str, Part]]:
    if login and PROTOCOLS.get(scheme, "").startswith("kafka"):
        yield "sasl", {"type": SASL.get(settings.get("sasl", "SCRAM-SHA-256"), "userPassword")}
    elif ":" in login:
        yield "user", {"type": "userPassword"}
    elif login:
        yield "token", {"type": "apiKey", "in": "password"}
    if "tls_cert" in settings:
        yield "certificate", {"type": "X509"}


def _without_empty(parts: Part) -> Part:
    return {word: part for word, part in parts.items() if part}


def _ref(*path: str) -> Part:
    """A reference within the document, by JSON Pointer."""
    return {"$ref": "#/" + "/".join(word.replace("~", "~0").replace("/", "~1") for word in path)}
