"""What travels: a Message on its way out, a Delivery on its way in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from eventmicro.cloudevents import PLAIN, Binding
from eventmicro.places import Exchange


@dataclass(slots=True)
class Message:
    """One message for a broker: encoded, addressed, ready to send."""

    subject: str
    body: bytes = b""
    headers: dict[str, str] | None = None
    reply: str = ""
    """Where an answer is awaited; empty where none is."""
    key: str | None = None
    """What an event belongs to; on brokers that spread a subject over partitions, those of one key keep their order."""
    id: str | None = None
    """The event's name, given by who publishes it: a broker that can tell stores it once, though it is sent again."""
    content_type: str | None = None
    """What an event's body is written in, though its headers do not say so, for brokers whose protocol has a place of
    its own for that, `eventmicro.broker.LabelsEvents`; None: it is not known here."""


@dataclass(slots=True)
class Bounded(Message):
    """An event whose topic says for how long it is of use, or how urgent it is; only for a broker that keeps what is
    said: `Capabilities.ttl`, `Capabilities.priority`."""

    ttl: float | None = None
    """For how many seconds a queue keeps it until it is begun with; None: for ever."""
    priority: int | None = None
    """Those with a higher one come first; None is the lowest."""


@dataclass(slots=True)
class Tombstone(Bounded):
    """An event that is None, on a topic whose events may be: `Topic("orders", Order | None)`.

    A broker whose messages may be without any body, which is another thing than an empty one, publishes it without;
    others publish the body that says so.
    """


@dataclass(slots=True)
class Routed(Bounded):
    """An event whose topic names what it is published to; only for a broker that knows such: `HasPlaces`."""

    exchange: Exchange = field(kw_only=True)


@dataclass(slots=True)
class Copy(Message):
    """An event that came and is published again as it was, as a dead letter is: with what its headers say beside.

    A broker whose events have more than headers, such as properties, or headers that are no text, takes that over from
    the delivery where it came from a broker of its own kind. But for how long it was of use: it does not expire.
    """

    of: Delivery = field(kw_only=True)
    queue: str | None = field(default=None, kw_only=True)
    """The one queue that it is meant for: where the broker can hand an event to a queue alone it does; others publish
    it on its subject, to all."""


@dataclass(slots=True)
class Delivery:
    """One message as a broker hands it over, on the subject that it was sent to.

    From a durable subscription it is settled by `ack` or `nack`, once: the first call counts, later ones do nothing.
    Where nothing is to be settled they do nothing at all. Neither fails: a settlement that the broker does not get any
    more has the same effect as none, the event is delivered again.
    """

    subject: str
    body: bytes = b""
    headers: dict[str, str] | None = None
    reply: str = ""
    attempt: int = 1
    """How many times the broker has delivered this message, this time included; on some also what was taken back before
    anybody had begun with it."""
    arrived: float | None = field(default=None, compare=False)
    """When it came, in `time.monotonic()` seconds, if it had to wait in line on this side; None if it did not."""
    id: str = ""
    """The same each time this event is delivered to its queue, and no other event's; empty without `Durable`."""
    lapsed: bool = field(default=False, compare=False)
    """Set by the adapter when the broker has taken it back, as after a lost connection: it is delivered again. A
    subscriber begins with it no more; a handler that has begun goes on, and its settlement does nothing."""
    waiting: bool = field(default=False, compare=False)
    """Set by a subscriber while it keeps the event in line and no handler is at it. An adapter that is about to lose
    the event to another instance then takes it back, as `lapsed`, where it would wait for a handler to finish."""

    @property
    def null(self) -> bool:
        """Whether it has no body at all, on a broker where that is another thing than an empty one; it then has
        `headers`, if only empty ones."""
        return False

    @property
    def key(self) -> str | None:
        """What the event belongs to, on a broker that keeps this beside it; a dead letter gets it too."""
        return None

    @property
    def stored_at(self) -> datetime | None:
        """When the broker stored it, or where it does not say that when it was published; None: neither is known."""
        return None

    @property
    def cloudevents(self) -> Binding:
        """How the attributes of a CloudEvent are in its headers."""
        return PLAIN

    def try_ack(self) -> bool:
        """As `ack` where that has nothing to wait for; whether it was done. Where not, `ack` does it."""
        return False

    async def ack(self) -> None:
        """It is dealt with: never deliver it to this queue again."""

    async def nack(self, delay: float = 0.0) -> None:
        """It is not: deliver it again, with a higher `attempt`, in `delay` seconds."""
