"""Topic[T]: an address and the type that travels on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, overload

from eventmicro.checks import check_kind, check_seconds, names_words
from eventmicro.cloudevents import CloudEvents, Mode, check_cloudevents
from eventmicro.codec import Codec
from eventmicro.compression import Compression, Encoding, check_compression
from eventmicro.errors import UsageError
from eventmicro.kinds import TypeHeader, check_told_by
from eventmicro.large import LargeEvent, check_large_event
from eventmicro.places import Exchange
from eventmicro.reply import refuse_reply
from eventmicro.tokens import Template, Token, read_template
from eventmicro.wire import check_subject

T = TypeVar("T")

Pick = Callable[[Any], Hashable]
"""Takes something out of an event: its key, its name."""

# The highest priority that AMQP has.
HIGHEST = 255

# How many subjects of a topic with named tokens are kept ready: a program may make them up, one for each order.
MOST = 4_096


@names_words
class Topic(Generic[T]):
    """A subject and the type of its events, written once and shared by publishers and subscribers.

    `Topic("orders.placed", OrderPlaced)`; a topic to subscribe to may hold wildcards: `*` for one token, `>` for the
    rest. Tokens may have names, as in `logs.{level}`: a subscriber takes them as parameters, a publisher writes
    `LOGS.at(level="error")`. Lives as long as the module that defines it.

    Args:
        name: the subject.
        type: the type of the events.
        key: the field of an event, or a function of it, that says to what it belongs, such as `order_id`. Kafka keeps
            the events of one key in order, and in one partition.
        id: the field of an event, or a function of it, that names it: published again under the same name it is
            recognised, where a subscriber asks for that by `dedupe`; JetStream recognises it in any case, for the
            `duplicate_window` of its stream. A broker without `dedupe` recognises none, and a client's log says so
            once.

        content_type: how its events are written, such as `msgpack` or `application/msgpack`; default: as the client
            says that publishes them, or as their type is written. Subscribers read each as it says itself.
        codec: what its events are written by, and read by where they do not say otherwise, as one of a schema registry.
        large: `object`: the body of an event that is too large for the broker is put into its object store, and fetched
            from there by who gets it; on brokers that have one. Default: it is refused.
        cloudevents: whether its events are CloudEvents: True, their attributes are headers; `structured`, each is one
            JSON object with its attributes; or CloudEvents, which says what these are. Subscribers get the data, and
            the attributes by `CloudEvent.of(context)`; without this option as well, where an event is labelled as one.
        compression: what large events are compressed by, `gzip` or `zstd`, or Compression; default: as the client says.
        exchange: what they are published to, and come from, on a broker that has several such, as
            `eventmicro_rabbitmq.RabbitExchange`; every other broker refuses it. Default: as the broker's settings say.
        ttl: for how many seconds an event is of use: a queue drops one that nobody has begun with until then. Brokers
            that cannot (`Capabilities.ttl`) refuse it. Default: for ever.
        priority: how urgent its events are, from 0 to 255: where they wait in a queue with others, those with a higher
            one come first. Brokers that have none (`Capabilities.priority`) refuse it. Default: the lowest.
        told_by: the header that says of which type an event is, where the topic has a union of several:
            `told_by="Event-Type"`, which then has the name of its class, or a TypeHeader with names of yours. Default:
            they are told apart by their fields, best by one with a `Literal` in each.

    Raises:
        UsageError: the name is no subject, the type is none, the events have no such field, or there is no such
            compression.
    """

    __slots__ = (
        "__weakref__",
        "_filled",
        "cloudevents",
        "codec",
        "compression",
        "content_type",
        "exchange",
        "id",
        "key",
        "large",
        "name",
        "pattern",
        "pick_id",
        "pick_key",
        "priority",
        "template",
        "told_by",
        "ttl",
        "type",
    )

    @overload
    def __init__(
        self,
        name: str,
        type: type[T],
        *,
        key: str | Callable[[T], Hashable] | None = None,
        id: str | Callable[[T], Hashable] | None = None,
        content_type: str | None = None,
        codec: Codec | None = None,
        compression: Encoding | Compression | None = None,
        large: LargeEvent | None = None,
        cloudevents: bool | Mode | CloudEvents = False,
        exchange: Exchange | None = None,
        ttl: float | None = None,
        priority: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Topic[Any],
        name: str,
        type: UnionType,
        *,
        key: str | Callable[[Any], Hashable] | None = None,
        id: str | Callable[[Any], Hashable] | None = None,
        content_type: str | None = None,
        codec: Codec | None = None,
        compression: Encoding | Compression | None = None,
        large: LargeEvent | None = None,
        cloudevents: bool | Mode | CloudEvents = False,
        exchange: Exchange | None = None,
        ttl: float | None = None,
        priority: int | None = None,
        told_by: str | TypeHeader | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Topic[Any],
        name: str,
        type: Any,
        *,
        key: str | None = None,
        id: str | None = None,
        content_type: str | None = None,
        codec: Codec | None = None,
        compression: Encoding | Compression | None = None,
        large: LargeEvent | None = None,
        cloudevents: bool | Mode | CloudEvents = False,
        exchange: Exchange | None = None,
        ttl: float | None = None,
        priority: int | None = None,
        told_by: str | TypeHeader | None = None,
    ) -> None: ...  # no function here: a checker could not tell a wrong one of a class from one of this
    def __init__(
        self,
        name: str,
        type: Any,
        *,
        key: Any = None,
        id: Any = None,
        content_type: str | None = None,
        codec: Codec | None = None,
        compression: Encoding | Compression | None = None,
        large: LargeEvent | None = None,
        cloudevents: bool | Mode | CloudEvents = False,
        exchange: Exchange | None = None,
        ttl: float | None = None,
        priority: int | None = None,
        told_by: str | TypeHeader | None = None,
    ) -> None:
        self.name = _check_name(name)
        self.type = _check_type(type)
        self.key = key
        self.id = id
        check_field(type, key, "key")
        check_field(type, id, "id")
        self.pick_key = picker(key)
        self.pick_id = picker(id)
        check_kind("content_type", content_type, str | None, "a name such as 'msgpack'")
        self.content_type = content_type
        self.codec = _check_codec(codec, content_type)
        self.compression = check_compression(compression)
        check_large_event(large)
        self.large = large
        self.cloudevents = check_cloudevents(cloudevents)
        if large is not None and self.cloudevents is not None:
            check_apart(self.cloudevents)
        self.template: Template | None = read_template(self.name)
        self.pattern = ""  # what a topic was made of by `at`: `logs.{level}`
        self._filled: dict[str, Topic[T]] = {}
        check_kind(
            "exchange", exchange, Exchange | None, "an exchange of the broker's own, such as RabbitExchange(...)"
        )
        if exchange is not None and large is not None:
            raise UsageError("large and exchange do not go together: no broker has an object store and exchanges")
        self.exchange = exchange
        if ttl is not None:
            check_seconds("ttl", ttl)
        self.ttl = ttl
        self.priority = _check_priority(priority)
        self.told_by = check_told_by(told_by, type)
        if self.told_by is not None and not (large is None and codec is None and self.cloudevents is None):
            raise UsageError("told_by does not go together with large, codec and cloudevents, which say it themselves")

    @property
    def subject(self) -> str:
        """What is subscribed to: the name, with `*` for each named token."""
        return self.name if self.template is None else self.template.subject

    def at(self, **tokens: Token) -> Topic[T]:
        """The topic with these in the place of its named tokens: `LOGS.at(level="error")` is that of `logs.error`.

        Args:
            tokens: each by its name: a string, a number, an Enum, a UUID or a date.

        Raises:
            UsageError: one is missing, there is none of that name, or a value is no token of a subject.
        """
        if self.template is None:
            raise UsageError(f"{self!r} has no named tokens, such as {{level}} in 'logs.{{level}}'")
        subject = self.template.fill(tokens)
        if (filled := self._filled.get(subject)) is None:
            if len(self._filled) >= MOST:
                del self._filled[next(iter(self._filled))]
            filled = self._filled[subject] = self._copy()
            filled.name, filled.template, filled.pattern, filled._filled = subject, None, self.name, {}
        return filled

    def _copy(self) -> Topic[T]:
        copy = object.__new__(type(self))
        for each in Topic.__slots__:
            if each != "__weakref__":
                setattr(copy, each, getattr(self, each))
        return copy

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {getattr(self.type, '__name__', self.type)})"


def check_apart(cloudevents: CloudEvents) -> None:
    """Refuse CloudEvents whose attributes would be in an object store, with their data.

    Raises:
        UsageError: they are structured.
    """
    if cloudevents.mode == "structured":
        raise UsageError(
            "large='object' and cloudevents='structured' do not go together: the attributes would be in the object "
            "store; write cloudevents=True, which has them in headers"
        )


def _check_priority(priority: Any) -> int | None:
    is_number = isinstance(priority, int) and not isinstance(priority, bool)
    if priority is not None and not (is_number and 0 <= priority <= HIGHEST):
        raise UsageError(f"priority={priority!r}: write a number from 0 to {HIGHEST}")
    checked: int | None = priority
    return checked


def _check_codec(codec: Any, content_type: str | None) -> Codec | None:
    if codec is not None and (isinstance(codec, type) or not isinstance(codec, Codec)):
        raise UsageError(f"codec={codec!r} is no codec: write an object with content_type, handles, encoder, decoder")
    if codec is not None and content_type is not None:
        raise UsageError(f"content_type={content_type!r}: the topic's codec says it, {codec.content_type}")
    checked: Codec | None = codec
    return checked


def takes_none(kind: Any) -> bool:
    """Whether None is one of several values that a type may have, as of `Order | None`."""
    kind = getattr(kind, "__value__", kind)  # of a `type` statement
    if get_origin(kind) is Annotated:
        return takes_none(get_args(kind)[0])
    return get_origin(kind) in (Union, UnionType) and any(
        each is type(None) or takes_none(each) for each in get_args(kind)
    )


def without_none(kind: Any) -> Any:
    """The same type without None: `Order` of `Order | None`."""
    kind = getattr(kind, "__value__", kind)
    if get_origin(kind) is Annotated:
        inner, *others = get_args(kind)
        return Annotated[without_none(inner), *others]
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(without_none(each) for each in get_args(kind) if each is not type(None))]  # noqa: UP007
    return kind


def check_field(kind: Any, what: object, word: str) -> None:
    """See that a type has the field that a setting names, where the type says which it has.

    Raises:
        UsageError: it has none of this name, or what is set is neither a name nor a function.
    """
    check_pick(what, word)
    known = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None)
    if not isinstance(what, str) or not known or what in known or hasattr(kind, what):
        return
    if getattr(kind, "model_config", {}).get("extra") != "allow":
        raise UsageError(f"{word}={what!r}: {kind.__name__} has no such field; there are {', '.join(known)}")


def check_pick(what: object, word: str) -> None:
    """See that what a setting takes out of an event is a field's name, or a function, or nothing.

    Raises:
        UsageError: it is something else.
    """
    if not (what is None or isinstance(what, str) or callable(what)):
        raise UsageError(f"{word}={what!r}: write the name of a field, or a function of the event")


def _check_name(name: Any) -> str:
    if not isinstance(name, str):
        raise UsageError(f"name={name!r}: write the subject first, as Topic('orders.placed', OrderPlaced)")
    return check_subject(name, wildcards=True)


def _check_type(kind: Any) -> Any:
    """Refuse what is data; which types can travel is for the codecs to say."""
    if isinstance(kind, str):
        raise UsageError(f"type={kind!r}: write the type itself, {kind}, not its name")
    if isinstance(kind, bytes | int | float | list | tuple | dict | set):
        raise UsageError(f"type={kind!r}: write the type of the events, such as OrderPlaced")
    refuse_reply(kind)
    return kind


@overload
def picker(what: None) -> None: ...
@overload
def picker(what: str | Pick) -> Pick: ...
def picker(what: str | Pick | None) -> Pick | None:
    """What takes a field, or what a function says, out of an event; an event may be an object or a mapping."""
    if what is None or callable(what):
        return what

    def pick(event: Any) -> Any:
        return event[what] if isinstance(event, dict) else getattr(event, what)

    return pick
