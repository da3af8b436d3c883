"""The nodes of the services that a client asks for, kept up to date by one watch of each: no call waits for a registry
that has answered once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, cast

from eventmicro.checks import check_function
from eventmicro.errors import Unavailable, UsageError
from eventmicro.registry import Change, Registry, ServiceRecord
from eventmicro.selector import Filter, Node
from eventmicro.terms import NO_TERMS, Learn, Terms, learn_nothing

log = logging.getLogger(__name__)

# How many services are watched; those that were not asked for the longest are forgotten.
SERVICES = 1000
# For how many sets of filters it is remembered what they let through, of one service.
FILTERED = 64
# How long the first look at a service waits for the registry, in seconds.
FIRST_LOOK = 5.0
# How long a watch that has ended, though it never should, waits before it begins again, in seconds.
AGAIN = 1.0
LOST = Change("lost")

_Kind = tuple[frozenset[str], frozenset[tuple[str, Terms]]]
"""The endpoints of a node, and the terms of those that have some."""


class View:
    """What is known of one service: its nodes, each the same object for as long as it is there.

    Args:
        learn: is told the terms of its endpoints: what all nodes say that have them.
    """

    def __init__(self, name: str, registry: str, learn: Learn = learn_nothing) -> None:
        self.name = name
        self.registry = registry
        self.stale = False
        """Whether the registry is away, so that this is what it said last."""
        self.aloof = False
        """Whether no node can be asked alone, as all are another framework's, or on a broker without calls."""
        self.why = ""
        """Why nothing is heard of the registry, as far as is known."""
        self.synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told: set[str] | None = set()  # the nodes of which a watch has told that has not told all yet
        self._nodes: dict[str, Node] = {}
        self._all: Sequence[Node] = ()
        self._filtered: dict[tuple[Filter, ...], Sequence[Node]] = {}
        self._kinds: dict[str, _Kind] = {}  # of each node, what decides over the terms: few, as most have one version
        self._counts: Counter[_Kind] = Counter()
        self._learnt: dict[str, Terms] = {}
        self._learn = learn

    @property
    def count(self) -> int:
        """How many nodes there are, those included that cannot be asked alone."""
        return len(self._nodes)

    def nodes(self, filters: tuple[Filter, ...] = ()) -> Sequence[Node]:
        """The nodes that all filters let through; the same list until something changes."""
        if not filters:
            return self._all
        try:
            found = self._filtered.get(filters)
        except TypeError:  # an object that cannot be hashed
            return self._filter(filters)
        if found is None:
            found = self._filter(filters)
            if len(self._filtered) >= FILTERED:  # functions that are made anew for each call
                self._filtered.clear()
            self._filtered[filters] = found
        return found

    def begin(self) -> None:
        """A watch begins, which tells of all who are there before it is synced; of the others it knows nothing."""
        self._told = set()

    def apply(self, change: Change) -> None:
        """Take in what the watch tells."""
        if change.action == "synced":
            self.stale = False
            self._drop_untold()
            if not self.synced.done():
                self.synced.set_result(None)
        elif change.action == "lost":
            self.stale = True
        elif change.service is not None:
            self._take_in(change.action == "delete", change.service)

    def _filter(self, filters: tuple[Filter, ...]) -> Sequence[Node]:
        for each in filters:
            if isinstance(each, str):
                raise UsageError(
                    f"filters: {each!r} is no function: write filters.version({each!r}), filters.node({each!r}) …"
                )
            check_function("filters", each)
        return [node for node in self._all if all(each(node) for each in filters)]

    def _take_in(self, gone: bool, service: ServiceRecord) -> None:
        for record in service.nodes:
            if gone:
                self._nodes.pop(record.id, None)
                self._set_kind(record.id, None)
                continue
            if self._told is not None:
                self._told.add(record.id)
            node = self._nodes.setdefault(record.id, Node(service.name, record.id))
            node.version, node.address = service.version, record.address
            node.metadata = {**service.metadata, **record.metadata}
            node.endpoints = frozenset(each.name for each in service.endpoints if not each.is_subscriber)
            terms = {each.name: each.terms for each in service.endpoints if each.terms is not None}
            self._set_kind(record.id, (node.endpoints, frozenset(terms.items())))
        self._look_over()

    def _set_kind(self, node: str, kind: _Kind | None) -> None:
        """This node is of that kind now, or gone; where it is the first or the last of one, terms may have changed."""
        former = self._kinds.pop(node, None)
        if kind is not None:
            self._kinds[node] = kind
        if kind == former:
            return
        kinds = len(self._counts)
        if former is not None:
            self._counts[former] -= 1
            if not self._counts[former]:
                del self._counts[former]
        if kind is not None:
            self._counts[kind] += 1
        if former is not None or len(self._counts) != kinds:
            self._tell_terms(self._common_terms())

    def _drop_untold(self) -> None:
        told, self._told = self._told, None
        if told is not None and not self._nodes.keys() <= told:  # who went between two watches
            self._nodes = {each: node for each, node in self._nodes.items() if each in told}
            for each in self._kinds.keys() - told:
                self._set_kind(each, None)
            self._look_over()

    def _look_over(self) -> None:
        self._all = tuple(node for node in self._nodes.values() if node.address)
        self.aloof = bool(self._nodes) and not self._all
        self._filtered.clear()

    def forget(self) -> None:
        """Nothing is known of it any more."""
        self._tell_terms({})

    def _common_terms(self) -> dict[str, Terms]:
        """What holds for an endpoint on whatever node it is called: idempotent is what all say to be."""
        kinds = [(endpoints, dict(told)) for endpoints, told in self._counts]
        terms = dict[str, Terms]()
        for name in {each for _, told in kinds for each in told}:
            said = [told.get(name, NO_TERMS) for endpoints, told in kinds if name in endpoints]
            timeouts = [each.timeout for each in said if each.timeout is not None]
            terms[name] = Terms(all(each.idempotent for each in said), max(timeouts, default=None))
        return terms

    def _tell_terms(self, terms: dict[str, Terms]) -> None:
        former, self._learnt = self._learnt, terms
        for name in former.keys() | terms.keys():
            if former.get(name) != terms.get(name):
                self._learn(f"{self.name}.{name}", terms.get(name))


class ServiceCache:
    """Views of services, each made when it is first asked for, and watched from then on."""

    def __init__(self, registry: Registry, learn: Learn = learn_nothing) -> None:
        self._registry = registry
        self._learn = learn
        self._views: OrderedDict[str, View] = OrderedDict()
        self._watching: dict[str, asyncio.Task[None]] = {}

    def known(self, name: str) -> View | None:
        """The view of a service that has been looked at; None: `look` is to be awaited."""
        view = self._views.get(name)
        if view is None or not view.synced.done():
            return None
        if len(self._views) >= SERVICES:  # only then it matters who was asked for last
            self._views.move_to_end(name)
        return view

    async def look(self, name: str, within: float = FIRST_LOOK) -> View:
        """The view of a service, when the registry has told who is there; one look for all who wait.

        Args:
            within: how long to wait for that, in seconds.

        Raises:
            Unavailable: it did not answer in time, or this was closed; nothing is known of the service.
        """
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = View(name, self._registry.url, self._learn)
            self._watching[name] = asyncio.create_task(self._watch(view))
            self._forget_beyond(SERVICES)
        self._views.move_to_end(name)
        try:
            async with asyncio.timeout(within):
                await asyncio.wait([view.synced])
        except TimeoutError:
            what = f"registry {self._registry.url} did not say within {within:.3g} s who serves {name!r}"
            raise Unavailable(what + (view.why and f": {view.why}"), id=name) from None
        if view.synced.cancelled():
            raise Unavailable(f"who serves {name!r} is watched no more, as the client was closed", id=name)
        return view

    async def close(self) -> None:
        """Watch no more."""
        tasks = list(self._watching.values())
        self._forget_beyond(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget_beyond(self, most: int) -> None:
        while len(self._views) > most:
            name, view = self._views.popitem(last=False)
            self._watching.pop(name).cancel()
            view.forget()
            if not view.synced.done():
                view.synced.cancel()

    async def _watch(self, view: View) -> None:
        while True:
            view.begin()
            try:
                await self._registry.connect()
                async with aclosing(cast("Any", self._registry.watch(view.name))) as changes:
                    async for change in changes:
                        self._say(view, change)
                        view.apply(change)
                view.why = "its watch has ended"
            except Unavailable as error:  # it cannot be connected yet, or was closed
                view.why = error.detail
            except Exception as error:  # a setting of it, or an adapter's fault; it may be mended yet
                self._say_fault(view, error)
            if view.synced.done() and not view.stale:
                self._say(view, LOST)
                view.apply(LOST)
            await asyncio.sleep(AGAIN)

    def _say_fault(self, view: View, error: Exception) -> None:
        former, view.why = view.why, f"{type(error).__name__}: {error}"
        if view.why != former:
            log.error("registry %s cannot be watched, and is tried again: %s", self._registry.url, view.why)

    def _say(self, view: View, change: Change) -> None:
        if change.action == "lost" and not view.stale:
            log.warning("registry %s is away: of %s what it said last is used", self._registry.url, view.name)
        elif change.action == "synced" and view.stale:
            log.info("registry %s is back: %s is up to date", self._registry.url, view.name)
