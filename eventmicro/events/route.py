"""Route: the way of the events of one topic, as its options have it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

from eventmicro.codec import Encoder
from eventmicro.codecs import Body, Codecs
from eventmicro.codecs.survival import check_survives
from eventmicro.codecs.validation import is_record
from eventmicro.errors import EncodeError, UsageError
from eventmicro.events.objects import LargeMessage
from eventmicro.handlers.unawaited import unawaited
from eventmicro.kinds import TypeHeader
from eventmicro.message import Bounded, Message, Routed, Tombstone
from eventmicro.tokens import read_template
from eventmicro.topic import Pick, Topic
from eventmicro.wire import JSON, check_headers, check_subject, check_text, without

if TYPE_CHECKING:
    from eventmicro.events.cloudevents import Writing

log = logging.getLogger(__name__)


class Route:
    """The way of the events of one topic, or on one subject.

    Args:
        topic: either; a topic is not kept alive.
        codecs: how events travel.
        forgets: the broker, if it recognises no ids and that was not said yet; shared by the routes of a client.
        gone: what is called with the dead reference when the topic is no more.
        labels: whether the broker wants to be told what an event is written in; see `eventmicro.broker.LabelsEvents`.

    Raises:
        UsageError: it is neither, or has wildcards, or no codec handles its type.

    kind: what its messages are.
    is_large: whether a body may be kept apart.
    pattern: what the topic was made of, `logs.{level}`; empty where it was written as it is.
    """

    __slots__ = (
        "_body",
        "_codecs",
        "_encode",
        "_encode_bare",
        "_forgets",
        "_label",
        "_labels",
        "_message",
        "_pick_id",
        "_pick_key",
        "_subject",
        "_topic",
        "pattern",
    )
    kind: ClassVar[type[Message]] = Message
    is_large = False

    def __init__(
        self,
        topic: Topic[Any] | str,
        codecs: Codecs,
        forgets: list[str] | None = None,
        gone: Callable[[ref[Topic[Any]]], object] | None = None,
        *,
        labels: bool = False,
    ) -> None:
        self._topic: ref[Topic[Any]] | None = None
        self._forgets = [] if forgets is None else forgets
        self._codecs = codecs
        self._body: Body | None = None
        self._pick_key: Pick | None = None
        self._pick_id: Pick | None = None
        self._message: Callable[[str], Message] = self.kind
        self._labels = labels
        self.pattern = ""
        self._label: str | None = None  # where an event has no headers, and the broker is told what it is written in
        self._encode_bare: Encoder | None = None  # where it has none, and the broker is not
        self._encode: Encoder | None = None  # likewise, and nothing else is said of it but its body
        if isinstance(topic, Topic):
            self._topic = ref(topic, gone)
            self._subject = _exact(topic.name)
            self.pattern = topic.pattern
            self._body = self._find_body(topic, codecs)
            self._pick_key, self._pick_id = topic.pick_key, topic.pick_id
            self._message = _maker(self.kind, topic)
            if not self._body.announced:
                self._prepare(self._body)
        else:
            check_topic(topic)
            self._subject = _exact(topic)

    def _find_body(self, topic: Topic[Any], codecs: Codecs) -> Body:
        """How the topic's events travel."""
        return _body_of(topic, topic.type, codecs)

    def _prepare(self, body: Body) -> None:
        """Compile the way of events without headers."""
        is_plain = self._message is Message and self._pick_key is None and self._pick_id is None
        if not self._labels:
            self._encode_bare = body.encode
            self._encode = body.encode if is_plain else None
        elif is_plain:
            self._label = body.content_type

    @property
    def subject(self) -> str:
        """Where they go."""
        return self._subject

    def body(self, event: Any) -> Body:
        """How an event travels: as its topic says, or on a plain subject as its own type does."""
        return self._body or self._codecs.body(type(event))

    def message(self, event: Any, key: Hashable, id: Hashable, metadata: dict[str, str] | None) -> Message:
        """The message of an event, ready to be sent; errors as of `address` and `pack`."""
        encode = self._encode
        try:
            if encode is not None and key is None and id is None and not metadata:
                return Message(self._subject, encode(event))
            if self._label is not None and key is None and id is None and not metadata:
                return Message(self._subject, self.body(event).encode(event), content_type=self._label)
        except EncodeError as error:
            raise self._unfit(event, error) from error.__cause__
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
        if self._encode_bare is not None and not metadata:
            try:
                message.body = self._encode_bare(event)
            except EncodeError as error:
                raise self._unfit(event, error) from error.__cause__
        else:
            self.write(message, event, check_headers(metadata) if metadata else {})
        return message

    def write(self, message: Message, event: Any, headers: dict[str, str]) -> None:
        """Fill in an addressed message; the headers are its own."""
        body = self.body(event)
        if self._labels:
            message.content_type = body.content_type
        try:
            if headers or body.announced:
                message.body = body.pack(event, headers)
                message.headers = headers or None
            else:
                message.body = body.encode(event)
        except EncodeError as error:
            raise self._unfit(event, error) from error.__cause__

    def _pick(self, pick: Pick, event: Any, what: str) -> Hashable:
        """An event's key or id, as its topic takes it out of it."""
        try:
            return pick(event)
        except (AttributeError, KeyError, TypeError) as error:
            try:
                self.body(event).encode(event)
            except EncodeError as unfit:  # it is no event of this topic at all
                raise self._unfit(event, unfit) from None
            topic = self._topic and self._topic()
            raise UsageError(f"{topic!r}: this event has no {what} as the topic says: {error!r}") from None

    def _unfit(self, event: Any, error: EncodeError) -> EncodeError:
        """What is wrong with an event that is none of this topic's, where that is, and what mends it."""
        topic = self._topic() if self._topic is not None else None
        where = self._subject if topic is None else repr(topic)
        if told := unawaited(event, "await it, and publish what it gives"):
            return EncodeError(f"{where}: the event is {told}")
        kind: Any = None if topic is None else topic.type
        if not is_record(kind) or isinstance(event, kind):
            return EncodeError(f"{error}; published to {where}")
        return EncodeError(f"{error}; {where} carries {kind.__name__}: write {kind.__name__}(...)")


class LargeRoute(Route):
    """The same for events whose bodies are kept apart where they are too large for the broker."""

    __slots__ = ()
    kind = LargeMessage
    is_large = True


class CloudEventRoute(Route):
    """The same for events that are CloudEvents; `writing` is how."""

    __slots__ = ("writing",)
    writing: Writing

    def _prepare(self, body: Body) -> None:
        """Nothing: each has headers."""

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


class ToldRoute(Route):
    """The same for events of several types, of which a header says which each is."""

    __slots__ = ("_bodies", "_told_by")
    _bodies: Mapping[str, Body]
    _told_by: TypeHeader

    def _find_body(self, topic: Topic[Any], codecs: Codecs) -> Body:
        assert topic.told_by is not None
        self._told_by = topic.told_by
        self._bodies = {name: _body_of(topic, kind, codecs) for name, kind in topic.told_by.names.items()}
        return next(iter(self._bodies.values()))

    def _prepare(self, body: Body) -> None:
        """Nothing: each has a header."""

    def body(self, event: Any) -> Body:
        return self._bodies[self._told_by.name_of(event)]

    def message(self, event: Any, key: Hashable, id: Hashable, metadata: dict[str, str] | None) -> Message:
        return self.pack(self.address(event, key, id), event, metadata)

    def write(self, message: Message, event: Any, headers: dict[str, str]) -> None:
        without(headers, self._told_by.header)
        headers[self._told_by.header] = self._told_by.name_of(event)
        super().write(message, event, headers)


class PlacedToldRoute(PlacedRoute, ToldRoute):
    """The same for both."""

    __slots__ = ()


class OptionalRoute(Route):
    """The same for events that may be None, which is published as a tombstone; `present` is the way of all others."""

    __slots__ = ("_tombstone", "is_large", "present")

    def __init__(self, topic: Topic[Any], present: Route, codecs: Codecs, forgets: list[str], *, labels: bool) -> None:
        super().__init__(topic, codecs, forgets, labels=labels)
        self._tombstone: Callable[[str], Tombstone] = _maker(Tombstone, topic)
        self.present = present
        self.is_large = present.is_large

    def message(self, event: Any, key: Hashable, id: Hashable, metadata: dict[str, str] | None) -> Message:
        if event is None:
            return self.pack(self.address(event, key, id), event, metadata)
        return self.present.message(event, key, id, metadata)

    def address(self, event: Any, key: Hashable = None, id: Hashable = None) -> Message:
        if event is not None:
            return self.present.address(event, key, id)
        if key is None and self._pick_key is not None:
            raise UsageError(f"{self._subject}: None has no field that is its key: say whose it is, by key=")
        tombstone = self._tombstone(self._subject)
        for word, value in (("key", key), ("id", id)):
            if value is not None:
                setattr(tombstone, word, check_text(_as_text(value, word), word))
        return tombstone

    def pack(self, message: Message, event: Any, metadata: dict[str, str] | None) -> Message:
        return self.present.pack(message, event, metadata)

    def write(self, message: Message, event: Any, headers: dict[str, str]) -> None:
        self.present.write(message, event, headers)


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


def _body_of(topic: Topic[Any], kind: Any, codecs: Codecs) -> Body:
    if topic.codec is not None:
        return codecs.body_by(kind, topic.codec, topic.compression)
    body = codecs.body_as(kind, topic.content_type, topic.compression)
    try:
        check_survives(kind, in_json=body.content_type == JSON)
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
