"""How subjects and queues look in RabbitMQ: names, routing keys, arguments. Nothing here talks to the server.

exchange (topic)       --subject-->     queue                       a durable subscription's events
exchange.dead (direct) --queue's name-> dead_letter                 what RabbitMQ itself gives up, see `queue_arguments`
(default)              --its name-->    queue.retry.<milliseconds>  nacked with a delay; returns to the queue
exchange.calls (topic) --subject-->     a queue of the subject's name, or one of a connection's own: calls
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from eventmicro.broker import Durable
from eventmicro.errors import Unsupported, UsageError
from eventmicro.wire import ENDPOINT_QUEUE

Arguments = dict[str, Any]

# RabbitMQ gives an event up after so many deliveries. It has to be set: without a limit a quorum queue puts what is
# nacked last instead of first, and RabbitMQ 4 gives up after 20.
DELIVERY_LIMIT = 1_000_000
# How long the queue of a group that keeps nothing is there without a consumer, where none has left it, in milliseconds.
LIVE_EXPIRES = 60_000
# The argument of an exchange that names the one to which goes what no queue takes, and of a queue that says how long a
# consumer may have an event, in milliseconds.
ALTERNATE = "alternate-exchange"
CONSUMER_TIMEOUT = "x-consumer-timeout"
# How often RabbitMQ looks who has had an event for too long, in seconds.
LOOKED_AT = 60.0
# The longest routing key or name, in bytes.
LONGEST_NAME = 255
# What the subjects begin with on which a connection awaits its replies.
INBOX = "_INBOX"
# Headers by which RabbitMQ sends a message to further queues.
ROUTING_HEADERS = ("CC", "BCC")
# The metadata that is said in a property of an event that is published, by its name.
SAID = {"amqp-type": "type", "amqp-app-id": "app_id", "amqp-reply-to": "reply_to", "amqp-user-id": "user_id"}
# Headers that say something to RabbitMQ, its plug-ins or us rather than to whoever handles the event, or that they add.
# On a copy they would be obeyed once more: sent to further queues, delayed, taken for a duplicate, not federated; or,
# where a handler publishes with the metadata that it got, be said in a peer's name, which RabbitMQ refuses.
ORDERS = (
    *ROUTING_HEADERS,
    *SAID,
    "x-delay",
    "x-cache-ttl",
    "x-received-from",
    "x-eventmicro-attempts",
    "x-eventmicro-subject",
)
ORDERS_BEGIN = (
    "x-delivery-count",
    "x-acquired-count",
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-opt-",
    "x-stream-",
    "x-deduplication-",
    "x-shovelled",
    "x-mqtt-",
    "x-amqp-1.0-",
)
# The longest name of a header that AMQP takes, in bytes.
LONGEST_HEADER_NAME = 128
# What the names of queues and exchanges are made of; RabbitMQ would take more, but pamqp does not.
NAME = re.compile(r"[a-zA-Z0-9_.:@#,/+ -]+")


def dead_exchange(exchange: str) -> str:
    """The exchange for what RabbitMQ itself gives up."""
    return f"{exchange}.dead"


def call_exchange(exchange: str) -> str:
    """The exchange for calls."""
    return f"{exchange}.calls"


def call_queue(subject: str) -> str:
    """The name of the queue that the instances share which answer calls on this subject: so that it can be called by
    the queue's name alone, it is the same.

    Raises:
        UsageError: it is too long.
    """
    return check_length(_as_name(subject))


def exchanges_of(exchange: str, subject: str) -> list[str]:
    """Where the messages come from that are calls on a subject: an event on it is one, without an answer; none is
    published where a token begins with $.
    """
    calls = call_exchange(exchange)
    return [calls] if _is_internal(subject) else [calls, exchange]


def is_of_calls(subject: str, queue: str | None) -> bool:
    """Whether a subscription is to what is sent, and not to what is published: to one's own endpoints, or subjects."""
    return queue == ENDPOINT_QUEUE or (queue is None and (_is_internal(subject) or subject.startswith(f"{INBOX}.")))


def _is_internal(subject: str) -> bool:
    return subject.startswith("$") or ".$" in subject


def binding_key(subject: str) -> str:
    """A subject to subscribe to, as the key of a binding.

    `#` is zero or more tokens, where `>` is one or more.

    Raises:
        UsageError: it is too long, or a token of it means something else to RabbitMQ.
    """
    if "#" in subject.split("."):
        raise UsageError(f"subject {subject!r}: '#' is a wildcard to RabbitMQ; write '>' for it, or another name")
    return check_length(f"{subject[:-1]}*.#" if subject == ">" or subject.endswith(".>") else subject)


def check_length(name: str) -> str:
    """Return the name, if it is not too long for RabbitMQ.

    Raises:
        UsageError: it is.
    """
    if len(name) > LONGEST_NAME // 4 and len(name.encode()) > LONGEST_NAME:
        raise UsageError(f"{name[:60]!r}…: RabbitMQ takes names and subjects of up to {LONGEST_NAME} bytes")
    return name


def message_id(id: str) -> str:
    """An event's id as RabbitMQ takes it: a hash of one that is too long, by which the event is known just as well."""
    if len(id) > LONGEST_NAME // 4 and len(id.encode()) > LONGEST_NAME:
        return sha256(id.encode()).hexdigest()
    return id


def check_name(name: str, what: str) -> str:
    """Return the name of a queue or an exchange, if it can be one.

    Raises:
        UsageError: it is too long, or has other signs.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{what} {name!r}: write letters, digits, spaces and _ - . : @ # , / + only")
    return check_length(name)


def is_order(header: str) -> bool:
    """Whether a header is no part of an event, so that no copy of it bears it."""
    return header in ORDERS or header.startswith(ORDERS_BEGIN)


def retry_queue(queue: str, milliseconds: int) -> str:
    """The name of the queue in which the events of `queue` wait so long.

    Raises:
        UsageError: it is too long.
    """
    return check_length(f"{queue}.retry.{milliseconds}")


def queue_arguments(exchange: str, queue: str, *, ordered: bool = False) -> Arguments:
    """The arguments of a durable queue.

    They are the same for all but ordered queues, because a queue cannot be declared again with others. What RabbitMQ
    gives up, by the limit or by a policy, goes to the queue that is bound to the dead exchange under this queue's name,
    and where there is none it is kept.
    """
    arguments: Arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-overflow": "reject-publish",  # without it dead letters are not safe
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": dead_exchange(exchange),
        "x-dead-letter-routing-key": queue,
    }
    return arguments | {"x-single-active-consumer": True} if ordered else arguments


def placed_arguments(exchange: str, queue: str, said: Arguments, *, ordered: bool = False) -> Arguments:
    """The arguments of a durable queue that its subscriber describes: what is said, and what keeps its events."""
    if said.get("x-queue-type", "quorum") == "quorum":
        return queue_arguments(exchange, queue, ordered=ordered) | said
    kept: Arguments = {
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": dead_exchange(exchange),
        "x-dead-letter-routing-key": queue,
    }
    return kept | said


def handling_arguments(timeout: float | None, consumer_timeout: float) -> Arguments:
    """What lets a consumer have an event for as long as it may be handled, where RabbitMQ by itself would not: it may
    wait as long for its turn. RabbitMQ does not compare it, so that it may differ from what a queue was made with.
    """
    if timeout is None or 2 * timeout <= consumer_timeout:
        return {}
    return {CONSUMER_TIMEOUT: int((2 * timeout + LOOKED_AT) * 1000)}


def retry_arguments(queue: str, milliseconds: int) -> Arguments:
    """The arguments of a queue in which events wait, to return to `queue`.

    It never expires: RabbitMQ would delete it with its events in it.
    """
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": milliseconds,
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }


def live_arguments(pending_messages: int, *, shared: bool = False) -> Arguments:
    """The arguments of the queue of a subscription that is not durable.

    One that is shared is durable all the same, since RabbitMQ 4 takes no others of more than one connection; it expires
    where nobody comes back to it after the server has started again.
    """
    arguments: Arguments = {"x-max-length": pending_messages}
    return arguments | {"x-queue-type": "classic", "x-expires": LIVE_EXPIRES} if shared else arguments


def live_queue(exchange: str, queue: str, subject: str) -> str:
    """The name of the queue that members of a group share that keeps nothing.

    Raises:
        UsageError: it is too long.
    """
    return check_length(f"{exchange}.live.{_as_name(queue)}.{_as_name(subject)}")


def check_supported(durable: Durable) -> None:
    """Raise Unsupported for what RabbitMQ cannot do."""
    if durable.start != "new":
        raise Unsupported(
            f"start={durable.start!r}: RabbitMQ keeps no events that no queue took; jetstream:// and kafka:// do"
        )
    if durable.dedupe is not None:
        raise Unsupported("dedupe: RabbitMQ does not recognise an event that is published again; jetstream:// does")
    if durable.transactional:
        raise Unsupported(
            "transactional: RabbitMQ's transactions are of one channel, and take in no acknowledgement of another one; "
            "kafka:// can"
        )


def _as_name(text: str) -> str:
    """Any text, such as a subject with wildcards, as part of a name; different texts remain different."""
    return "".join(
        sign if sign != "@" and NAME.fullmatch(sign) else "".join(f"@{byte:02x}" for byte in sign.encode())
        for sign in text
    )
