"""The port itself: a broker, a subscription, and what takes its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from eventmicro.broker.promises import Capabilities, Durable
from eventmicro.message import Delivery, Message

# How long a publish waits for the broker, in seconds, where nothing else is said: a cluster may take eight of them to
# replace a leader.
PUBLISH_TIMEOUT = 10.0

Receive = Callable[[Delivery], Awaitable[None] | None]
"""What a subscription hands its messages to, one after the other, in the order in which the broker delivered them.

It returns at once and never raises. None: the message is dealt with, or its handler goes on by itself. An awaitable:
there is no room for more; the adapter waits for it before it hands over the subscription's next message, and
lets the broker, its client or the publisher hold them meanwhile, within a bound. At a drain or close it may cancel it.
"""


@runtime_checkable
class ReceivesMany(Protocol):
    """A `Receive` that also takes messages that came together: decoded one after the other, and then handled, they
    cost a good part less, as each kind of work finds its code and data at hand.

    An adapter may use it or not; `eventmicro.intake` does.
    """

    def __call__(self, delivery: Delivery, /) -> Awaitable[None] | None: ...

    def many(self, line: deque[Any], /) -> Awaitable[None] | None:
        """Take some of the deliveries that wait in line, out of it from the left, as if each was handed over.

        It takes one at least, and no more than others can wait for. It returns as a `Receive` does for the last one
        that it took; None says that the next may come at once. The line may change while a handler runs: what was
        taken back meanwhile is not handled.
        """
        ...


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

        A durable subscription gives back what has not been handed over yet; what has been can still be settled.

        A second call returns at once or waits for the first. While the broker is away there is nothing to wait for
        but what has arrived. Cancelled, it goes on though nobody waits for it; the broker's `close` ends it, and drops
        what has not been handed over.
        """
        ...


class Broker(Protocol):
    """A connection to a message broker. It opens nothing before `connect`.

    One object serves one event loop, from `connect` to `close`; from another one its methods raise UsageError at once,
    see `eventmicro.lifetime`. They may run concurrently with one another. After a lost connection it reconnects by
    itself, for as long as it takes, and takes its subscriptions up again.
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

    @property
    def online(self) -> bool:
        """Whether the connection stands at this moment, as far as is known."""
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

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        """Publish an event: to every queue of its subject, and to every subscription without one.

        It returns when the broker has taken it; with `Capabilities.persistent` it is stored by then. A lost connection
        is waited for, up to `timeout` seconds in all. What one caller publishes one after the other keeps its order.

        Raises:
            MessageTooLarge: over the broker's limit; nothing was sent.
            Disconnected: never connected, closed, or the broker was away all the time; it was not taken.
            Unconfirmed: it was sent, and the broker did not confirm it in time; whether it has it is not known.
            NotStored: the broker refused it, and says why.
        """
        ...

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        """Publish events in their order, waiting once for all: as `publish` for each, only faster.

        Raises:
            NotAllPublished: some were not confirmed; it says which, and why. The others are.
        """
        ...

    async def send(self, message: Message) -> None:
        """Send a request or a reply: to whoever listens now, at most once. Only with `Capabilities.request_reply`.

        It returns when the message was handed to the connection, in the order of the calls. It waits where the
        connection cannot take more, and never without end.

        Raises:
            MessageTooLarge: over the broker's limit; nothing was sent.
            Disconnected: never connected, closed, or away for so long that the outgoing buffer is full; not taken.
        """
        ...

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Subscription:
        """Hand every message on `subject` to `receive`; with `queue`, share them with all who name the same queue.

        Without `durable` it gets what is published while it is there, at most once. With `durable`, which needs a
        queue, events are kept and settled. When `flush` has returned after it, what is published anywhere does arrive.

        Raises:
            Disconnected: never connected, or closed.
            Unsupported: `durable` asks for what the broker cannot do.
            UsageError: the queue exists and is made otherwise than asked for, or it may not be made from here.
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
