"""Directing: a client's view of who is there, and its choice of whom to ask. Nothing is looked up before that."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NoReturn

from eventmicro.broker import Broker, TellsUnreached
from eventmicro.checks import check_several, did_you_mean
from eventmicro.discovery.asking import ask_service
from eventmicro.discovery.cache import FIRST_LOOK, ServiceCache, View
from eventmicro.discovery.filters import explain
from eventmicro.discovery.marks import Marks
from eventmicro.discovery.services_api import STOPPING
from eventmicro.discovery.strategies import make_selector
from eventmicro.errors import NotFound, Unavailable, UsageError
from eventmicro.information import record_of
from eventmicro.plugins import REGISTRY_VARIABLE
from eventmicro.registry import SUBJECT, Registry, ServiceRecord
from eventmicro.selector import Choice, Filter, Node, NodeMarks, Selector
from eventmicro.terms import Learn, learn_nothing
from eventmicro.wire import is_subject, names_node

DEFAULT_SELECTOR = "two-choices"
# How much a new answer counts in how long a node takes to answer.
NEW = 0.2
# How long it is waited for a service that is asked what it has, in seconds; for how long its answer is used, and of how
# many endpoints.
FIND = 1.0
FOUND = 1.0
FINDINGS = 1000

Finding = str | NotFound | Unavailable | None


class Directing:
    """Chooses the node of each directed call, and finds out what is there where nobody takes a call.

    Args:
        open_registry: gives the registry when it is needed for the first time; None: there is none.
        broker: what carries the calls.
        selector: what chooses where a call does not say so; None: `two-choices`.
        marks: what keeps calls away from nodes that fail; None: `Marks`.
        learn: is told the terms of the endpoints that are looked up.
    """

    def __init__(
        self,
        open_registry: Callable[[], Registry | None],
        broker: Broker,
        selector: str | Selector | None = None,
        marks: NodeMarks | None = None,
        learn: Learn = learn_nothing,
    ) -> None:
        self._open_registry = open_registry
        self._broker = broker
        self._cache: ServiceCache | None = None
        self._default = make_selector(selector or DEFAULT_SELECTOR)
        self._named: dict[str, Selector] = {}
        self._marks: NodeMarks = Marks() if marks is None else marks
        self._learn = learn
        self._finding: OrderedDict[str, tuple[float, asyncio.Task[Finding]]] = OrderedDict()

    def choose(
        self,
        choice: Choice,
        selector: str | Selector | None,
        filters: Iterable[Filter],
        tried: Sequence[Node],
        deadline: float,
    ) -> Node | Awaitable[Node]:
        view = (self._cache or self._open_cache()).known(choice.service)
        if view is None:
            return self._look_and_choose(choice, selector, filters, tried, deadline)
        select = self._default if selector is None else self._selector(selector)
        if type(filters) is not tuple:
            filters = check_several("filters", filters, "version('^1')")
        nodes = view.nodes(filters) or _no_nodes(view, filters)
        asked, marks = (_untried(nodes, tried) if tried else nodes), self._marks
        if marks.any_marked:
            asked = marks.usable(asked) or self._usable_again(choice, nodes)
        node = select(asked, choice)
        if not isinstance(node, Node):
            raise UsageError(f"the selector {select!r} has returned {node!r}: return one of the nodes that it is given")
        if marks.any_marked:
            marks.chosen(node)
        return node

    def _usable_again(self, choice: Choice, nodes: Sequence[Node]) -> Sequence[Node]:
        """Those that were tried before, rather than one that is out."""
        usable = self._marks.usable(nodes)
        if not usable:
            raise Unavailable(
                f"none of the {len(nodes)} nodes of {choice.service!r} is asked for a while, as too many calls to it "
                f"have failed",
                id=choice.service,
            )
        return usable

    async def _look_and_choose(
        self,
        choice: Choice,
        selector: str | Selector | None,
        filters: Iterable[Filter],
        tried: Sequence[Node],
        deadline: float,
    ) -> Node:
        """The same for a service that was not looked at yet."""
        await self.look(choice.service, deadline)
        node = self.choose(choice, selector, filters, tried, deadline)
        return node if isinstance(node, Node) else await node

    async def look(self, service: str, deadline: float) -> None:
        await self.view(service, max(0.0, min(FIRST_LOOK, deadline - time.monotonic())))

    async def nodes(self, service: str, filters: Iterable[Filter], deadline: float) -> Sequence[Node]:
        view = await self.view(service, max(0.0, min(FIRST_LOOK, deadline - time.monotonic())))
        several = check_several("filters", filters, "version('^1')")
        return view.nodes(several) or _no_nodes(view, several)

    def mark(self, node: Node, seconds: float, failed: bool | None) -> None:
        self._marks.mark(node, failed=failed)
        if failed is False:
            latency = node.latency
            node.latency = latency + NEW * (seconds - latency) if latency else seconds

    async def find(self, endpoint: str, within: float) -> Finding:
        if names_node(endpoint.partition(".")[2]):  # one node that is gone says nothing of its service
            return None
        now = time.monotonic()
        until, finding = self._finding.get(endpoint, (0.0, None))
        if finding is None or until <= now:
            finding = asyncio.create_task(self._find(endpoint))
            self._finding[endpoint] = now + FOUND, finding
            self._finding.move_to_end(endpoint)
            if len(self._finding) > FINDINGS:
                _, (_, oldest) = self._finding.popitem(last=False)
                oldest.cancel()  # nobody else holds it; who still waits for it is told nothing
        await asyncio.wait([finding], timeout=max(within, 0.0))
        if not finding.done() or finding.cancelled():
            return None
        found = finding.result()  # an error is not shared by those who raise it
        if isinstance(found, str | None):
            return found
        if isinstance(found, Unavailable):
            return _nobody(found.detail, found.id)
        return NotFound(found.detail, id=found.id)

    async def view(self, service: str, within: float) -> View:
        """What is known of a service; see `ServiceCache.look`."""
        return await (self._cache or self._open_cache()).look(service, within)

    async def close(self) -> None:
        """Watch no more."""
        cache, self._cache = self._cache, None
        finding = [task for _, task in self._finding.values()]
        self._finding.clear()
        for task in finding:
            task.cancel()
        await asyncio.gather(*finding, return_exceptions=True)
        if cache is not None:
            await cache.close()

    def _open_cache(self) -> ServiceCache:
        registry = self._open_registry()
        if registry is None:
            raise UsageError(
                f"a selector, a filter, a key or call_all needs a registry, and {self._broker.url} keeps none: name "
                f"one by registry= or {REGISTRY_VARIABLE}, such as 'etcd://127.0.0.1:2379'"
            )
        self._cache = ServiceCache(registry, self._learn)
        return self._cache

    def _selector(self, selector: str | Selector) -> Selector:
        if not isinstance(selector, str):
            return make_selector(selector)
        if selector not in self._named:
            self._named[selector] = make_selector(selector)
        return self._named[selector]

    async def _find(self, endpoint: str) -> Finding:
        service, _, name = endpoint.partition(".")
        form = await ask_service(self._broker, service, within=FIND)
        if form is None:
            return await self._unreached(endpoint)
        if form.get(STOPPING) is True:  # it takes no more calls
            return None
        record = record_of(form)
        return None if record is None else _explain(record, endpoint, name)

    async def _unreached(self, endpoint: str) -> Unavailable | None:
        """What is to be said where somebody is there all the same."""
        why = await self._broker.unreached(endpoint) if isinstance(self._broker, TellsUnreached) else ""
        return _nobody(f"nobody serves {endpoint}: {why}", endpoint) if why else None


def _nobody(detail: str, endpoint: str) -> Unavailable:
    error = Unavailable(detail, id=endpoint)
    error.nobody = True
    return error


def _explain(record: ServiceRecord, endpoint: str, name: str) -> Finding:
    """What is to be said of an endpoint that nobody serves, though its service is there."""
    names = {each.name: each for each in record.endpoints if not each.is_subscriber}
    if name in names:  # it starts or stops at this moment, or it is another framework's, with a subject of its own
        subject = names[name].metadata.get(SUBJECT, endpoint)
        return subject if subject != endpoint and is_subject(subject) else None
    there = f"there are {', '.join(sorted(names))}" if names else "it has none"
    meant = did_you_mean(name, names)
    return NotFound(f"service {record.name!r} has no endpoint {name!r}: {there}{meant}", id=endpoint)


def _untried(nodes: Sequence[Node], tried: Sequence[Node]) -> Sequence[Node]:
    return [node for node in nodes if node not in tried] or nodes


def _no_nodes(view: View, filters: tuple[Filter, ...]) -> NoReturn:
    if view.aloof:
        raise Unavailable(
            f"no node of {view.name!r} can be asked alone, as they are another framework's, or on a broker without "
            f"calls: call it without selector, filters and key",
            id=view.name,
        )
    if not view.nodes():
        raise NotFound(
            f"no node of service {view.name!r} is registered in {view.registry}; one that another framework runs is "
            f"called without selector, filters and key",
            id=view.name,
        )
    why = explain(filters, view.nodes())
    raise Unavailable(
        f"none of the {len(view.nodes())} nodes of {view.name!r} passes the filters of this call{why and ': '}{why}",
        id=view.name,
    )
