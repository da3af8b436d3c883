"""What comes from RabbitMQ, as a Delivery: subject, headers and attempts from where RabbitMQ and we keep them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol

from pamqp.commands import Basic

from eventmicro.charsets import is_charset
from eventmicro.cloudevents import TEXT, Binding
from eventmicro.message import Delivery
from eventmicro.wire import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    DEAD_ATTEMPTS,
    DEAD_QUEUE,
    DEAD_REASON,
    DEAD_SUBJECT,
    JSON,
    OCTET_STREAM,
)
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.connection.properties import Copied
from eventmicro_rabbitmq.topology import LONGEST_HEADER_NAME, is_order

# What an event carries while it waits for its next attempt: how often it was delivered, and its subject.
ATTEMPTS = "x-eventmicro-attempts"
SUBJECT = "x-eventmicro-subject"
# What a quorum queue adds to an event that it delivers again; RabbitMQ 4 the second one, where it counts no failure.
DELIVERY_COUNT = "x-delivery-count"
ACQUIRED_COUNT = "x-acquired-count"
# To whom an answer goes that needs no queue; RabbitMQ takes it only from a channel that awaits one.
DIRECT_REPLY = "amq.rabbitmq.reply-to"
# The header that is the property correlation_id: what an event belongs to, as its publisher sees it.
CORRELATION_ID = "Correlation-Id"
# What a message is written in that names nothing, and how kombu and we then say it: no news, and so no header.
UNSAID: dict[str | None, str | None] = {JSON: "utf-8", OCTET_STREAM: "binary", None: None}
# What is no compression of a body, though it stands where that is said, beside the names of character sets.
NO_ENCODINGS = frozenset(("", "identity", "binary", "7bit", "8bit"))
# The header in which kombu, and so Celery, says how a body is compressed, and what its names are elsewhere; what it
# calls gzip is zlib's form of deflate.
KOMBU_COMPRESSION = "compression"
OF_KOMBU = {
    "application/x-gzip": "deflate",
    "application/zstd": "zstd",
    "application/x-brotli": "br",
    "application/x-bz2": "bzip2",
    "application/x-lzma": "lzma",
}


class Holder(Protocol):
    """Who settles a delivery."""

    def ack(self, delivery: RabbitDelivery) -> None: ...

    async def nack(self, delivery: RabbitDelivery, delay: float) -> None: ...


class RabbitDelivery(Delivery):
    """An event of a durable queue.

    event: how it came, as far as it is not said here.
    tag: what the server knows this delivery by, on its channel.
    order: its place among those of its subscription; an event that was nacked keeps it.
    """

    __slots__ = ("event", "holder", "order", "properties", "tag")

    def __init__(
        self,
        subject: str,
        body: bytes,
        properties: Properties,
        tag: int,
        holder: Holder,
        event: Event | Basic.Deliver,
    ) -> None:
        super().__init__(subject, body)
        self.event = event
        self.properties = properties
        self.tag = tag
        self.order = tag
        self.holder: Holder | None = holder

    @property
    def cloudevents(self) -> Binding:
        return TEXT

    @property
    def stored_at(self) -> datetime | None:
        return self.properties.timestamp

    def try_ack(self) -> bool:
        holder, self.holder = self.holder, None
        if holder is not None:
            holder.ack(self)
        return True

    async def ack(self) -> None:
        self.try_ack()

    async def nack(self, delay: float = 0.0) -> None:
        holder, self.holder = self.holder, None
        if holder is not None:
            await holder.nack(self, delay)


def read_event(
    frame: Event | Basic.Deliver,
    properties: Properties,
    body: bytes,
    holder: Holder,
    queue: str,
    dead: str,
    given_up: int = 0,
    unnamed: str = "",
) -> RabbitDelivery:
    """An event of a durable queue.

    Args:
        queue: the queue's name.
        dead: the exchange through which comes what RabbitMQ itself has given up.
        given_up: how many deliveries are counted of such an event before its first.
        unnamed: the subject of one without a routing key.
    """
    subject = frame.routing_key or unnamed
    delivery = RabbitDelivery(subject, body, properties, frame.delivery_tag or 0, holder, frame)
    if not properties.message_id:  # also for a copy, which is then known by the same
        properties.message_id = fingerprint(subject, properties, body)
    delivery.headers = read_headers(properties)
    headers: dict[str, Any] | None = properties.headers
    if headers:
        if frame.redelivered:  # else it is of another queue, or a publisher's
            delivery.attempt = 1 + _number(headers.get(DELIVERY_COUNT))
        if not frame.exchange:  # sent to the queue itself, as from a retry queue; others may write what they like
            delivery.attempt += _number(headers.get(ATTEMPTS))
            delivery.subject = subject = _text(headers.get(SUBJECT, subject))
        elif frame.exchange == dead:
            delivery.subject = queue
            delivery.attempt = max(1, delivery.attempt - given_up)
            about = _about_death(headers)
            subject = about[DEAD_SUBJECT]
            delivery.headers = about | (delivery.headers or {})
        if DEAD_QUEUE in headers:  # of each queue that gave an event up there may be a letter, and all have its name
            subject = f"{_text(headers[DEAD_QUEUE])} {subject}"
    delivery.id = f"{subject} {properties.message_id}"  # publishers name events within a subject
    return delivery


def read_headers(properties: Properties, *, is_call: bool = False) -> dict[str, str] | None:
    """The headers as text, of those that can be published again, and the properties that are headers elsewhere; None
    where there are none.

    Args:
        is_call: whether its correlation id is about the call, and no header.
    """
    raw: dict[str, Any] | None = properties.headers
    content_type, encoding, correlation = (
        properties.content_type,
        properties.content_encoding,
        properties.correlation_id,
    )
    if raw is None and correlation is None and UNSAID.get(content_type, "") == encoding:
        return None  # as most have none
    headers: dict[str, str] | None = None
    if raw:
        headers = {name: _text(value) for name, value in raw.items() if _is_theirs(name)}
    if content_type and not _is_unsaid(content_type, encoding or "", is_call):
        headers = headers or {}
        headers[CONTENT_TYPE] = content_type
    if encoding and is_compression(encoding):
        headers = headers or {}
        headers[CONTENT_ENCODING] = encoding
    elif raw and KOMBU_COMPRESSION in raw and (kombus := OF_KOMBU.get(_text(raw[KOMBU_COMPRESSION]))):
        headers = headers or {}
        headers[CONTENT_ENCODING] = kombus
    if correlation and not is_call:
        headers = headers or {}
        headers.setdefault(CORRELATION_ID, correlation)
    return headers or None


def _is_unsaid(content_type: str, encoding: str, is_call: bool) -> bool:
    """Whether a content type says no more than none."""
    usual = UNSAID.get(content_type)
    return usual is not None and (is_call or encoding == usual)


@lru_cache(maxsize=256)
def is_compression(encoding: str) -> bool:
    """Whether a content encoding is more than the character set that many name there."""
    return encoding.lower() not in NO_ENCODINGS and not is_charset(encoding)


def is_uncounted(delivery: RabbitDelivery) -> bool:
    """Whether an event that is delivered again comes from a queue that does not count, as a classic one."""
    headers: dict[str, Any] = delivery.properties.headers or {}
    return DELIVERY_COUNT not in headers and ACQUIRED_COUNT not in headers


def for_retry(delivery: RabbitDelivery) -> Copied:
    """The properties of a copy of an event that comes again later, or as a counted one: what it was, and no orders."""
    return copy_of(delivery, {ATTEMPTS: delivery.attempt, SUBJECT: delivery.subject})


def copy_of(delivery: RabbitDelivery, added: dict[str, Any], without: AbstractSet[str] = frozenset()) -> Copied:
    """The properties of a copy of an event: what it was, and no orders, with further headers, and without some."""
    # user_id must be our own user's name, expiration would end the wait, and what is kept is always persistent
    apart = {"delivery_mode", "expiration", "user_id"}
    if delivery.properties.reply_to == DIRECT_REPLY:
        apart.add("reply_to")
    return Copied(delivery.properties, apart, lambda name: name not in without and _is_theirs(name), added)


def _about_death(headers: dict[str, Any]) -> dict[str, str]:
    """What RabbitMQ says of an event that it gave up, in the words of dead letters."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    keys = last.get("routing-keys")
    subject = keys[0] if isinstance(keys, list) and keys else ""
    return {
        DEAD_REASON: f"given up by RabbitMQ: {_text(last.get('reason', 'unknown'))}",
        DEAD_ATTEMPTS: str(_number(headers.get(ATTEMPTS)) + 1),  # at least: how often that queue delivered is not said
        DEAD_SUBJECT: _text(headers.get(SUBJECT, subject)),
        DEAD_QUEUE: _text(last.get("queue", "")),
    }


def _is_theirs(name: str) -> bool:
    """Whether it is a header of the publisher's that can be published again: no order, and of a length that AMQP
    allows, though RabbitMQ passes longer ones on.
    """
    return not is_order(name) and len(name.encode()) <= LONGEST_HEADER_NAME


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def fingerprint(subject: str, properties: Properties, body: bytes) -> str:
    """Of what stays the same of an event, and tells it from others: the id of one whose publisher gave it none."""
    about = f"{subject} {properties.timestamp} {properties.correlation_id} ".encode()
    return blake2b(about + body, digest_size=16).hexdigest()
