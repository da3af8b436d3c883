"""DeliveryOptions: how a subscriber gets its events; the same words on every broker."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from eventmicro.broker import PREFETCH, Capabilities, Durable, Start
from eventmicro.checks import check_count, check_kind, check_seconds, names_words
from eventmicro.errors import UsageError
from eventmicro.places import Exchange, Place, Queue
from eventmicro.retry import Retry
from eventmicro.topic import check_pick
from eventmicro.wire import check_subject

AckMode = Literal["after_success", "before", "manual"]
OrderBy = str | Callable[[Any], Hashable]

# The queue of a subscriber that names none: its own, `<service>.<subscriber>`, so that its service gets one copy.
OWN_QUEUE = ""
# What stands before a queue's name in the subject of its dead letters, where nothing else is said; in front, so that
# no wildcard over the queue's own subjects brings them back.
DEAD = "dead."


@names_words
@dataclass(frozen=True, slots=True)
class Batch:
    """Events are handled together: `size` of them, or those that came within `within` seconds after the first."""

    size: int = 100
    """How many events make a full batch."""
    within: float = 1.0
    """How long its first event waits for others at most, in seconds."""

    def __post_init__(self) -> None:
        check_count("Batch: size", self.size)
        check_seconds("Batch: within", self.within, or_none_at_all=True)


class DeliveryWords(TypedDict, total=False):
    """The keyword arguments of `subscribe`, each a field of DeliveryOptions."""

    queue: str | Queue | None
    exchange: Exchange | None
    durable: bool | None
    ack: AckMode
    retry: Retry | None
    dead_letter: str | Literal[False] | None
    concurrency: int
    order_by: OrderBy | None
    sticky_by: OrderBy | None
    prefetch: int | None
    batch: Batch | None
    timeout: float | None
    start: Start
    dedupe: float | None
    transactional: bool


class _Said:
    """Remembers the words by which it was made: what was not said, another one may say."""

    __slots__ = ("said",)
    said: dict[str, Any]

    def __new__(cls, **words: Any) -> Any:
        self = object.__new__(cls)
        object.__setattr__(self, "said", words)
        return self


@names_words
@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions(_Said):
    """How a subscriber gets its events. What is asked for and the broker cannot do is refused when the service starts.
    As `delivery=` of a Service or a Router: what holds for its subscribers where they do not say so themselves.

    Raises:
        UsageError: an option is out of range, or two of them do not go together.
    """

    queue: str | Queue | None = OWN_QUEUE
    """Who shares the events: each goes to one of those that name the same queue, which are instances of one subscriber.
    Default: `<service>.<subscriber>`, one copy for this subscriber, whatever the number of instances. None: every
    instance gets every event that comes while it runs. Where the broker has queues of several kinds it may be described
    in its words, as by `eventmicro_rabbitmq.RabbitQueue`; every other broker refuses that."""
    exchange: Exchange | None = None
    """What the events come from, on a broker that has several such; default: as the topic says."""
    durable: bool | None = None
    """Whether the queue keeps its events while nobody takes them, and until they are settled. None: where the broker
    can."""
    ack: AckMode = "after_success"
    """When an event counts as dealt with: after the handler has returned; `before` it is started, so that it is lost
    where the handler fails or dies, and handled twice only where the connection is lost at that moment; or when the
    handler says so, by `context.ack()`, `nack()` or `reject()`, also after it has returned: `manual`. What is never
    settled is held until the connection closes, and a warning names it."""
    retry: Retry | None = None
    """What is tried again, and when. None: as `Retry()` says, where the queue is durable."""
    dead_letter: str | Literal[False] | None = None
    """The subject to which an event goes that is given up, with the reason in its headers. None: `dead.<queue>`, where
    the queue is durable; False: nowhere, it is logged and gone."""
    concurrency: int = 1
    """How many events may wait for something at the same time; with 1 they are handled one after the other, in
    order."""
    order_by: OrderBy | None = None
    """The field of the event, or a function of it, by which order is kept: events of one key are handled one after the
    other, also across a retry and over all instances, while those of other keys go on."""
    sticky_by: OrderBy | None = None
    """The field of the event, or a function of it, by which instances are chosen: events of one key are handled by the
    same instance while it runs. Whichever gets an event hands it over to that one; the broker has to carry calls, or
    there has to be an `rpc_broker`, and a registry."""
    prefetch: int | None = None
    """How many events that are not settled one instance may hold, no fewer than it handles at the same time. Default:
    100, or more where concurrency and batch need it."""
    batch: Batch | None = None
    """Hand events over together: the handler takes a `list[Event]`. An event that comes again comes alone."""
    timeout: float | None = None
    """How long a handler may take, in seconds; then it is cancelled and has failed. None: as long as it takes."""
    start: Start = "new"
    """What a queue begins with that this subscriber is the first to make: `new` events, `all`, or all since a time."""
    dedupe: float | None = None
    """For how many seconds an event that is published again under the same id is recognised and not delivered."""
    transactional: bool = False
    """Whether what the handler returns to be published, `-> Annotated[Invoice, Publish(BILLED)]`, and the
    acknowledgement of its event are one transaction of the broker: both hold, or neither. The handler ends when it
    holds; events whose handlers end meanwhile share the next one, so a larger `concurrency` costs less of each."""

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_ranges()
        self._check_names()
        if self.queue is None or self.durable is False:
            self._check_nothing_durable()
        if self.batch is not None and self.order_by is not None:
            raise UsageError("batch and order_by do not go together: a batch holds events of many keys")
        if self.sticky_by is not None and (self.batch is not None or self.ack == "manual" or self.queue is None):
            raise UsageError(
                "sticky_by goes with a queue, without batch and without ack='manual': each event is settled by what "
                "became of it at the instance of its key"
            )
        if self.ack == "manual" and self.order_by is not None:
            raise UsageError(
                "ack='manual' and order_by do not go together: the next of a key would not wait for it; "
                "a handler may await context.ack() without it"
            )
        if self.transactional and (self.ack != "after_success" or self.sticky_by is not None):
            with_what = f"ack={self.ack!r}" if self.sticky_by is None else "sticky_by"
            raise UsageError(
                f"transactional and {with_what} do not go together: what a handler returns is published with the "
                f"acknowledgement of its event, which comes as it returns, and where it runs"
            )
        if self.ack == "before" and self.retry is not None:
            raise UsageError("ack='before' and retry do not go together: what was acknowledged does not come again")

    def needs(self, *, by_key: bool, wildcards: bool, large: bool = False) -> Capabilities:
        """What the broker must be able to do.

        Args:
            by_key: whether events are published under the key that they are ordered by.
            large: whether bodies may be kept apart.
        """
        return Capabilities(
            queue_groups=self.queue is not None,
            broadcast=self.queue is None,
            wildcards=wildcards,
            durable=bool(self.durable or self.durable_words()),
            ordered=self.order_by is not None and not by_key,
            ordered_keys=self.order_by is not None and by_key,
            replay=self.start != "new",
            dedupe=self.dedupe is not None,
            transactions=self.transactional,
            objects=large,
        )

    def places(self) -> dict[str, Place]:
        """What is named that only a broker of its kind knows, by the words of `HasPlaces.subscribe`."""
        named = {"exchange": self.exchange, "place": self.queue}
        return {word: place for word, place in named.items() if isinstance(place, Place)}

    @property
    def queue_name(self) -> str | None:
        """The name of the queue."""
        return self.queue.name if isinstance(self.queue, Queue) else self.queue

    def named(self, queue: str | None) -> DeliveryOptions:
        """The same with the queue's real name."""
        return replace(self, queue=queue)

    def is_durable(self, capabilities: Capabilities) -> bool:
        """Whether the queue is durable on a broker that can do this."""
        return self.queue is not None and (capabilities.durable if self.durable is None else self.durable)

    def dead_letter_subject(self) -> str | None:
        """Where a durable queue's events go that are given up."""
        if isinstance(self.dead_letter, str):
            return self.dead_letter
        return None if self.dead_letter is False else f"{DEAD}{self.queue_name}"

    def to_durable(self) -> Durable:
        """What is asked of the broker."""
        return Durable(
            prefetch=self.prefetch or max(PREFETCH, self._at_once()),
            ordered=self.order_by is not None,
            start=self.start,
            dedupe=self.dedupe,
            timeout=self.timeout,
            transactional=self.transactional,
            dead_letter=self.dead_letter_subject(),
        )

    def _at_once(self) -> int:
        """How many events may be handled at the same time."""
        return self.concurrency * (1 if self.batch is None else self.batch.size)

    def _check_kinds(self) -> None:
        check_kind("queue", self.queue, str | Queue | None, "a name, or None for every instance to get every event")
        exchanges = "an exchange of the broker's own, such as RabbitExchange(...)"
        check_kind("exchange", self.exchange, Exchange | None, exchanges)
        check_kind("durable", self.durable, bool | None, "True, False, or None for what the broker can")
        check_kind("transactional", self.transactional, bool, "True, or False for published before it is acknowledged")
        check_kind("retry", self.retry, Retry | None, "Retry(attempts=...)")
        check_kind("batch", self.batch, Batch | None, "Batch(size=...)")
        if self.dead_letter is not False:
            letters = "a subject, such as TOPIC.name, or False for nowhere; without it they go to 'dead.<queue>'"
            check_kind("dead_letter", self.dead_letter, str | None, letters)
        check_pick(self.order_by, "order_by")
        check_pick(self.sticky_by, "sticky_by")

    def _check_ranges(self) -> None:
        check_count("concurrency", self.concurrency)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.dedupe is not None:
            check_seconds("dedupe", self.dedupe)
        if self.prefetch is not None:
            check_count("prefetch", self.prefetch)
            if self.prefetch < self._at_once():
                raise UsageError(
                    f"prefetch={self.prefetch}: concurrency and batch need {self._at_once()} or more, to be reached"
                )
        if self.ack not in ("after_success", "before", "manual"):
            raise UsageError(f"ack={self.ack!r}: write 'after_success', 'before' or 'manual'")
        if isinstance(self.start, datetime):
            if self.start.tzinfo is None:
                raise UsageError(f"start={self.start}: say in which time zone, such as datetime(..., tzinfo=UTC)")
            if self.start > datetime.now(UTC):
                raise UsageError(f"start={self.start} is still to come: write 'new' for what is published from now on")
        elif self.start not in ("new", "all"):
            raise UsageError(f"start={self.start!r}: write 'new', 'all' or a datetime")

    def _check_names(self) -> None:
        if self.queue and isinstance(self.queue, str):  # of a Queue its adapter says what it may be called
            check_subject(self.queue, option="queue")
        if isinstance(self.dead_letter, str):
            check_subject(self.dead_letter, option="dead_letter")

    def _check_nothing_durable(self) -> None:
        words = self.durable_words()
        if self.queue is None and self.durable:
            words = ["durable", *words]
        if words:
            why = "queue=None has no queue" if self.queue is None else "durable=False keeps nothing"
            raise UsageError(f"{', '.join(words)}: only a durable queue can do that, and {why}")

    def durable_words(self) -> list[str]:
        """The options that were set and only a durable queue can keep."""
        asked = {
            "ack='manual'": self.ack == "manual",
            "retry": self.retry is not None,
            "dead_letter": bool(self.dead_letter),
            "order_by": self.order_by is not None,
            "prefetch": self.prefetch is not None,
            "start": self.start != "new",
            "dedupe": self.dedupe is not None,
            "transactional": self.transactional,
        }
        return [word for word, is_set in asked.items() if is_set]


def check_defaults(delivery: DeliveryOptions | None) -> dict[str, Any]:
    """The words that hold for several subscribers.

    Raises:
        UsageError: it is something else, or names a queue.
    """
    check_kind("delivery", delivery, DeliveryOptions | None, "DeliveryOptions(retry=...)")
    if delivery is None:
        return {}
    if delivery.said.get("queue"):
        raise UsageError(f"delivery: queue={delivery.queue!r} would be shared by all subscribers; write it at each")
    return dict(delivery.said)
