"""Queues that others have made: what can be known of them, and what of a durable subscription they cannot keep.

AMQP does not tell how a queue is made, but what is different where it is declared again, one argument at a time.
"""

from __future__ import annotations

import logging
import re

from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelPreconditionFailed

from eventmicro.errors import UsageError
from eventmicro_rabbitmq.connection.channel import Asking
from eventmicro_rabbitmq.errors import plain
from eventmicro_rabbitmq.topology import DELIVERY_LIMIT, Arguments

log = logging.getLogger(__name__)

# How RabbitMQ says what is different: "received the value '1' of type 'long' but current is none", "... is 'stream'".
INEQUIVALENT = re.compile(r"inequivalent arg '([^']+)' for (\w+) '([^']+)'.*?: received (.*?) but current is (.*)")
_VALUE = re.compile(r"(?:the value )?'(.*?)'(?: of type '(\w+)')?$")
# A queue has fewer arguments than this; more is asked for of none.
MOST_ARGUMENTS = 25
# With this no queue is made that is not there: it is for streams alone, which take no number for it. Where a queue is
# there it is not compared, or it alone is different.
UNMAKEABLE: Arguments = {"x-max-age": 0}
# From this version on a queue that has no limit of its own gives events up, after so many deliveries.
LIMITS, LIMIT_OF_4 = 4, 20

# The arguments that RabbitMQ compares where a queue is declared again; of others nothing is known.
COMPARED = frozenset(
    (
        "x-queue-type",
        "x-max-priority",
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-overflow",
        "x-delivery-limit",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-single-active-consumer",
    )
)
# How the events of a stream can be had all the same.
STREAM_MEND = "bind a queue of your own to the exchange beside it"

GO_WITH = {
    "auto_delete": "goes with its last consumer, and its events with it",
    "durable": "is gone when RabbitMQ starts again",
    "exclusive": "goes with the connection that has made it",
    "x-expires": "is deleted with its events when nobody consumes for a while",
}


async def look_at(ask: Asking, queue: str) -> Arguments | None:
    """The arguments of a queue that is there, and `durable` or `auto_delete` where these are not as they should be.

    It is declared as it is, but so that it cannot be made should it be gone meanwhile; None where it is, or where that
    is not allowed, so that nothing is known of it.
    """
    found: Arguments = {"x-queue-type": "classic"}  # without a type it would be that of the virtual host
    for _ in range(MOST_ARGUMENTS):
        async with ask(f"queue {queue!r}") as channel:
            try:
                await channel.queue_declare(queue, durable=True, arguments=found | UNMAKEABLE)
                return found
            except ChannelAccessRefused:
                return None
            except ChannelLockedResource:
                return {"exclusive": True}
            except ChannelPreconditionFailed as error:
                difference = INEQUIVALENT.search(plain(error))
        if difference is None:
            return None
        argument, current = difference[1], difference[5]
        if argument in UNMAKEABLE:
            return found
        if not argument.startswith("x-"):
            return {argument: current}
        found.pop(argument, None)
        if current != "none":
            found[argument] = _value(current)
    return None


def check_existing(queue: str, found: Arguments, *, ordered: bool, major: int = LIMITS) -> None:
    """Refuse a queue that cannot keep what a durable subscription promises, and warn of what policies may yet mend.

    Args:
        major: the first number of the server's version.

    Raises:
        UsageError: it cannot; the text says what is to be made otherwise.
    """
    why = _why_not(found) or (_why_not_ordered(found) if ordered else None)
    if why is not None:
        raise UsageError(f"queue {queue!r} {why}; or take another queue, or have it made with declare=true")
    for what in _what_it_loses(found, major) if "x-dead-letter-exchange" not in found else ():
        log.warning(
            "queue %s loses %s; give it a dead letter exchange, if no policy does", queue, what, extra={"queue": queue}
        )


def check_said(queue: str, found: Arguments, said: Arguments) -> None:
    """Refuse a queue of which something else is true than its subscriber says; more may be.

    Raises:
        UsageError: it is; the text says what.
    """
    for argument, value in said.items():
        if argument in COMPARED and found.get(argument) != value:
            is_now = found.get(argument, "not set")
            raise UsageError(
                f"queue {queue!r} is there, and its {argument} is {is_now}, not {value}: write RabbitQueue as it is, "
                f"or take another name"
            )


def check_live(queue: str, found: Arguments, said: Arguments) -> None:
    """Refuse a queue whose consumers do not share its events.

    Raises:
        UsageError: it is a stream, or otherwise than said.
    """
    if "stream" in (found.get("x-queue-type"), said.get("x-queue-type")):
        raise UsageError(f"queue {queue!r} is a stream, of which each consumer gets all: {STREAM_MEND}")
    if found:
        check_said(queue, found, said)


def _why_not(found: Arguments) -> str | None:
    for argument, why in GO_WITH.items():
        if argument in found:
            return f"{why}: make it durable, and without auto_delete, exclusive and x-expires"
    if found.get("x-queue-type") == "stream":
        return f"is a stream, which gives nothing back: {STREAM_MEND}, made with x-queue-type=quorum"
    return None


def _why_not_ordered(found: Arguments) -> str | None:
    if found.get("x-queue-type") != "quorum":
        return (
            "does not count deliveries, and a copy that says them would come behind: make it with x-queue-type=quorum"
        )
    for argument, why in (
        ("x-single-active-consumer", "goes to several instances at a time: make it with x-single-active-consumer=true"),
        ("x-delivery-limit", f"may put last what is given back: make it with x-delivery-limit={DELIVERY_LIMIT}"),
    ):
        if int(found.get(argument) or 0) <= 0:  # -1: no limit
            return f"keeps no order: it {why}"
    return None


def _what_it_loses(found: Arguments, major: int) -> list[str]:
    losses = []
    if "x-message-ttl" in found:
        losses.append(f"events that wait for longer than its x-message-ttl, {found['x-message-ttl']} ms")
    if {"x-max-length", "x-max-length-bytes"} & found.keys() and found.get("x-overflow", "drop-head") == "drop-head":
        losses.append("its oldest events where there are more than its x-max-length")
    limit = found.get("x-delivery-limit", LIMIT_OF_4 if major >= LIMITS else DELIVERY_LIMIT)
    if found.get("x-queue-type") == "quorum" and 0 <= limit < DELIVERY_LIMIT:
        losses.append(f"events that are delivered more than {limit} times, its x-delivery-limit")
    return losses


def _value(said: str) -> object:
    value = _VALUE.match(said)
    if value is None:
        return said
    text, kind = value.groups()
    if kind == "bool":
        return text == "true"
    return int(text) if kind not in (None, "longstr") and text.lstrip("-").isdigit() else text
