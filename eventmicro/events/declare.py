"""What a subscriber is declared to be, checked when it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any, Union, Unpack, get_args, get_origin

from eventmicro.broker import Capabilities
from eventmicro.checks import no_option
from eventmicro.codec import Codec
from eventmicro.context import Side
from eventmicro.errors import SignatureError, UsageError
from eventmicro.events.members import some_of
from eventmicro.events.options import OWN_QUEUE, DeliveryOptions, DeliveryWords, OrderBy
from eventmicro.handlers.depends import name_of
from eventmicro.handlers.fields import fields_of
from eventmicro.handlers.publishing import is_a
from eventmicro.handlers.signature import MISSING, Signature, own_name, read_signature
from eventmicro.handlers.subjects import Named
from eventmicro.kinds import TypeHeader
from eventmicro.middleware import Middleware, check_middleware
from eventmicro.tokens import Template, read_template
from eventmicro.topic import Topic, check_field
from eventmicro.wire import check_name, check_subject, has_wildcards


@dataclass(frozen=True, slots=True)
class SubscriberDeclaration:
    """A subscriber of a service; see `Service.subscribe` for the words."""

    name: str
    subject: str
    event: Any
    by_key: bool
    """Whether events are published under the key that they are to be ordered by."""
    large: bool
    """Whether the bodies of those may be kept apart that are too large for the broker."""
    signature: Signature
    options: DeliveryOptions
    middleware: tuple[Middleware, ...]
    codec: Codec | None = None
    """What the topic's events are read by where they do not say otherwise; None: as their type is."""
    some: tuple[type, ...] | None = None
    """Which of the topic's types it takes; None: all of them."""
    ttl: bool = False
    """Whether the topic says for how long its events are of use."""
    priority: bool = False
    """Whether it says how urgent they are."""
    told_by: TypeHeader | None = None
    """The header by which its types are told apart; None: their bodies say it."""
    cloudevents: bool = False
    """Whether its events are CloudEvents, also where they are not labelled so."""

    @property
    def queue(self) -> str | None:
        """Who shares the events; None: every instance gets every event."""
        return self.options.queue_name

    @property
    def has_wildcards(self) -> bool:
        """Whether it takes events of several subjects."""
        return has_wildcards(self.subject)

    def needs(self) -> Capabilities:
        """What the broker must be able to do."""
        needed = self.options.needs(by_key=self.by_key, wildcards=self.has_wildcards, large=self.large)
        return replace(needed, ttl=self.ttl, priority=self.priority) if self.ttl or self.priority else needed


def declare_subscriber(
    service: str,
    topic: Topic[Any] | str,
    function: Callable[..., Any],
    name: str | None = None,
    middleware: Iterable[Middleware] = (),
    *,
    is_endpoint: bool = False,
    **words: Unpack[DeliveryWords],
) -> SubscriberDeclaration:
    """Check a subscriber's handler and options.

    Args:
        is_endpoint: whether the function serves calls, too, so that their callers take what it returns.

    Raises:
        SignatureError: the function cannot be a subscriber, or takes another type than the topic carries.
        UsageError: the topic is no subject, or an option is out of range.
    """
    options = _options(words)
    told = topic if isinstance(topic, Topic) else None
    signature, template = _read(function, topic, batched=options.batch is not None)
    _check_returned(signature, options, is_endpoint=is_endpoint)
    event, some = _read_event(signature, told, batched=options.batch is not None)
    _check_keys(function, event, options, told)
    name = check_name(name or own_name(function), "subscriber")
    options = _placed(options, told, f"{service}.{name}")
    subject = topic.subject if isinstance(topic, Topic) else topic if template is None else template.subject
    if options.dead_letter == subject:
        raise UsageError(f"dead_letter={subject!r} is the subscriber's own subject; write another one")
    return SubscriberDeclaration(
        name,
        subject,
        event,
        by_key=told is not None and told.key is not None and told.key == options.order_by,
        large=told is not None and told.large is not None,
        signature=signature,
        options=options,
        middleware=check_middleware(middleware, Side.SUBSCRIBER),
        codec=None if told is None else told.codec,
        some=some,
        ttl=told is not None and told.ttl is not None,
        priority=told is not None and told.priority is not None,
        told_by=None if told is None else told.told_by,
        cloudevents=told is not None and told.cloudevents is not None,
    )


def _options(words: DeliveryWords) -> DeliveryOptions:
    unknown = set(words) - set(DeliveryWords.__annotations__)
    if unknown:
        raise UsageError(no_option("subscribe()", unknown, ("name", "middleware", *DeliveryWords.__annotations__)))
    return DeliveryOptions(**words)


def _read(function: Callable[..., Any], topic: Topic[Any] | str, *, batched: bool) -> tuple[Signature, Template | None]:
    """What the handler takes, and the tokens of the subject that have names, if any have."""
    carried = topic.type if isinstance(topic, Topic) else MISSING
    template = topic.template if isinstance(topic, Topic) else read_template(check_subject(topic, wildcards=True))
    signature = read_signature(
        function,
        "subscriber",
        list[carried] if batched and carried is not MISSING else carried,  # type: ignore[valid-type]
        named=None if template is None else template.places,
    )
    _check_parameters(signature, topic, template, batched=batched)
    return signature, template


def _check_parameters(
    signature: Signature, topic: Topic[Any] | str, template: Template | None, *, batched: bool
) -> None:
    """Refuse parameters that stand for something which an event of this topic has not.

    Raises:
        SignatureError: they are fields, and the topic has a type of its own, or events come in batches; or a token of
            the subject has a name which none of them has.
    """
    name = f"subscriber {name_of(signature.function)}"
    taken = [each.name for each in signature.parameters if isinstance(each.source, Named)]
    tokens = f"; of its subject it may take {', '.join(template.places)}" if template is not None else ""
    if fields := [each.name for each in fields_of(signature.takes)]:
        if isinstance(topic, Topic):
            raise SignatureError(
                f"{name}: {', '.join(fields)} would be the fields of an event, and {topic!r} says what an event is: "
                f"write one parameter, `event: {name_of(topic.type)}`{tokens}"
            )
        if batched:
            raise SignatureError(f"{name} has batch=: write `events: list[YourModel]` in place of {', '.join(fields)}")
    if taken and batched:
        raise SignatureError(f"{name} has batch=, whose events have a subject each: leave {', '.join(taken)} out")
    if template is not None and isinstance(topic, str) and (left := template.places.keys() - set(taken)):
        raise SignatureError(
            f"{name}: nothing takes {', '.join(sorted(left))} of the subject {topic!r}: write a parameter of that "
            f"name, such as `{min(left)}: str`, or '*' in its place"
        )


def _check_returned(signature: Signature, options: DeliveryOptions, *, is_endpoint: bool) -> None:
    """Refuse what a handler returns where nobody takes it, and a transaction of one that returns nothing."""
    name = f"subscriber {name_of(signature.function)}"
    if signature.returns not in (MISSING, None, type(None)) and not signature.outlets and not is_endpoint:
        raise SignatureError(
            f"{name}: nobody takes what it returns; write `-> None`, and publish what should "
            f"go on by `await service.publish(topic, event)`, or `-> Annotated[YourModel, Publish(TOPIC)]`; where it "
            f"serves calls, too, write @rpc below @subscribe(..., name=...)"
        )
    if options.transactional and not signature.outlets:
        raise UsageError(
            f"{name} has transactional=True, and returns nothing that is published: write "
            f"`-> Annotated[YourModel, Publish(TOPIC)]`, or transactional=False; what is published by "
            f"`await service.publish(topic, event)` is in no transaction"
        )


def _read_event(
    signature: Signature, topic: Topic[Any] | None, *, batched: bool
) -> tuple[Any, tuple[type, ...] | None]:
    """The type of an event, and which of the topic's types are taken, if not all of them."""
    function = signature.function
    event = _item_type(function, signature.takes) if batched else signature.takes
    if topic is None:
        return event, None
    some = some_of(event, topic.type)
    event = _check_event(function, event, topic)
    if some is not None and batched:
        raise SignatureError(
            f"subscriber {name_of(function)} has batch=, and takes some of what {topic!r} carries: take all of it, "
            f"`events: list[{name_of(topic.type)}]`"
        )
    return event, some


def _item_type(function: Callable[..., Any], takes: Any) -> Any:
    """The type of the events of which a handler takes a list."""
    if takes is MISSING or takes is Any:
        return takes
    if get_origin(takes) is not list:
        raise SignatureError(f"subscriber {name_of(function)} has batch=: write `events: list[YourModel]`")
    return get_args(takes)[0]


def _check_event(function: Callable[..., Any], takes: Any, topic: Topic[Any]) -> Any:
    """The type to decode events as: the topic's, of which the handler takes all, or some."""
    if takes in (MISSING, topic.type, Any):
        return takes if takes is MISSING else topic.type
    wider = get_args(takes) if get_origin(takes) in (Union, UnionType) else (takes,)
    if any(is_a(topic.type, each) for each in wider):
        return topic.type
    if some_of(takes, topic.type) is not None:
        return topic.type
    raise SignatureError(
        f"subscriber {name_of(function)} takes {name_of(takes)}, but {topic!r} carries {name_of(topic.type)}; "
        f"write the same type in both"
    )


def _check_keys(function: Callable[..., Any], event: Any, options: DeliveryOptions, topic: Topic[Any] | None) -> None:
    if topic is not None and topic.told_by is not None and options.sticky_by is not None:
        raise UsageError(f"sticky_by does not go together with told_by={topic.told_by.header!r}: leave one of them out")
    for word in ("order_by", "sticky_by"):
        if (key := getattr(options, word)) is not None:
            _check_key(function, event, key, word)


def _check_key(function: Callable[..., Any], event: Any, key: OrderBy, word: str) -> None:
    if event is MISSING:
        raise SignatureError(f"subscriber {name_of(function)} has {word}=: let it take the event that has the key")
    check_field(event, key, word)


def _placed(options: DeliveryOptions, topic: Topic[Any] | None, own_queue: str) -> DeliveryOptions:
    """The options with the exchange of its topic, and the queue of its own name, where it names no others."""
    if topic is not None and topic.exchange is not None and options.exchange is None:
        options = replace(options, exchange=topic.exchange)
    return options.named(own_queue) if options.queue == OWN_QUEUE else options
