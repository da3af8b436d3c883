"""What a broker may have beside `Broker`: who needs one of these looks whether it is there, and does without if not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, cast, runtime_checkable

from eventmicro.broker.port import PUBLISH_TIMEOUT, Broker, Receive, Subscription
from eventmicro.broker.promises import Durable, Start
from eventmicro.large import StoredObject
from eventmicro.message import Delivery, Message
from eventmicro.places import Exchange, Place, Queue


@runtime_checkable
class SendsAtOnce(Protocol):
    """What a broker has beside `Broker` where as a rule nothing has to be waited for: the same without a coroutine.

    Each returns whether it was done. Where not, for whatever reason, nothing was: `publish` or `send` does it, and says
    what is wrong. They raise what those raise, but never Disconnected or Unconfirmed.
    """

    def try_publish(self, message: Message) -> bool:
        """Publish an event, as `publish` does."""
        ...

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        """Send a request or a reply, as `send` does."""
        ...


def sends_at_once(broker: Broker) -> SendsAtOnce | None:
    """The broker, where it can send at once; None where it cannot, or where somebody has put a `publish` or `send` of
    his own in the place of those that belong to it, which is not to be passed by.
    """
    if getattr(broker, "try_publish", None) is None or getattr(broker, "try_send", None) is None:
        return None  # much sooner than isinstance says it
    for name in ("publish", "send"):
        parts = (broker, *type(broker).__mro__)
        home = next((part for part in parts if {name, f"try_{name}"} & _own(part)), None)  # None: it is another's
        if f"try_{name}" not in _own(home):
            return None
    return cast("SendsAtOnce", broker)


def _own(part: object) -> AbstractSet[str]:
    """What an object or a class has that is no other's."""
    return getattr(part, "__dict__", {}).keys()


@runtime_checkable
class LabelsEvents(Protocol):
    """What a broker has beside `Broker` whose protocol has a place of its own for what a message is written in: it is
    told that of each event, by `Message.content_type`. Without it nobody takes the trouble.
    """

    @property
    def labels_events(self) -> Literal[True]:
        """That it is so."""
        ...


@runtime_checkable
class PublishesAndAcks(Protocol):
    """What a broker has beside `Broker` that can publish events and acknowledge others in one transaction:
    `Capabilities.transactions`.
    """

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        """Publish events, in their order, and acknowledge others: all of it, or nothing at all.

        When it returns it is so, and no later settlement counts. Where the deliveries are not this side's any more, as
        those are that lapsed, it returns and nothing is done: they are delivered again. Whoever is cancelled when the
        broker may have it already returns when it is known, and raises only if nothing was done.

        Args:
            messages: one at least.
            deliveries: of one subscription, that is `Durable.transactional`; they are not settled.

        Raises:
            MessageTooLarge, NotStored, Disconnected, UsageError: as of `publish`; nothing was done, and they are to be
                settled otherwise.
        """
        ...


@runtime_checkable
class StoresObjects(Protocol):
    """What a broker has beside `Broker` that can keep the body of an event apart, as an object: `Capabilities.objects`.

    An object is there for all who have the event that refers to it, as long as the broker is set to keep it.
    """

    def fits(self, message: Message) -> bool:
        """Whether an event can surely be published as it is; near the limit it may say no."""
        ...

    async def store_object(self, body: bytes, digest: str, *, timeout: float) -> StoredObject:
        """Store a body under a name of its own; it is stored whole when this returns.

        Args:
            digest: its SHA-256, in hexadecimal.
            timeout: how long to wait for the broker, in seconds, a lost connection included.

        Raises:
            Disconnected, Unconfirmed, NotStored: as of `Broker.publish`; what is left of it is kept for no longer.
        """
        ...

    async def fetch_object(self, stored: StoredObject) -> bytes:
        """The body that is stored so; no more of it is read than its size. The caller checks its digest.

        Raises:
            BodyMissing: it is not there, or not there any more, or it is longer.
            TransportError, UsageError: it could not be read now, for a reason that may pass.
        """
        ...


@runtime_checkable
class ReadsKept(Protocol):
    """What a broker has beside `Broker` where the events that it keeps can be looked at: with `Capabilities.replay`."""

    def read_kept(self, subject: str, start: Start) -> AsyncGenerator[Delivery, None]:
        """The events of a subject that are kept by the time of the first step, in their order, since `start`.

        Nothing is made on the broker for it, and nobody else gets less. No more than some hundred events are here at a
        time. There is nothing to settle. Where nothing is kept, or there is no such subject, it ends at once.

        Args:
            subject: it may have wildcards, where the broker knows any.

        Raises:
            Disconnected: never connected, closed, or away.
            UsageError: the server does not let these be read; it names the right that is missing.
        """
        ...


@runtime_checkable
class HasPlaces(Protocol):
    """What a broker has beside `Broker` that has places of its own kind, which a topic or a subscriber may describe:
    see `eventmicro.places`. Without it they are refused, and never get here; so are those of another kind.

    `publish` and `publish_many` publish an event that is `eventmicro.message.Routed` to its exchange. A `declare` takes
    `exchange` and `place` as `subscribe` does.
    """

    @property
    def places(self) -> tuple[type[Place], ...]:
        """The kinds of places that it knows."""
        ...

    async def subscribe(
        self,
        subject: str,
        receive: Receive,
        *,
        queue: str | None = None,
        durable: Durable | None = None,
        exchange: Exchange | None = None,
        place: Queue | None = None,
    ) -> Subscription:
        """As `Broker.subscribe`: to events that come from `exchange`, kept in `place`, of which `queue` is the name.

        What is there already is used as it is, if it can keep what is promised, and never changed.

        Raises:
            UsageError: it cannot, or it is described otherwise than it is; the text says what to do.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bindings:
    """Where the messages of a subscription come from and are kept, for those who are to read or write them."""

    exchange: str
    """What routes them to their queue, by its name."""
    channel: Mapping[str, Any]
    """How they are published, as AsyncAPI's bindings of a channel, by the protocol."""
    operation: Mapping[str, Any]
    """How they are kept, as AsyncAPI's bindings of an operation."""


@runtime_checkable
class TellsBindings(Protocol):
    """What a broker has beside `Broker` where a subject alone does not say where its messages are: it is told in
    records and documents of services.
    """

    def bindings(
        self,
        subject: str,
        *,
        queue: str | None = None,
        durable: Durable | None = None,
        exchange: Exchange | None = None,
        place: Queue | None = None,
    ) -> Bindings:
        """Where the messages of a subscription are, which `subscribe` would make of these words; known before
        `connect`.

        Raises:
            UsageError: there can be none such.
        """
        ...


@runtime_checkable
class ChecksNames(Protocol):
    """What a broker has beside `Broker` that can say without a connection what it would refuse: `eventmicro check`."""

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        """Refuse what `subscribe` would refuse of the same, on every server.

        Raises:
            Unsupported, UsageError: as `subscribe`.
        """
        ...


@runtime_checkable
class DeclaresQueues(Protocol):
    """What a broker has beside `Broker` where something is to be made before events are kept: `eventmicro declare`."""

    async def declare(
        self, subject: str, *, queue: str | None = None, durable: Durable | None = None, change: bool = False
    ) -> Mapping[str, bool]:
        """Make what `subscribe` with the same would make, and take no events; without a queue what `publish` needs.

        Args:
            change: also change what is there and made otherwise, where this broker can without losing an event; else
                it is refused as ever.

        Returns:
            What is there now, such as `queue orders.bill`, and whether it is new.

        Raises:
            Disconnected, Unsupported, UsageError: as `subscribe`.
        """
        ...


@runtime_checkable
class DeclaresCalls(Protocol):
    """What a broker has beside `Broker` where something is to be made before calls are: `eventmicro declare`."""

    async def declare_calls(self) -> Mapping[str, bool]:
        """Make what `send`, and `subscribe` for calls, would make; what it returns and raises is as of `declare`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """What a broker says of a durable queue at a moment; None stands for what it does not say."""

    queue: str
    waiting: int | None = None
    """How many events wait that no consumer has."""
    unsettled: int | None = None
    """How many are with a consumer, or were given back and are about to be delivered again."""
    consumers: int | None = None
    """How many are connected that take its events, or ask for some."""
    oldest: datetime | None = None
    """When the oldest event was stored that is not settled."""


@runtime_checkable
class TellsQueues(Protocol):
    """What a broker has beside `Broker` that says how it is with its durable queues. Asking makes and changes nothing.

    Both raise Disconnected where the broker does not answer, and UsageError where this user may not ask.
    """

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        """How it is with a queue; None: there is none of this name.

        Args:
            subject: whose events it keeps, where that is known; it is found sooner then.
        """
        ...

    async def queue_states(self) -> Sequence[QueueState] | None:
        """All that there are, by name; None: this broker lists none, only those can be asked for that are known."""
        ...


@runtime_checkable
class CountsReconnects(Protocol):
    """What a broker has beside `Broker` that counts how often its connection was lost and is there again."""

    @property
    def reconnects(self) -> int:
        """How often, since the object was made; a first connect is none."""
        ...


@runtime_checkable
class StoresRequests(Protocol):
    """What a broker has beside `Broker` where something in it may store a request, and confirm that to the caller.

    Such a confirmation is no reply. What may be one is handed over with the headers `Status`, which is
    `eventmicro.wire.STORED`, a value that no peer's header can have, and `Description`, the name of what stores it,
    beside what else it has; the caller asks `stores` for the request's subject whether it is one, and goes on waiting
    for the service.
    """

    async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
        """The names of what stores a message that is sent to these subjects, by subject; those that nothing stores are
        left out. None: that cannot be known here, or not within a moment. It never raises but for a cancellation.
        """
        ...


@runtime_checkable
class TellsUnreached(Protocol):
    """What a broker has beside `Broker` where somebody may be there who answers calls, and no call gets there."""

    async def unreached(self, subject: str) -> str:
        """What is there for calls on a subject that nobody has taken, and how they get there; empty where nothing is,
        or that cannot be known soon. It never raises but for a cancellation.
        """
        ...
