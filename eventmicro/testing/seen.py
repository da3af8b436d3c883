"""Seen: what a test asks of its world, each answer in the order in which it happened, typed by the topic."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from eventmicro.events.letters import DeadLetter
from eventmicro.message import Delivery, Message
from eventmicro.testing.golden import UPDATE_VARIABLE, Example, compare
from eventmicro.testing.names import Meant, Names, What, endpoint_of
from eventmicro.testing.reading import Reader
from eventmicro.testing.records import Called, Dead, Handled, Journal, Published, Sent
from eventmicro.topic import Topic

if TYPE_CHECKING:
    from eventmicro.service import Service

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")


class Seen:
    """A base for what has seen something: a World. What it has seen it knows also when it is over."""

    def __init__(self, journal: Journal, reader: Reader, names: Names, services: Iterable[Service]) -> None:
        self._journal = journal
        self._reader = reader
        self._names = names
        self._requests = {
            f"{each.name}.{name}": (declared.request, declared.reply)
            for each in services
            for name, declared in each.endpoints.items()
        }

    # -- events --------------------------------------------------------------------------------------------------

    @overload
    def published(self, topic: Topic[T], *, where: Callable[[T], bool] | None = None) -> list[T]: ...
    @overload
    def published(self, topic: str, *, where: Callable[[Any], bool] | None = None) -> list[Any]: ...
    def published(self, topic: Topic[Any] | str, *, where: Callable[[Any], bool] | None = None) -> list[Any]:
        """The events of a topic that were published, by whomever; of a subject, or a pattern, what their JSON says.

        They are what a subscriber would get: read from what was sent. `messages` tells more of each.

        Args:
            where: those only for which it is true.

        Raises:
            DecodeError: one is not of the topic's type.
            UsageError: it is neither a topic nor a subject, or a subject that is nearly one which is known here.
        """
        return [each.value for each in self.messages(topic, where=where) if each.outcome != "failed"]

    @overload
    def messages(self, topic: Topic[T], *, where: Callable[[T], bool] | None = None) -> list[Published[T]]: ...
    @overload
    def messages(self, topic: str, *, where: Callable[[Any], bool] | None = None) -> list[Published[Any]]: ...
    def messages(self, topic: Topic[Any] | str, *, where: Callable[[Any], bool] | None = None) -> list[Published[Any]]:
        """The same with their metadata, who published each, and what became of it; also those that failed."""
        meant = self._subject(topic)
        found = [self._published(topic, sent) for sent in self._journal.sent if meant.travels_on(sent.message.subject)]
        if not found and isinstance(topic, str):
            self._names.check_subject(topic)
        return [each for each in found if where is None or where(each.value)]

    @overload
    def dead(self, what: Topic[T]) -> list[Dead[T]]: ...
    @overload
    def dead(self, what: str | None = None) -> list[Dead[Any]]: ...
    def dead(self, what: Topic[Any] | str | None = None) -> list[Dead[Any]]:
        """The events that were given up: all of them, those of a topic or a subject, or those of a subscriber's queue.

        Raises:
            UsageError: there is nothing of this name here.
        """
        letters = [DeadLetter.read(_as_delivery(sent.message)) for sent in self._journal.letters]
        if what is None:
            return [self._dead("", letter) for letter in letters]
        if isinstance(what, str) and any(letter.queue == what for letter in letters):
            return [self._dead("", letter) for letter in letters if letter.queue == what]
        meant = self._names.find(what)
        return [
            self._dead(what, letter)
            for letter in letters
            if letter.queue in meant.handlers or meant.travels_on(letter.subject)
        ]

    # -- calls and handlers --------------------------------------------------------------------------------------

    @overload
    def called(self, endpoint: str) -> list[Called[Any, Any]]: ...
    @overload
    def called(self, endpoint: str, reply: type[R]) -> list[Called[Any, R]]: ...
    @overload
    def called(self, endpoint: str, reply: type[R], request: type[Q]) -> list[Called[Q, R]]: ...
    def called(self, endpoint: str, reply: Any = Any, request: Any = Any) -> list[Called[Any, Any]]:
        """The calls of an endpoint that services and the world's client have made, one each, however many attempts that
        took; those that are still waiting for their reply, too.

        Args:
            endpoint: such as `stock.reserve`, also of a service that is not there; or a pattern.
            reply, request: their types, if they are to be known; default: they are what the caller had.

        Raises:
            UsageError: the service is one of this world, and has no such endpoint.
        """
        meant = Meant(endpoint, frozenset(), self._subject(endpoint).subjects)
        found = [each for each in self._journal.called if meant.travels_on(endpoint_of(each.endpoint))]
        if not found:
            self._names.check_endpoint(endpoint)
        for each in found:
            each.request = self._reader.as_type(each.request, request)
            each.reply = self._reader.as_type(each.reply, reply)
        return found

    @overload
    def handled(self, what: Topic[T]) -> list[Handled[T]]: ...
    @overload
    def handled(self, what: str) -> list[Handled[Any]]: ...
    def handled(self, what: What) -> list[Handled[Any]]:
        """What handlers have got, and what came of it: once for each attempt.

        Args:
            what: a handler's name, such as `orders.bill` or `stock.reserve`; a topic: all subscribers to it; or a
                pattern of subjects.

        Raises:
            UsageError: there is nothing of this name here.
        """
        found = self._journal.handled
        if any(each.handler == what for each in found):
            return [each for each in found if each.handler == what]
        meant = self._names.find(what)
        if meant.name in meant.handlers:
            return [each for each in found if each.handler == meant.name]
        return [each for each in found if meant.travels_on(each.subject)]

    # -- golden files --------------------------------------------------------------------------------------------

    def golden(self, path: str | Path, *what: What, without: Iterable[str] = (), update: bool | None = None) -> None:
        """See that what was sent is, byte for byte, what a file has on record, and that what is on record can be read.

        The file is JSON: of each topic and endpoint the messages that this test has seen. It is written by
        `pytest --eventmicro-update-golden`, or where `EVENTMICRO_TEST_UPDATE_GOLDEN` is `1`, and belongs to your
        sources.

        Args:
            path: the file.
            what: topics and endpoints whose messages are meant; default: all.
            without: names of metadata that differs from run to run; that of traces is left out in any case.
            update: whether the file is written; default: as pytest or the environment says.

        Raises:
            AssertionError: it differs, there is no such file, or a message in it can be read no more.
        """
        meant = [self._names.find(each) for each in what]
        names = frozenset(name.lower() for name in without)
        examples = [each for each in self._examples() if not meant or any(m.travels_on(each.subject) for m in meant)]
        if update is None:
            update = os.environ.get(UPDATE_VARIABLE, "") not in ("", "0")
        compare(Path(path), examples, names, self._read_example, update=update)

    # -- inside --------------------------------------------------------------------------------------------------

    def value_of(self, message: Message, topic: Topic[Any] | None) -> Any:
        """What a message says that is about to be sent; for faults that ask."""
        endpoint = endpoint_of(message.subject)
        if message.reply and endpoint in self._requests:
            return self._reader.message(self._requests[endpoint][0], message.subject, message.body, message.headers)
        return self._reader.event(topic or message.subject, message.subject, message.body, message.headers)

    def _subject(self, topic: Topic[Any] | str) -> Meant:
        """What travels on a subject, of which nobody here need know."""
        return self._names.find(Topic(topic, object) if isinstance(topic, str) else topic)

    def _published(self, topic: Topic[Any] | str, sent: Sent) -> Published[Any]:
        message = sent.message
        return Published(
            value=self._reader.event(topic, message.subject, message.body, message.headers),
            subject=message.subject,
            service=sent.service,
            metadata=dict(message.headers or {}),
            key=message.key,
            id=message.id,
            body=message.body,
            outcome=sent.outcome,
        )

    def _dead(self, topic: Topic[Any] | str, letter: DeadLetter) -> Dead[Any]:
        headers = dict(letter.headers) or None
        return Dead(
            subject=letter.subject,
            queue=letter.queue,
            reason=letter.reason,
            attempts=letter.attempts,
            metadata=headers or {},
            body=letter.body,
            read=partial(self._reader.event, topic, letter.subject, letter.body, headers),
        )

    def _examples(self) -> Iterator[Example]:
        for sent in self._journal.sent:
            if sent.outcome != "failed":
                yield Example("event", sent.message.subject, sent.message.headers or {}, sent.message.body)
        yield from (each for each in self._journal.exchanged if each.subject in self._requests)

    def _read_example(self, example: Example) -> None:
        """See that a message can be read by those who get it."""
        headers = dict(example.headers) or None
        if example.kind in ("request", "reply") and example.subject in self._requests:
            kind = self._requests[example.subject][example.kind == "reply"]
            self._reader.message(kind, example.subject, example.body, headers)
        elif example.kind == "event":
            for kind in self._names.kinds_of(example.subject):
                self._reader.message(kind, example.subject, example.body, headers)


def _as_delivery(message: Message) -> Delivery:
    return Delivery(message.subject, message.body, message.headers)
