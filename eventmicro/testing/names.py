"""Names: what there is in a world that a test may name, and what it may have meant where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from eventmicro.errors import UsageError
from eventmicro.handlers.signature import MISSING
from eventmicro.memory.hub import pattern
from eventmicro.topic import Topic
from eventmicro.wire import check_subject, has_wildcards

if TYPE_CHECKING:
    from eventmicro.service import Service

What = Topic[Any] | str
"""What is meant: the events of a topic, or by name a handler, a subject, or all that match a pattern."""

# What every service answers to beside its endpoints.
OWN = ("health", "stats")
# How like two subjects are, from 0 to 1, of which one is perhaps the other with a slip.
NEAR = 0.8

_NODE = re.compile(r"^([^.]+)\.\$node\.[^.]+\.")


@dataclass(frozen=True, slots=True)
class Meant:
    """What a name stands for.

    handlers: the handlers of these names.
    subjects: what travels to the subjects that match; None: it is a subscriber's name, to which nothing travels.
    topic: that which was given, if it was one.
    """

    name: str
    handlers: frozenset[str]
    subjects: re.Pattern[str] | None
    topic: Topic[Any] | None = None

    def travels_on(self, subject: str) -> bool:
        """Whether a message to this subject is meant."""
        return self.subjects is not None and self.subjects.fullmatch(subject) is not None


class Names:
    """What the services of a world declare.

    Args:
        services: these.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = list(services)
        self.endpoints = {f"{each.name}.{name}" for each in self._services for name in each.endpoints}
        self.subscribers: dict[str, str] = {}
        self._kinds: dict[str, Any] = {}
        signatures = [declared.signature for each in self._services for declared in each.endpoints.values()]
        signatures += [declared.signature for each in self._services for declared in each.subscribers.values()]
        self._published = {outlet.topic.subject for signature in signatures for outlet in signature.outlets}
        self.learn()

    @property
    def subjects(self) -> set[str]:
        """Those that are subscribed to, and those of what handlers are declared to publish."""
        return self._published | set(self.subscribers.values())

    def learn(self) -> None:
        """Take in what is subscribed to, also by subscribers that were started since."""
        for service in self._services:
            presence = None if service._node is None else service._node._presence
            for declared in (*service.subscribers.values(), *(presence.subscribers if presence else ())):
                self.subscribers[f"{service.name}.{declared.name}"] = declared.subject
                if declared.event is not MISSING and declared.codec is None:
                    self._kinds[f"{service.name}.{declared.name}"] = declared.event

    def find(self, what: What) -> Meant:
        """What is meant.

        Raises:
            UsageError: there is nothing of this name.
        """
        if isinstance(what, Topic):
            return Meant(what.subject, frozenset(), pattern(what.subject), what)
        if not isinstance(what, str):
            raise UsageError(f"{what!r}: write a topic, or the name of a handler or a subject, such as 'stock.reserve'")
        self.learn()
        handlers = {what} & (self.endpoints | set(self.subscribers))
        if handlers:
            return Meant(what, frozenset(handlers), None if what in self.subscribers else pattern(what))
        check_subject(what, wildcards=True)
        wanted = pattern(what)
        endpoints = frozenset(filter(wanted.fullmatch, self.endpoints))
        if not endpoints and not any(_overlap(what, known) for known in self.subjects):
            raise UsageError(self._unknown(what))
        return Meant(what, endpoints, wanted)

    def check_endpoint(self, endpoint: str) -> None:
        """Refuse an endpoint that a service of this world does not have: nobody could have called it.

        Raises:
            UsageError: naming those that it may be.
        """
        service = endpoint.partition(".")[0]
        if has_wildcards(endpoint) or service not in {each.name for each in self._services}:
            return
        own = {f"{service}.{name}" for name in OWN}
        there = {name for name in self.endpoints | own if name.partition(".")[0] == service}
        if endpoint not in there:
            raise UsageError(f"{service!r} has no endpoint {endpoint!r}; {_meant(endpoint, there)}")

    def check_subject(self, subject: str) -> None:
        """Refuse a subject of which nobody here knows, where one is known that is nearly it.

        Raises:
            UsageError: naming those that it may be.
        """
        self.learn()
        known = self.subjects
        if has_wildcards(subject) or any(_overlap(subject, each) for each in known):
            return
        if get_close_matches(subject, known, cutoff=NEAR):
            raise UsageError(
                f"no topic of this world is called {subject!r}; {_meant(subject, known)} If not, write "
                f"Topic({subject!r}, object)"
            )

    def kinds_of(self, subject: str) -> list[Any]:
        """As what events of a subject are taken, by those who subscribe to it."""
        return [kind for name, kind in self._kinds.items() if pattern(self.subscribers[name]).fullmatch(subject)]

    def _unknown(self, what: str) -> str:
        known = sorted(self.endpoints | set(self.subscribers) | self.subjects)
        meant = _meant(what, known)
        return f"nothing in this world is called {what!r}, and none of its services subscribes to it; {meant}"


def _meant(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    before, dot, last = name.rpartition(".")
    head = before + dot  # what they begin with alike makes none of them nearer
    ends = [each.removeprefix(head) for each in known if each.startswith(head)]
    close = [head + end for end in get_close_matches(last, ends, n=3)] or get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known) or 'none'}"


def endpoint_of(subject: str) -> str:
    """The endpoint that is called by a subject, also where that is of one node."""
    return _NODE.sub(r"\1.", subject)


def _overlap(one: str, other: str) -> bool:
    """Whether a message could be on both."""
    if has_wildcards(one) and has_wildcards(other):
        first, second = one.split("."), other.split(".")
        return all(a == b or {a, b} & {"*", ">"} for a, b in zip(first, second, strict=False))
    return bool(pattern(one).fullmatch(other) or pattern(other).fullmatch(one))
