"""A Message as a record of Kafka, and a record's headers as those of a Delivery."""

from __future__ import annotations

from eventmicro.errors import MessageTooLarge, Unsupported
from eventmicro.message import Copy, Message, Tombstone
from eventmicro_kafka.received import RecordDelivery

# The header that bears `Message.id`, where one was given.
ID = "Message-Id"
# What a record takes beside its key, headers and body, in bytes; each header takes a little, too.
OVERHEAD = 70
HEADER_OVERHEAD = 10

Headers = list[tuple[str, bytes]]
NONE: Headers = []

Record = tuple[bytes | None, Headers]
"""What a message has beside its topic and body: key and headers."""


def to_record(message: Message, limit: int) -> Record:
    """A message as Kafka has it.

    Raises:
        MessageTooLarge: with its key and headers it is over the limit, in bytes.
        Unsupported: it names a subject for replies.
    """
    if message.reply:
        raise Unsupported("Kafka carries no calls; call over nats:// or memory://")
    headers = _headers(message) if message.headers or message.id is not None else NONE
    key = None if message.key is None else message.key.encode("utf-8", "surrogateescape")
    _check_size(message, key, headers, limit)
    return key, headers


def value_of(message: Message) -> bytes | None:
    """The value of its record: the body, or none at all, as in a tombstone and in a copy of one."""
    if isinstance(message, Tombstone) or (isinstance(message, Copy) and message.of.null):
        return None
    return message.body


def _headers(message: Message) -> Headers:
    text = message.headers or {}
    if isinstance(message, Copy) and isinstance(message.of, RecordDelivery):
        headers = _as_they_came(text, message.of)
    else:
        headers = [(name, value.encode()) for name, value in text.items()]
    if message.id is not None:
        headers.append((ID, message.id.encode()))
    return headers


def _as_they_came(text: dict[str, str], of: RecordDelivery) -> Headers:
    """Headers of a copy: those that its event came with, also where they are no text or repeat; what was added."""
    came = of.headers or {}
    same = {name for name, value in text.items() if came.get(name) == value}
    kept = [(name, value) for name, value in of.record.headers if name in same] if of.record is not None else []
    there = {name for name, _ in kept}
    return kept + [(name, value.encode()) for name, value in text.items() if name not in there]


def _check_size(message: Message, key: bytes | None, headers: Headers, limit: int) -> None:
    size = OVERHEAD + len(message.body) + (0 if key is None else len(key))
    for name, value in headers:
        size += HEADER_OVERHEAD + 3 * len(name) + len(value or b"")
    if size > limit:
        raise MessageTooLarge(f"{message.subject}, {size} bytes with key and headers: over the {limit} of max_message")


def id_of(headers: Headers) -> str | None:
    """`Message.id` of what was published; None where it had none."""
    return next((value.decode("utf-8", "replace") for name, value in headers if name == ID and value), None)


def delivery_headers(headers: Headers) -> dict[str, str] | None:
    """A record's headers as text, those that were published; of several under one name the last."""
    if not headers:
        return None
    found = {name: value.decode("utf-8", "replace") if value else "" for name, value in headers if name != ID}
    return found or None
