"""Requests and replies as RabbitMQ has them: where they go, and what they say beside their body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from eventmicro.wire import JSON, OCTET_STREAM
from eventmicro_rabbitmq.calls.addresses import ReplyAddress
from eventmicro_rabbitmq.connection.properties import describe
from eventmicro_rabbitmq.consuming.incoming import DIRECT_REPLY
from eventmicro_rabbitmq.outgoing import OF_CALLS, split
from eventmicro_rabbitmq.topology import check_length

# A body that begins so is taken for JSON where nobody says what it is; a short one, where it is a number or a constant.
_BEGINS_JSON = b'{["'
_SHORT_JSON = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null")
_SHORT = 32
# How many digits of milliseconds RabbitMQ takes as an expiration, less one.
_LONGEST_TIME = 10


class Outgoing(NamedTuple):
    """A request or a reply, written but for the channel."""

    exchange: str
    key: str
    described: bytes
    body: bytes
    mandatory: bool


def write(
    exchange: str, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str, *, direct: bool
) -> Outgoing:
    """What is sent to a subject.

    Args:
        exchange: the one for calls.
        reply: the subject on which an answer is awaited; empty where none is.
        direct: whether that is one of the sender's own, on which direct replies are handed over.

    Raises:
        UsageError: it cannot be sent.
    """
    content_type: str | None = None
    encoding: str | None = None
    others: dict[str, str] | None = None
    if headers:
        (content_type, encoding, _), others = split(subject, dict(headers), OF_CALLS)
    if content_type is None and body:
        content_type = _look(body)
    if isinstance(subject, ReplyAddress):  # a mandatory direct reply would come back, though it is delivered
        described = describe(
            content_type, encoding, others, correlation_id=subject.correlation_id, message_id=check_length(reply)
        )
        return Outgoing("", subject.queue, described, body, bool(reply) and not subject.is_direct)
    if not reply:
        return Outgoing(exchange, check_length(subject), describe(content_type, encoding, others), body, False)
    described = describe(
        content_type,
        encoding,
        others,
        correlation_id=check_length(reply),
        reply_to=DIRECT_REPLY if direct else reply,
        expiration=_time_of(reply),
    )
    return Outgoing(exchange, check_length(subject), described, body, True)


def _time_of(reply: str) -> str:
    """The milliseconds that the caller waits, as its reply subject says; empty where that says nothing."""
    time = reply[reply.rfind(".") + 1 : -2] if reply[-2:] == "ms" else ""
    return time if time.isdecimal() and len(time) < _LONGEST_TIME else ""


def _look(body: bytes) -> str | None:
    """What a body is written in that names nothing: JSON, or bytes as they are."""
    if body[0] in _BEGINS_JSON or (len(body) <= _SHORT and _SHORT_JSON.fullmatch(body)):
        return JSON
    return OCTET_STREAM
