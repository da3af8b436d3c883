"""What an event or a call says beside its body: what RabbitMQ has a place for is there, and nowhere else."""

from __future__ import annotations

from math import ceil
from time import time
from typing import Any

from eventmicro.errors import UsageError
from eventmicro.message import Bounded, Copy, Message, Routed
from eventmicro.wire import CONTENT_ENCODING, CONTENT_TYPE, DEAD_QUEUE
from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.connection.properties import Copied, Limited, Persistent
from eventmicro_rabbitmq.consuming.incoming import CORRELATION_ID, SUBJECT, UNSAID, RabbitDelivery, copy_of
from eventmicro_rabbitmq.said import check_meant, take_said
from eventmicro_rabbitmq.topology import LONGEST_HEADER_NAME, ROUTING_HEADERS, check_length

# The headers that are properties to RabbitMQ, in whatever case; of a call, whose correlation is its own, the first two.
OF_EVENTS = {name.lower(): place for place, name in enumerate((CONTENT_TYPE, CONTENT_ENCODING, CORRELATION_ID))}
OF_CALLS = {name: place for name, place in OF_EVENTS.items() if place < 2}

# For how long RabbitMQ keeps an event that expires, or holds one back, at most, in milliseconds.
LONGEST_TTL = 2**32 - 1
DAY = 24 * 3600
# The header by which an exchange of this type holds an event back, in milliseconds.
DELAY, DELAYED = "x-delay", "x-delayed-message"

Places = tuple[str | None, str | None, str | None]
"""What has a place of its own: content type, content encoding, correlation id."""


def properties_of(message: Message, id: str) -> Persistent | Copied | Limited:
    """The properties of an event that is published.

    Raises:
        UsageError: it has a header that RabbitMQ would obey, or does not take.
    """
    headers, now = message.headers, int(time())
    if not headers and not isinstance(message, Copy):
        return Persistent(id, message.content_type, None, UNSAID.get(message.content_type), since=now)
    if isinstance(message, Copy) and isinstance(message.of, RabbitDelivery):
        return _copy(message, message.of)
    (content_type, encoding, correlation), others = split(message.subject, headers or {}, OF_EVENTS)
    if content_type is None:
        content_type = message.content_type
        encoding = encoding or UNSAID.get(content_type)
    said = take_said(others)
    check_meant(message.subject, others)
    table: dict[str, Any] = others
    if DELAY in others:
        table = {**others, DELAY: _delay(message, others[DELAY])}
    plain = Persistent(id, content_type, table or None, encoding, correlation, now)
    return Limited(plain, said=said) if said else plain


def _delay(message: Message, text: str) -> int:
    """What the plug-in for delayed messages takes, and only where the exchange is one of its own.

    Raises:
        UsageError: it is not, or the delay is no number that RabbitMQ takes.
    """
    exchange = message.exchange if isinstance(message, Routed) else None
    if getattr(exchange, "kind", "") != DELAYED:
        raise UsageError(
            f"{message.subject}: metadata {DELAY} is for an exchange that delays, by RabbitMQ's plug-in: write "
            f"Topic(..., exchange=RabbitExchange(NAME, type={DELAYED!r}, arguments={{'x-delayed-type': 'topic'}})), or "
            f"name it otherwise"
        )
    if not text.isdecimal() or len(text) > len(str(LONGEST_TTL)) or int(text) > LONGEST_TTL:
        raise UsageError(
            f"{message.subject}: metadata {DELAY}={text[:20]!r}: write milliseconds, such as '5000', and no more than "
            f"{LONGEST_TTL}"
        )
    return int(text)


def limited(message: Message, plain: Properties) -> Properties:
    """The same with for how long an event is kept, and how urgent it is; of a copy neither.

    Raises:
        UsageError: it is to be kept for longer than RabbitMQ can.
    """
    if not isinstance(plain, Persistent | Limited) or not isinstance(message, Bounded):
        return plain
    if message.ttl is None and message.priority is None:
        return plain
    return Limited(plain, _milliseconds(message), message.priority)


def _milliseconds(message: Bounded) -> int | None:
    if message.ttl is None:
        return None
    if message.ttl * 1000 > LONGEST_TTL:
        days = LONGEST_TTL / 1000 / DAY
        raise UsageError(f"{message.subject}: ttl={message.ttl:g}: RabbitMQ takes up to {days:.0f} days; leave it out")
    return ceil(message.ttl * 1000)


def split(subject: str, headers: dict[str, str], places: dict[str, int]) -> tuple[Places, dict[str, str]]:
    """What has a place of its own among the properties, and the other headers.

    Raises:
        UsageError: as of `properties_of`.
    """
    placed: list[str | None] = [None, None, None]
    others = {}
    for name, value in headers.items():
        place = places.get(name.lower())
        if place is not None and placed[place] is None:
            placed[place] = check_length(value)
        else:
            others[check_header(subject, name)] = value
    return (placed[0], placed[1], placed[2]), others


def check_header(subject: str, name: str) -> str:
    """Return the name of a header, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if name in ROUTING_HEADERS:
        raise UsageError(f"{subject}: header {name} means further queues to RabbitMQ; name it otherwise")
    if len(name) > LONGEST_HEADER_NAME // 4 and len(name.encode()) > LONGEST_HEADER_NAME:
        raise UsageError(f"{subject}: header {name[:40]}…: names have up to {LONGEST_HEADER_NAME} bytes")
    return name


def _copy(message: Copy, of: RabbitDelivery) -> Copied:
    """A dead letter: the event as it was, and what is said of its end."""
    came = of.headers or {}
    said = {name: value for name, value in (message.headers or {}).items() if came.get(name) != value}
    added = {check_header(message.subject, name): value for name, value in said.items()}
    if message.queue is not None:  # which is its routing key
        added[SUBJECT] = message.subject
    return copy_of(of, added, without=came.keys() - (message.headers or {}).keys())


def is_letter(message: Message) -> bool:
    """Whether it is a dead letter, which must be kept somewhere."""
    return DEAD_QUEUE in (message.headers or ())


def is_for_one_queue(message: Copy) -> bool:
    """Whether it is to be handed to a queue past all exchanges: what it is of says under which subject it is known."""
    return message.queue is not None and isinstance(message.of, RabbitDelivery)
