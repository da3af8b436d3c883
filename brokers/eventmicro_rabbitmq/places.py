"""RabbitExchange, RabbitQueue, RabbitBinding: RabbitMQ's own things as a topic or a subscriber describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from eventmicro.checks import check_count, check_kind
from eventmicro.errors import UsageError
from eventmicro.places import Exchange, Queue
from eventmicro_rabbitmq.topology import ALTERNATE, Arguments, binding_key, check_length, check_name

Declare = bool | Literal["check"] | None
QueueType = Literal["quorum", "classic", "stream"]

# The longest name of an exchange that pamqp takes.
LONGEST_EXCHANGE = 127
# Exchanges that every virtual host has, by their type.
KEPT_FOR_RABBITMQ = "amq."
# What these are; the others are of type topic.
GIVEN = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
}


@dataclass(frozen=True, kw_only=True)
class RabbitExchange(Exchange):
    """An exchange: `Topic("orders.placed", Placed, exchange=RabbitExchange("shop", type="fanout"))`.

    An event's subject is its routing key. `RabbitExchange("")` is the default exchange, which hands an event to the
    queue that is named as its subject.

    Raises:
        UsageError: it cannot be so.
    """

    product: ClassVar[str] = "RabbitMQ"
    scheme: ClassVar[str] = "amqp"

    name: str = field(kw_only=False)
    """Its name; those that begin with `amq.` are used, and never made."""
    type: str | None = None
    """`topic`, `direct`, `fanout`, `headers`, or one of a plug-in, such as `x-consistent-hash`. None: that of its name
    where it begins with `amq.`, else `topic`."""
    durable: bool = True
    """Whether it is there again after a restart of RabbitMQ."""
    auto_delete: bool = False
    """Whether it goes with the last queue that is bound to it."""
    alternate: str | None = None
    """The exchange to which goes what no queue takes."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments that it is made with."""
    bind: RabbitBinding | Sequence[RabbitBinding] = ()
    """Exchanges from which it gets events, and by which keys."""
    declare: Declare = None
    """True: made where it is missing. `check`: it must be there, and be of this type. False: left alone. None: as the
    broker's setting `declare` says. One that is there is never changed."""

    def __post_init__(self) -> None:
        check_kind("RabbitExchange: name", self.name, str, "its name, or '' for the default exchange")
        if self.name:
            check_name(self.name, "exchange")
        if len(self.name) > LONGEST_EXCHANGE:
            raise UsageError(f"RabbitExchange: RabbitMQ's client takes names of up to {LONGEST_EXCHANGE} signs")
        check_kind("RabbitExchange: type", self.type, str | None, "'topic', 'direct', 'fanout', 'headers' or another")
        _check_declare("RabbitExchange", self.declare)
        if self.alternate is not None:
            check_name(self.alternate, "alternate")
        if self.is_default and (self.bindings or self.alternate or self.arguments):
            raise UsageError("RabbitExchange(''): the default exchange is as it is; leave out all but its name")

    @classmethod
    def of_others(cls, name: str, kind: str | None, *, checked: bool) -> Self:
        return cls(name, type=kind, declare="check" if checked else False)

    @property
    def is_default(self) -> bool:
        """Whether it is the one that hands an event to the queue of its subject's name."""
        return not self.name

    @property
    def is_given(self) -> bool:
        """Whether every virtual host has it."""
        return self.is_default or self.name.startswith(KEPT_FOR_RABBITMQ)

    @property
    def kind(self) -> str:
        """Its type."""
        return self.type or GIVEN.get(self.name, "topic")

    @property
    def bindings(self) -> tuple[RabbitBinding, ...]:
        """Its own bindings, to other exchanges."""
        return _several(self.bind)

    @property
    def all_arguments(self) -> Arguments:
        """What it is made with."""
        return {**self.arguments, **({ALTERNATE: self.alternate} if self.alternate is not None else {})}

    def is_made_as(self, other: RabbitExchange) -> bool:
        """Whether another description is of the same exchange, whoever is to make it."""
        return replace(self, type=self.kind, declare=None) == replace(other, type=other.kind, declare=None)

    def key_of(self, subject: str) -> str:
        """The key by which a queue is bound for the events of a subject.

        Raises:
            UsageError: an exchange of this type cannot tell them from others.
        """
        if self.kind == "direct" and {"*", ">"} & set(subject.split(".")):
            raise UsageError(
                f"subject {subject!r}: exchange {self.name!r} is of type {self.kind}, which knows no wildcards; name "
                f"each key, by queue=RabbitQueue(..., bind=[RabbitBinding(key=...), ...])"
            )
        return binding_key(subject) if self.kind == "topic" else check_length(subject)


@dataclass(frozen=True, kw_only=True)
class RabbitBinding:
    """How a queue, or an exchange, is bound to an exchange.

    Raises:
        UsageError: it cannot be so.
    """

    exchange: RabbitExchange | None = None
    """What it is bound to; default: the exchange that events come from."""
    key: str | None = None
    """The routing key, in RabbitMQ's own form, such as `orders.#`; default: the subject."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Such as `{"x-match": "all", "kind": "new"}` at an exchange of type `headers`."""

    def __post_init__(self) -> None:
        check_kind("RabbitBinding: exchange", self.exchange, RabbitExchange | None, "RabbitExchange(...)")
        check_kind("RabbitBinding: key", self.key, str | None, "a routing key, such as 'orders.#'")
        if self.key is not None:
            check_length(self.key)
        if self.exchange is not None and self.exchange.is_default:
            raise UsageError("RabbitBinding: nothing can be bound to the default exchange: each queue is by its name")


@dataclass(frozen=True, kw_only=True)
class RabbitQueue(Queue):
    """A queue: `@service.subscribe(PLACED, queue=RabbitQueue("billing", type="classic", arguments={...}))`.

    One that is there is used as it is, if it can keep the events of its subscriber: what is said here of its arguments
    has to be true of it, and it may have others. One that is missing is made, a quorum queue as for `queue="billing"`,
    with the arguments that are said here beside.

    Raises:
        UsageError: it cannot be so.
    """

    product: ClassVar[str] = "RabbitMQ"
    scheme: ClassVar[str] = "amqp"

    name: str = field(kw_only=False)
    """Its name."""
    type: QueueType | None = None
    """`quorum`, `classic` or `stream`. None: whatever it is, and a quorum queue where it is made."""
    durable: bool = True
    """Whether it is there again after a restart of RabbitMQ; one that is not keeps nothing, for `durable=False`."""
    auto_delete: bool = False
    """Whether it goes with its last consumer; for `durable=False`."""
    exclusive: bool = False
    """Whether it is of one connection alone; for `durable=False`."""
    max_priority: int | None = None
    """The highest priority that a classic queue tells from others, up to 255."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, such as `{"x-max-length": 1000}`."""
    bind: RabbitBinding | Sequence[RabbitBinding] | Literal[False] | None = None
    """How it is bound. None: by the subject, to the exchange that events come from. False: not from here."""
    declare: Declare = None
    """True: made where it is missing, and bound. `check`: it must be there, and be so. False: left alone. None: as the
    broker's setting `declare` says. One that is there is never changed."""

    def __post_init__(self) -> None:
        check_kind("RabbitQueue: name", self.name, str, "its name")
        check_name(self.name, "queue")
        if self.type not in ("quorum", "classic", "stream", None):
            raise UsageError(f"RabbitQueue: type={self.type!r}: write 'quorum', 'classic' or 'stream'")
        _check_declare("RabbitQueue", self.declare)
        if self.max_priority is not None:
            check_count("RabbitQueue: max_priority", self.max_priority)
            if self.max_priority > 255 or self.type != "classic":
                raise UsageError(
                    f"RabbitQueue: max_priority={self.max_priority}: up to 255, with type='classic'; quorum queues of "
                    f"RabbitMQ 4 serve priorities of 5 and more first by themselves"
                )
        if said := {"x-queue-type", "x-max-priority"} & set(self.arguments):
            raise UsageError(f"RabbitQueue: {', '.join(sorted(said))}: write type= and max_priority= in place of that")

    @property
    def bindings(self) -> tuple[RabbitBinding, ...]:
        """How it is to be bound from here."""
        if self.bind is None:
            return (RabbitBinding(),)
        return () if self.bind is False else _several(self.bind)

    @property
    def said(self) -> Arguments:
        """What has to be true of it."""
        of_type = {} if self.type is None else {"x-queue-type": self.type}
        of_priority = {} if self.max_priority is None else {"x-max-priority": self.max_priority}
        return {**of_type, **of_priority, **self.arguments}


def _several(bind: RabbitBinding | Sequence[RabbitBinding]) -> tuple[RabbitBinding, ...]:
    several = (bind,) if isinstance(bind, RabbitBinding) else tuple(bind)
    for each in several:
        check_kind("bind", each, RabbitBinding, "RabbitBinding(key=...), or a list of them")
    return several


def _check_declare(what: str, declare: object) -> None:
    if declare not in (True, False, "check", None):
        raise UsageError(f"{what}: declare={declare!r}: write True, False or 'check'")
