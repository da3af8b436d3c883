"""Where the events of a topic go and how they travel: found once, used for each."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Collection, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar
from weakref import ref

from eventmicro.cloudevents import PLAIN, Binding
from eventmicro.codec import Encoder
from eventmicro.codecs import Body, Codecs
from eventmicro.codecs.survival import check_survives
from eventmicro.errors import UsageError
from eventmicro.events.cloudevents import Writing
from eventmicro.events.objects import LargeMessage
from eventmicro.large import check_large_event
from eventmicro.message import Bounded, Message, Routed, Tombstone
from eventmicro.places import Exchange
from eventmicro.tokens import read_template
from eventmicro.topic import Pick, Topic, check_apart, takes_none
from eventmicro.wire import JSON, check_headers, check_subject, check_text

log = logging.getLogger(__name__)

# How many routes of plain subjects are kept: a program may make them up, one for each order.
MOST = 4_096


class Route:
    """The way of the events of one topic, or on one subject.

    Args:
        topic: either; a topic is not kept alive.
        codecs: how events travel.
        forgets: the broker, if it recognises no ids and that was not said yet; shared by the routes of a client.
        gone: what is called with the dead reference when the topic is no more.

    Raises:
        UsageError: it is neither, or has wildcards, or no codec handles its type.

    kind: what its messages are.
    """

    __slots__ = (
        "_body",
        "_codecs",
        "_content_type",
        "_encode",
        "_forgets",
        "_message",
        "_pick_id",
        "_pick_key",
        "_subject",
        "_topic",
    )
    kind: ClassVar[type[Message]] = Message

    def __init__(
        self,
        topic: Topic[Any] | str,
        codecs: Codecs,
        forgets: list[str] | None = None,
        gone: Callable[[ref[Topic[Any]]], object] | None = None,
    ) -> None:
        self._topic: ref[Topic[Any]] | None = None
        self._forgets = [] if forgets is None else forgets
        self._codecs = codecs
        self._body: Body | None = None
        self._pick_key: Pick | None = None
        self._pick_id: Pick | None = None
        self._content_type: str | None = None
        self._message: Callable[[str], Message] = self.kind
        self._encode: Encoder | None = None  # where nothing is said of an event but its body
        if isinstance(topic, Topic):
            self._topic = ref(topic, gone)
            self._subject = _exact(topic.name)
            self._body = _body_of(topic, codecs)
            self._pick_key, self._pick_id = topic.pick_key, topic.pick_id
            self._content_type = self._body.content_type
            self._message = _maker(self.kind, topic)
            is_plain = self._message is Message and not self._body.announced
            if self._pick_key is None and self._pick_id is None and is_plain:
                self._encode = self._body.encode
        else:
            check_topic(topic)
            self._subject = _exact(topic)

    def body(self, event: Any) -> Body:
        """How an event travels: as its topic says, or on a plain subject as its own type does."""
        return self._body or self._codecs.body(type(event))

    def message(self, event: Any, key: Hashable, id: Hashable, metadata: dict[str, str] | None) -> Message:
        """The message of an event, ready to be sent; errors as of `address` and `pack`."""
        if self._encode is not None and key is None and id is None and not metadata:
            return Message(self._subject, self._encode(event), content_type=self._content_type)
        return self.pack(self.address(event, key, id), event, metadata)

    def address(self, event: Any, key: Hashable = None, id: Hashable = None) -> Message:
        """The message of an event, addressed and not yet encoded.

        Raises:
            EncodeError: this is no event of the topic.
            UsageError: the topic says of a key or an id what this event has not, or one of these is no text that can
                travel.
        """
        if key is None and self._pick_key is not None:
            key = self._pick(self._pick_key, event, "key")
        name = self._pick(self._pick_id, event, "id") if id is None and self._pick_id is not None else id
        message = self._message(self._subject)
        if key is not None:
            message.key = check_text(key if type(key) is str else _as_text(key, "key"), "key")
        if name is not None:
            message.id = check_text(name if type(name) is str else _as_text(name, "id"), "id")
            if self._forgets:
                said = "%s recognises no event by its id, as of %s: published again it comes again"
                log.info(said, self._forgets.pop(), self._subject)
        return message

    def pack(self, message: Message, event: Any, metadata: dict[str, str] | None) -> Message:
        """The message of an event, ready to be sent."""
        self.write(message, event, check_headers(metadata) if metadata else {})
        return message

    def write(self, message: Message, event: Any, headers: dict[str, str]) -> None:
        """Fill in an addressed message; the headers are its own."""
        body = self.body(event)
        message.content_type = body.content_type
        if headers or body.announced:
            message.body = body.pack(event, headers)
            message.headers = headers or None
        else:
            message.body = body.encode(event)

    def _pick(self, pick: Pick, event: Any, what: str) -> Hashable:
        """An event's key or id, as its topic takes it out of it."""
        try:
            return pick(event)
        except (AttributeError, KeyError, TypeError) as error:
            self.body(event).encode(event)  # raises where it is no event of this topic at all
            topic = self._topic and self._topic()
            raise UsageError(f"{topic!r}: this event has no {what} as the topic says: {error!r}") from None


class OptionalRoute(Route):
    """The same for events that may be None, which is published as a tombstone."""

    __slots__ = ("_tombstone",)

    def __init__(self, topic: Any, *others: Any) -> None:
        super().__init__(topic, *others)
        self._tombstone: Callable[[str], Tombstone] = _maker(Tombstone, topic)

    def message(self, event: Any, key: Hashable, id: Hashable, metadata: dict[str, str] | None) -> Message:
        if event is None:
            return self.pack(self.address(event, key, id), event, metadata)
        return super().message(event, key, id, metadata)

    def address(self, event: Any, key: Hashable = None, id: Hashable = None) -> Message:
        if event is not None:
            return super().address(event, key, id)
        if key is None and self._pick_key is not None:
            raise UsageError(f"{self._subject}: None has no field that is its key: say whose it is, by key=")
        tombstone = self._tombstone(self._subject)
        for word, value in (("key", key), ("id", id)):
            if value is not None:
                setattr(tombstone, word, check_text(_as_text(value, word), word))
        return tombstone


class LargeRoute(Route):
    """The same for events whose bodies are kept apart where they are too large for the broker."""

    __slots__ = ()
    kind = LargeMessage


class CloudEventRoute(Route):
    """The same for events that are CloudEvents; `writing` is how."""

    __slots__ = ("writing",)
    writing: Writing

    def message(self, event: Any, key: Hashable, id: Hashable, metadata: dict[str, str] | None) -> Message:
        return self.pack(self.address(event, key, id), event, metadata)

    def write(self, message: Message, event: Any, headers: dict[str, str]) -> None:
        self.writing.write(message, self.body(event), event, headers)


class LargeCloudEventRoute(LargeRoute, CloudEventRoute):
    """The same for both."""

    __slots__ = ()


class PlacedRoute(Route):
    """The same for events of a topic that names what they are published to."""

    __slots__ = ()
    kind = Routed


class PlacedCloudEventRoute(PlacedRoute, CloudEventRoute):
    """The same for both."""

    __slots__ = ()


class Routes:
    """The routes that a client has used: those of topics as long as these live, those of subjects up to a number.

    Args:
        forgets: the broker, by its URL, if it recognises no event by its id; the first id has that said.
        check_large: refuses events whose bodies are to be kept apart, where the broker does not do that.
        binding: how the broker carries the attributes of CloudEvents.
        check_exchange: refuses a topic's exchange, where the broker does not know it.
        check_keeps: refuses what a topic says of its events, where the broker does not keep it.

    source: where events happen, for CloudEvents that say nothing of it.
    """

    def __init__(
        self,
        codecs: Codecs,
        forgets: str | None = None,
        check_large: Callable[[], None] | None = None,
        binding: Binding | None = None,
        check_exchange: Callable[[str, Exchange], None] | None = None,
        check_keeps: Callable[[Topic[Any]], None] | None = None,
    ) -> None:
        self.source = "/client"
        self._binding = binding or PLAIN
        self._codecs = codecs
        self._check_large = check_large
        self._check_exchange = check_exchange
        self._check_keeps = check_keeps
        self._forgets = [] if forgets is None else [forgets]
        self._of_topics: dict[int, Route] = {}  # by identity
        self._known: OrderedDict[str, Route] = OrderedDict()

    def find(self, topic: Topic[Any] | str) -> Route:
        """The route of a topic or subject; errors as of `Route`."""
        route = self._of_topics.get(id(topic))
        if route is not None:
            return route
        if isinstance(topic, Topic):
            return self._keep(topic)
        try:
            return self._known.get(topic) or self._remember(topic)
        except TypeError:  # it cannot be hashed: it is neither, or of a class of somebody's own
            return Route(topic, self._codecs, self._forgets)

    def find_large(self, topic: Topic[Any] | str, large: Any) -> Route:
        """The route of events to a topic or subject whose bodies may be kept apart; errors as of `Route`.

        Raises:
            UsageError: there is no such way for them.
            Unsupported: the broker has none.
        """
        check_large_event(large)
        if self._check_large is not None:
            self._check_large()
        if isinstance(topic, Topic) and topic.exchange is not None:
            raise UsageError(f"{topic!r} has an exchange, with which large= does not go together")
        return self._make(topic, is_large=True)

    def _keep(self, topic: Topic[Any]) -> Route:
        number = id(topic)
        forget = partial(self._of_topics.pop, number)  # the dead reference that it gets is the default of `pop`
        if topic.large is not None and self._check_large is not None:
            self._check_large()
        if topic.exchange is not None and self._check_exchange is not None:
            self._check_exchange(topic.name, topic.exchange)
        route = self._of_topics[number] = self._make(topic, forget, is_large=topic.large is not None)
        return route

    def _make(
        self,
        topic: Topic[Any] | str,
        gone: Callable[[ref[Topic[Any]]], object] | None = None,
        *,
        is_large: bool,
    ) -> Route:
        if isinstance(topic, Topic) and self._check_keeps is not None:
            self._check_keeps(topic)
        options = topic.cloudevents if isinstance(topic, Topic) else None
        is_placed = isinstance(topic, Topic) and topic.exchange is not None
        if options is None or not isinstance(topic, Topic):
            plain = OptionalRoute if isinstance(topic, Topic) and takes_none(topic.type) else Route
            kinds: type[Route] = LargeRoute if is_large else PlacedRoute if is_placed else plain
            return kinds(topic, self._codecs, self._forgets, gone)
        if is_large:
            check_apart(options)
        kind = LargeCloudEventRoute if is_large else PlacedCloudEventRoute if is_placed else CloudEventRoute
        route = kind(topic, self._codecs, self._forgets, gone)
        route.writing = Writing(options, self.source, topic.name, self._binding)
        return route

    def _remember(self, subject: str) -> Route:
        route = self._known[subject] = Route(subject, self._codecs, self._forgets)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return route


def _maker(kind: type[Message], topic: Topic[Any]) -> Callable[[str], Any]:
    """What makes the messages of a topic, with what else it says of them."""
    said = {word: value for word in ("exchange", "ttl", "priority") if (value := getattr(topic, word)) is not None}
    return partial(Bounded if kind is Message else kind, **said) if said else kind


def _exact(subject: str) -> str:
    """A subject to publish to.

    Raises:
        UsageError: it has wildcards, or named tokens that nobody has filled in.
    """
    if (template := read_template(subject)) is not None:
        filled = ", ".join(f"{name}=..." for name in template.places)
        raise UsageError(
            f"subject {subject!r} has named tokens: publish to TOPIC.at({filled}) of Topic({subject!r}, ...), or to a "
            f"subject without braces"
        )
    return check_subject(subject)


def _body_of(topic: Topic[Any], codecs: Codecs) -> Body:
    if topic.codec is not None:
        return codecs.body_by(topic.type, topic.codec, topic.compression)
    body = codecs.body_as(topic.type, topic.content_type, topic.compression)
    try:
        check_survives(topic.type, in_json=body.content_type == JSON)
    except UsageError as error:
        raise UsageError(f"{topic!r}: {error}") from None
    return body


def check_topic(topic: object) -> None:
    """See that this is a place to publish to.

    Raises:
        UsageError: it is neither a Topic nor a subject.
    """
    if not isinstance(topic, Topic | str):
        raise UsageError(f"publish to a Topic or a subject, not to a {type(topic).__name__}")


def check_picks(**picks: Pick | None) -> None:
    """See that what takes a key or an id out of each of many events is a function, or nothing.

    Raises:
        UsageError: it is something else.
    """
    for word, pick in picks.items():
        if pick is not None and not callable(pick):
            raise UsageError(
                f"{word}={pick!r}: each of many events has its own: write a function of the event, or "
                f"Topic(..., {word}=...)"
            )


def check_events(events: Iterable[Any]) -> Iterable[Any]:
    """Several events, as they are now: others may change a list while it is published.

    Raises:
        UsageError: these are not several.
    """
    is_one = isinstance(events, str | bytes | Mapping) or hasattr(events, "model_fields_set")
    if is_one or not isinstance(events, Iterable):
        mend = ": write [event async for event in ...]" if isinstance(events, AsyncIterable) else ""
        raise UsageError(f"publish_many takes a list or a generator of events, not a {type(events).__name__}{mend}")
    return list(events) if isinstance(events, Collection) else events


def _as_text(value: Hashable, what: str) -> str:
    """A key or id of another kind, such as a number or a UUID.

    Raises:
        UsageError: it is a function of the event, or one that may change, such as a list.
    """
    if callable(value):
        raise UsageError(
            f"{what}={value!r}: for one event write the value itself; functions are for publish_many, or "
            f"Topic(..., {what}=...)"
        )
    try:
        hash(value)
    except TypeError:
        raise UsageError(f"{what}={value!r}: write a string, a number or another value that is hashable") from None
    return str(value)
