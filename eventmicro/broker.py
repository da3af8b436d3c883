"""The broker port: what an adapter promises, and all that the rest of eventmicro knows of a broker.

These comments are the specification; `eventmicro.conformance` holds every adapter to it, and docs/architecture.md
says how each promise maps to core NATS, JetStream, AMQP and Kafka.

Subjects are tokens with dots between. A subscription may hold wildcards: `*` stands for one token, a last `>` for one
or more. An adapter turns the subjects into its broker's own form and back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Protocol

from eventmicro.message import Delivery, Message


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do; asked for more, a service refuses to start instead of doing less."""

    request_reply: bool = False
    """`inbox()` works: a message can name where its answer is awaited, so calls can run over this broker."""
    no_responders: bool = False
    """A message with a reply subject that nobody takes is answered at once, by header `Status: 503`."""
    queue_groups: bool = False
    """Subscriptions that name the same queue share the messages, each going to one of them."""
    broadcast: bool = False
    """Subscriptions that name no queue get every message, each."""
    wildcards: bool = False
    """A subscription may hold `*` and `>`."""

    def missing(self, needed: Capabilities) -> list[str]:
        """The names of what is needed and not here."""
        return [f.name for f in fields(self) if getattr(needed, f.name) and not getattr(self, f.name)]


Receive = Callable[[Delivery], Awaitable[None] | None]
"""What a subscription hands its messages to, one after the other, in the order in which the broker delivered them.

It returns at once and never raises. None: the message is dealt with, or its handler goes on by itself. An awaitable:
there is no room for more; the adapter waits for it before it hands over the subscription's next message, and lets
the broker, its client or the publisher hold them meanwhile, within a bound.
"""


class Subscription(Protocol):
    """One interest in a subject, from `Broker.subscribe` until `drain` or the broker's `close`."""

    @property
    def dropped(self) -> int:
        """How many messages this subscription lost on this side because its consumer was too slow."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it takes no more: it was drained, or its broker closed."""
        ...

    async def drain(self) -> None:
        """Take no more; return when all that the broker had already sent here has been handed over.

        A second call returns at once or waits for the first. While the broker is away there is nothing to wait for
        but what has arrived. Cancelling it drops what has not been handed over.
        """
        ...


class Broker(Protocol):
    """A connection to a message broker. It opens nothing before `connect`.

    One object serves one event loop. Its methods may run concurrently with one another. After a lost connection it
    reconnects by itself, for as long as it takes, and takes its subscriptions up again.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this broker can do; known before `connect`."""
        ...

    @property
    def url(self) -> str:
        """Where it is, without passwords, fit for a log."""
        ...

    @property
    def connected(self) -> bool:
        """True from `connect` to `close`, also while a lost connection is being re-made."""
        ...

    async def connect(self) -> None:
        """Connect, within the adapter's connect timeout. Connected already: nothing happens.

        Raises:
            ConnectionFailed: no broker answered in time, or it refused; nothing is left open.
        """
        ...

    async def close(self) -> None:
        """Send what was published, within a few seconds, then close. Handlers that still run are not waited for.

        Never connected or closed already: nothing happens. It can be connected again, without its subscriptions.
        """
        ...

    async def publish(self, message: Message) -> None:
        """Give a message to the broker.

        What a return means is the broker's weakest common promise, at most once: it was handed to the connection, in
        the order of the calls. It waits where the connection cannot take more, and never without end.

        Raises:
            MessageTooLarge: over the broker's limit; nothing was sent.
            Disconnected: never connected, closed, or away for so long that the outgoing buffer is full; not taken.
        """
        ...

    async def subscribe(self, subject: str, receive: Receive, *, queue: str | None = None) -> Subscription:
        """Hand every message on `subject` to `receive`; with `queue`, share them with all who name the same queue.

        When `flush` has returned after it, messages published from anywhere do arrive.

        Raises:
            Disconnected: never connected, or closed.
        """
        ...

    def inbox(self) -> str:
        """A subject that nobody else has, for replies: this connection subscribes below it, others send there.

        Only with `Capabilities.request_reply`.
        """
        ...

    async def flush(self) -> None:
        """Return when the broker has taken in all that was published and subscribed before, within a few seconds.

        Raises:
            Disconnected: the broker did not answer in time; whether it took all of it is not known.
        """
        ...
