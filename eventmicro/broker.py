"""The broker port: what an adapter promises, and all that the rest of eventmicro knows of a broker.

These comments are the specification; `eventmicro.conformance` holds every adapter to it, and docs/architecture.md
says how each promise maps to core NATS, JetStream, AMQP and Kafka.

Subjects are tokens with dots between. A subscription may hold wildcards: `*` stands for one token, a last `>` for one
or more. An adapter turns the subjects into its broker's own form and back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, Protocol, cast, runtime_checkable

from eventmicro.cloudevents import PLAIN, Binding
from eventmicro.large import StoredObject
from eventmicro.message import Delivery, Message
from eventmicro.places import Exchange, Place, Queue

# How long a publish waits for the broker, in seconds, where nothing else is said: a cluster may take eight of them to
# replace a leader.
PUBLISH_TIMEOUT = 10.0
# How many events that are not settled a durable subscription holds on this side, where nothing else is said.
PREFETCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker can do; asked for more, a service refuses to start instead of doing less.

    The suite in `eventmicro.conformance` proves what is declared, and that what is not declared is refused. The texts
    are for the table of brokers in the documentation.
    """

    request_reply: bool = False
    """`send` and `inbox` work: a message can name where its answer is awaited, so calls can run over this broker."""
    no_responders: bool = False
    """A request that nobody takes is answered at once, by header `Status: 503`."""
    queue_groups: bool = False
    """Subscriptions that name the same queue share the messages, each going to one of them."""
    broadcast: bool = False
    """Subscriptions that name no queue get every message, each."""
    wildcards: bool = False
    """A subscription may hold `*` and `>`."""
    durable: bool = False
    """`subscribe(..., durable=Durable())`: a queue keeps its events until they are settled, though nobody is there."""
    persistent: bool = False
    """What `publish` has returned for, and what a queue keeps, survives a broker that is killed and started again."""
    crash_attempts: bool = False
    """`attempt` also counts deliveries that were never settled, because the process died."""
    ordered: bool = False
    """`Durable.ordered`: the events of a queue go to one instance at a time, in the order of their publishing."""
    ordered_keys: bool = False
    """`Durable.ordered` holds for events of one `Message.key`; other keys may be with other instances. Where this is
    all that is there, without `ordered`, events without a key have no order, and a subscription says so once."""
    replay: bool = False
    """A new queue may start with all events that the broker still has, or those since a time: `Durable.start`."""
    dedupe: bool = False
    """An event that is published again under the same `Message.id` is not delivered again: `Durable.dedupe`."""
    objects: bool = False
    """Events over its limit can be published: it is one that `StoresObjects`, and their bodies are kept apart."""

    ttl: bool = False
    """A queue drops an event that nobody has begun with for as long as `Bounded.ttl` says; its dead letter is kept."""
    priority: bool = False
    """A queue that is made for it hands out those first, of what waits, whose `Bounded.priority` is higher."""

    cloudevents: Binding = PLAIN
    """How the attributes of a CloudEvent travel in headers; `Delivery.cloudevents` says the same of what comes."""

    order: str = ""
    """In which order a queue's events come."""
    delay: str = ""
    """How exactly the delay of a `nack` is kept."""
    attempts: str = ""
    """What `attempt` counts, and how."""
    twice: str = ""
    """What may be delivered twice, and when."""
    stored: str = ""
    """What a return of `publish` means."""
    more: str = ""
    """How more is to be had of the same server; a service that asks for more is told so."""

    def missing(self, needed: Capabilities) -> list[str]:
        """The names of what is needed and not here."""
        return [f.name for f in fields(self) if getattr(needed, f.name) is True and not getattr(self, f.name)]


Start = Literal["new", "all"] | datetime
"""What a queue begins with when it is made: what is published from now on, all that is kept, or all since a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """What a durable subscription asks of its broker.

    Its queue exists from the first `subscribe` on, also while nobody takes its events. Each event is handed over as a
    Delivery and stays with this subscription until it is settled, however long that takes: the adapter extends the
    broker's lease. It is delivered again where it was not settled: after a `nack`, when the connection was lost or
    closed, when the process has died; what was handed over before and is taken back, the adapter marks as
    `Delivery.lapsed`. The broker never gives an event up: who counts attempts is the subscriber.
    """

    prefetch: int = PREFETCH
    """How many events that are not settled this subscription may hold."""
    ordered: bool = False
    """Events go to one instance at a time, in order; one that is nacked comes again before any that was not handed
    over yet, and `nack` is then called without a delay."""
    start: Start = "new"
    """What the queue begins with, if this subscription makes it; a queue that exists goes on where it was."""
    dedupe: float | None = None
    """For how many seconds an event that is published again under the same id is recognised; None: not asked for."""
    timeout: float | None = None
    """How long a handler may take, in seconds; None: there is no bound. So long a broker waits that is to give an
    ordered queue's events to another instance while some are being handled here."""
    dead_letter: str | None = None
    """The subject to which those events go that are given up. What is published there is kept, in a queue of the same
    name: `subscribe(dead_letter, receive, queue=dead_letter, durable=Durable())` gets it all."""


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
        but what has arrived. Cancelling it drops what has not been handed over.
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
class LabelsEvents(Protocol):
    """What a broker has beside `Broker` whose protocol has a place of its own for what a message is written in: it is
    told that of each event, by `Message.content_type`. Without it nobody takes the trouble.
    """

    @property
    def labels_events(self) -> Literal[True]:
        """That it is so."""
        ...


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
