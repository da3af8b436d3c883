"""What a broker can do, and what a durable subscription asks of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from eventmicro.cloudevents import PLAIN, Binding

# How many events that are not settled a durable subscription holds on this side, where nothing else is said: half of it
# is as many as are decoded together (`AT_ONCE` of handlers/inflight.py). RabbitMQ's documentation finds 100 to 300 the
# best; NATS' own clients ask for 500.
PREFETCH = 256


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
    transactions: bool = False
    """What a handler returns is published, and its event acknowledged, in one transaction: `Durable.transactional`, by
    one that `PublishesAndAcks`."""
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
    transactional: bool = False
    """Its events may be settled by `PublishesAndAcks.publish_and_ack`."""
    dead_letter: str | None = None
    """The subject to which those events go that are given up. What is published there is kept, in a queue of the same
    name: `subscribe(dead_letter, receive, queue=dead_letter, durable=Durable())` gets it all."""
