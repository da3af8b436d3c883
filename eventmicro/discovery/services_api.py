"""The NATS Services API, ADR-32: every node answers who it is, what it has and what it has done, on any broker that
carries calls, so that NATS' own tools and the services of other frameworks find it.

`$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, each also `.<name>` and `.<name>.<id>`, without a queue: every node answers.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from eventmicro.broker import Broker, Subscription
from eventmicro.errors import EventMicroError, MessageTooLarge
from eventmicro.handlers.statistics import Statistics
from eventmicro.information import INFO, INFO_TYPE, PREFIX, RECORD, REPLY_SCHEMA, REQUEST_SCHEMA, WHOLE, Form
from eventmicro.message import Delivery, Message
from eventmicro.registry import IDEMPOTENT, QUEUE, STREAM, SUBJECT, TIMEOUT, EndpointRecord, ServiceRecord
from eventmicro.wire import ENDPOINT_QUEUE, header

log = logging.getLogger(__name__)

PING, STATS = "PING", "STATS"
PING_TYPE = "io.nats.micro.v1.ping_response"
STATS_TYPE = "io.nats.micro.v1.stats_response"
# Whether the node that answers so takes no more calls, of which some may be listed nowhere.
STOPPING = "stopping"
# What is no longer than this, in bytes, and seldom changes is kept for the next who asks.
KEPT = 64 * 1024


class ServicesApi:
    """Answers for one node.

    Args:
        broker: what carries its calls.
        name, id: whose they are.
        make_record: makes the record of the service, with this node alone; very large ones are not kept.
        description: what the service is for.
        statistics: those of each endpoint, by name.
    """

    def __init__(
        self,
        broker: Broker,
        name: str,
        id: str,
        make_record: Callable[[], ServiceRecord],
        description: str,
        statistics: Callable[[], Mapping[str, Statistics]],
    ) -> None:
        self._broker = broker
        self._name = name
        self._id = id
        self._make_record = make_record
        self._description = description
        self._statistics = statistics
        self._started = now()
        self._kept: dict[tuple[str, bool, bool], bytes] = {}
        self._subscriptions: list[Subscription] = []
        self.stopping = False
        """Whether the node takes no more calls, and finishes those that run."""

    async def start(self) -> None:
        """Listen.

        Raises:
            Disconnected: the broker is not connected.
        """
        for verb in (PING, INFO, STATS):
            for subject in (
                f"{PREFIX}.{verb}",
                f"{PREFIX}.{verb}.{self._name}",
                f"{PREFIX}.{verb}.{self._name}.{self._id}",
            ):
                answering = partial(self._answer, verb)
                self._subscriptions.append(await self._broker.subscribe(subject, answering))

    def change(self) -> None:
        """The record has changed: forget what is kept of it."""
        self._kept.clear()

    async def drain(self) -> None:
        """Answer what was asked before, and no more."""
        subscriptions, self._subscriptions = self._subscriptions, []
        await asyncio.gather(*(subscription.drain() for subscription in subscriptions))

    def _make(self, verb: str, whole: bool) -> Form:
        """What is answered; `whole`: with the registry record."""
        record = self._make_record()
        if verb == PING:
            return _form(PING_TYPE, record)
        return self._info(record, whole) if verb == INFO else self._stats(record)

    def _info(self, record: ServiceRecord, whole: bool) -> Form:
        form = _form(INFO_TYPE, record) | {
            "description": self._description,
            "endpoints": [_endpoint(record.name, each) | {"metadata": _said(each)} for each in _callable(record)],
        }
        if whole:
            form[RECORD] = record.model_dump(mode="json")
            form[STOPPING] = self.stopping
        return form

    def _stats(self, record: ServiceRecord) -> Form:
        statistics = self._statistics()
        return _form(STATS_TYPE, record) | {
            "started": self._started,
            "endpoints": [_counted(record.name, each, statistics) for each in _callable(record)],
        }

    def _answer(self, verb: str, question: Delivery) -> Any:
        return self._send(verb, question) if question.reply else None

    async def _send(self, verb: str, question: Delivery) -> None:
        whole = all(header(question.headers, name) == value for name, value in WHOLE.items())
        try:
            try:
                await self._broker.send(Message(question.reply, self._body(verb, whole)))
            except MessageTooLarge:  # by its schemas, most likely
                await self._broker.send(Message(question.reply, _json(_without_schemas(self._make(verb, False)))))
        except EventMicroError as error:
            log.warning("%s: %s was not answered: %s", self._name, question.subject, error)

    def _body(self, verb: str, whole: bool) -> bytes:
        question = verb, whole, self.stopping
        if (kept := self._kept.get(question)) is not None:
            return kept
        body = _json(self._make(verb, whole))
        if verb != STATS and len(body) <= KEPT:
            self._kept[question] = body
        return body


def _callable(record: ServiceRecord) -> list[EndpointRecord]:
    return [each for each in record.endpoints if not each.is_subscriber]


def _form(kind: str, record: ServiceRecord) -> Form:
    node = record.nodes[0]
    return {
        "name": record.name,
        "id": node.id,
        "version": record.version,
        "metadata": record.metadata | node.metadata,
        "type": kind,
    }


def _counted(service: str, endpoint: EndpointRecord, statistics: Mapping[str, Statistics]) -> Form:
    return _endpoint(service, endpoint) | counted(statistics.get(endpoint.name) or Statistics())


def counted(statistics: Statistics) -> Form:
    """The figures of one endpoint: those of ADR-32, times in nanoseconds, and more of them as `data`."""
    spent = int(statistics.seconds * 1e9)
    return {
        "num_requests": statistics.count,
        "num_errors": sum(statistics.errors.values()),
        "last_error": statistics.last_error,
        "processing_time": spent,
        "average_processing_time": spent // statistics.count if statistics.count else 0,
        "data": {
            "errors": {str(code): count for code, count in sorted(statistics.errors.items())},
            "latency": statistics.by_bound(),
        },
    }


def _endpoint(service: str, endpoint: EndpointRecord) -> Form:
    return {
        "name": endpoint.name,
        "subject": endpoint.metadata.get(SUBJECT, f"{service}.{endpoint.name}"),
        "queue_group": endpoint.metadata.get(QUEUE, ENDPOINT_QUEUE),
    }


def _said(endpoint: EndpointRecord) -> Form:
    """Its schemas, its terms, and whether it serves a stream."""
    terms = {name: endpoint.metadata[name] for name in (IDEMPOTENT, TIMEOUT, STREAM) if name in endpoint.metadata}
    schemas = {REQUEST_SCHEMA: endpoint.request, REPLY_SCHEMA: endpoint.reply}
    return terms | {name: _text(schema) for name, schema in schemas.items() if schema is not None}


def _without_schemas(form: Form) -> Form:
    endpoints: Sequence[Form] = form.get("endpoints", ())
    return {k: v for k, v in form.items() if k != RECORD} | {"endpoints": [e | {"metadata": {}} for e in endpoints]}


def _json(form: Form) -> bytes:
    return _text(form).encode()


def _text(form: Form) -> str:
    return json.dumps(form, separators=(",", ":"), ensure_ascii=False)


def now() -> str:
    """This moment, as RFC 3339 has it, in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
