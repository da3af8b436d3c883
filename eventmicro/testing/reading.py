"""Reading: what was on the wire, as a subscriber of its topic would get it."""

from __future__ import annotations

from typing import Any

from eventmicro.cloudevents import Binding
from eventmicro.codecs import Body, Codecs
from eventmicro.errors import BodyMissing
from eventmicro.events.objects import Objects
from eventmicro.events.settling import Live
from eventmicro.events.subscriber import Apart, Subscriber, Work
from eventmicro.kinds import members_of
from eventmicro.large import read_stored
from eventmicro.message import Delivery
from eventmicro.testing.records import Journal
from eventmicro.topic import Topic


class Recorded(Delivery):
    """A message as it was sent, to be read as a subscriber reads it."""

    __slots__ = ("_binding",)

    def __init__(self, subject: str, body: bytes, headers: dict[str, str] | None, binding: Binding) -> None:
        super().__init__(subject, body, headers)
        self._binding = binding

    @property
    def cloudevents(self) -> Binding:
        return self._binding


class Reader:
    """Decodes what a world has seen.

    Args:
        codecs: how its services write.
        journal: where the bodies are that were too large for the broker.
        binding: how the broker's headers have the attributes of CloudEvents.
    """

    def __init__(self, codecs: Codecs, journal: Journal, objects: Objects, binding: Binding) -> None:
        self._codecs = codecs
        self._journal = journal
        self._objects = objects
        self._binding = binding
        self._readers: dict[Any, Subscriber] = {}
        self._bodies: dict[Topic[Any], Body] = {}

    def event(self, topic: Topic[Any] | str, subject: str, body: bytes, headers: dict[str, str] | None) -> Any:
        """An event of a topic; of a mere subject what its JSON says.

        Raises:
            DecodeError, UnsupportedMediaType: it is not of the topic's type.
        """
        return self._read(self._body_of(topic), Recorded(subject, body, headers, self._binding))

    def message(self, kind: Any, subject: str, body: bytes, headers: dict[str, str] | None) -> Any:
        """A request, of the type that an endpoint takes; errors as of `event`."""
        return self._read(self._codecs.body(kind), Recorded(subject, body, headers, self._binding))

    def as_type(self, value: Any, kind: Any) -> Any:
        """What was given to be sent, as what it is for who gets it; errors as of `event`."""
        if kind is Any or kind is None or value is None:
            return value
        if any(isinstance(each, type) and isinstance(value, each) for each in members_of(kind)):
            return value
        return self._codecs.body(kind).decode(self._codecs.body(type(value)).encode(value))

    def _body_of(self, topic: Topic[Any] | str) -> Body:
        if isinstance(topic, str):
            return self._codecs.body(Any)
        if (body := self._bodies.get(topic)) is None:
            body = self._bodies[topic] = self._codecs.body_of_events(topic.type, topic.codec, topic.told_by)
        return body

    def _read(self, body: Body, delivery: Delivery) -> Any:
        reader = self._readers.get(body)
        if reader is None:
            work = Work("world", "reader", _nothing, body, None, None, Live("reader"), self._objects)
            reader = self._readers[body] = Subscriber(work, 1)
        try:
            return reader.read(delivery)
        except Apart as apart:
            stored = read_stored(apart.where)
            if stored.name not in self._journal.bodies:
                raise BodyMissing(f"without its body: this world has not seen the object {stored.name!r}") from None
            return reader.decode_as(self._journal.bodies[stored.name], apart.form)


async def _nothing(message: Any, context: Any) -> None:
    """The handler of what is only read."""
