"""Where the events of a topic go and how they travel: found once, used for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any
from weakref import ref

from eventmicro.cloudevents import PLAIN, Binding
from eventmicro.codecs import Codecs
from eventmicro.errors import UsageError
from eventmicro.events.route import (
    CloudEventRoute,
    LargeCloudEventRoute,
    LargeRoute,
    OptionalRoute,
    PlacedCloudEventRoute,
    PlacedRoute,
    PlacedToldRoute,
    Route,
    ToldRoute,
)
from eventmicro.large import check_large_event
from eventmicro.places import Exchange
from eventmicro.topic import Pick, Topic, check_apart, takes_none

# How many routes of plain subjects are kept: a program may make them up, one for each order.
MOST = 4_096


class Routes:
    """The routes that a client has used: those of topics as long as these live, those of subjects up to a number.

    Args:
        forgets: the broker, by its URL, if it recognises no event by its id; the first id has that said.
        check_large: refuses events whose bodies are to be kept apart, where the broker does not do that.
        binding: how the broker carries the attributes of CloudEvents.
        check_exchange: refuses a topic's exchange, where the broker does not know it.
        check_keeps: refuses what a topic says of its events, where the broker does not keep it.
        labels: whether the broker wants to be told what an event is written in.

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
        *,
        labels: bool = False,
    ) -> None:
        self.source = "/client"
        self._binding = binding or PLAIN
        self._codecs = codecs
        self._labels = labels
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
            return Route(topic, self._codecs, self._forgets, labels=self._labels)

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
        if isinstance(topic, Topic) and topic.told_by is not None:
            raise UsageError(f"{topic!r} has told_by=, with which large= does not go together")
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
        route = self._make_present(topic, gone, is_large=is_large)
        if not isinstance(topic, Topic) or not takes_none(topic.type) or topic.exchange is not None:
            return route
        return OptionalRoute(topic, route, self._codecs, self._forgets, labels=self._labels)

    def _make_present(
        self, topic: Topic[Any] | str, gone: Callable[[ref[Topic[Any]]], object] | None, *, is_large: bool
    ) -> Route:
        """The route of events that are there."""
        options = topic.cloudevents if isinstance(topic, Topic) else None
        is_placed = isinstance(topic, Topic) and topic.exchange is not None
        if isinstance(topic, Topic) and topic.told_by is not None:
            told = PlacedToldRoute if is_placed else ToldRoute
            return told(topic, self._codecs, self._forgets, gone, labels=self._labels)
        if options is None or not isinstance(topic, Topic):
            plain: type[Route] = LargeRoute if is_large else PlacedRoute if is_placed else Route
            return plain(topic, self._codecs, self._forgets, gone, labels=self._labels)
        from eventmicro.events.cloudevents import Writing  # which others do not need

        if is_large:
            check_apart(options)
        kind = LargeCloudEventRoute if is_large else PlacedCloudEventRoute if is_placed else CloudEventRoute
        route = kind(topic, self._codecs, self._forgets, gone, labels=self._labels)
        route.writing = Writing(options, self.source, topic.name, self._binding)
        return route

    def _remember(self, subject: str) -> Route:
        route = self._known[subject] = Route(subject, self._codecs, self._forgets, labels=self._labels)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return route


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
