"""Where the answer to a request goes: RabbitMQ's reply_to and correlation_id, as the one subject that a call has."""

from __future__ import annotations

import logging
import re
from base64 import b64decode
from functools import lru_cache

from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.consuming.incoming import DIRECT_REPLY
from eventmicro_rabbitmq.topology import INBOX

log = logging.getLogger(__name__)

# With what an address begins that RabbitMQ makes of DIRECT_REPLY.
_DIRECT = f"{DIRECT_REPLY}."
# An Erlang process as such an address names it: its node, with the length before it, and three numbers.
_PROCESS = re.compile(rb"\x83(?:X(?:[vd](..)|[ws](.))(.*).{12}|g(?:[vd](..)|[ws](.))(.*).{9})", re.DOTALL)


class ReplyAddress(str):
    """The subject to which a request is to be answered, and what that is to RabbitMQ.

    As a text it is what its caller names it by: the correlation id, behind which is the time that it has.

    queue: to which queue of the default exchange the answer goes.
    correlation_id: what the answer bears, so that its caller finds the call.
    """

    __slots__ = ("correlation_id", "queue")

    queue: str
    correlation_id: str

    @property
    def is_direct(self) -> bool:
        """Whether it needs no queue. RabbitMQ then says of each mandatory answer that nobody has got it."""
        return self.queue.startswith(_DIRECT)


def reply_address(name: str, queue: str, correlation_id: str) -> ReplyAddress:
    address = ReplyAddress(name)
    address.queue, address.correlation_id = queue, correlation_id
    return address


def reply_of(properties: Properties) -> str:
    """Where the answer to a message goes; empty where none is asked for, or at an address that is none."""
    queue, correlation = properties.reply_to, properties.correlation_id or ""
    if not queue:
        return ""
    if queue == correlation and queue.startswith(f"{INBOX}."):  # a subject, of one of us; others may write the same
        return queue
    if queue.startswith(DIRECT_REPLY) and not is_direct_address(queue):
        log.debug("a request is not answered: its reply_to, %.100r, is no address that RabbitMQ has made", queue)
        return ""
    name, expiration = correlation or queue, properties.expiration
    if expiration and name[-2:] != "ms" and expiration.isdecimal():
        name = f"{name}.{expiration}ms"
    return reply_address(name, queue, correlation)


@lru_cache(maxsize=4096)
def is_direct_address(text: str) -> bool:
    """Whether a text that a peer has written can be an address for a direct reply.

    RabbitMQ ends the whole connection of who publishes to one that cannot.
    """
    process, _, _ = text.removeprefix(_DIRECT).partition(".")
    if not text.startswith(_DIRECT):
        return False
    try:
        found = _PROCESS.fullmatch(b64decode(process, validate=True))
    except ValueError:
        return False
    if found is None:
        return False
    wide, narrow, node = found.groups()[:3] if found[3] is not None else found.groups()[3:]
    return int.from_bytes(wide or narrow, "big") == len(node)
