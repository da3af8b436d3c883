"""The ready-made selectors, by name. Each client has its own ones, as most remember something."""

from __future__ import annotations

import hashlib
import random as _random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from eventmicro.checks import did_you_mean
from eventmicro.discovery.versions import Version, version_of
from eventmicro.errors import UsageError
from eventmicro.selector import Choice, Node, Selector

# How many keys a sticky selector remembers; those not asked for the longest are forgotten.
STICKY_KEYS = 100_000
# Of how many endpoints it is remembered whose turn it is.
TURNS = 10_000
# What is left of an idle node's latency each time that another one is taken before it: of one that is ten times slower
# every 230th choice finds out whether it still is.
FADES = 0.99


def random(nodes: Sequence[Node], choice: Choice) -> Node:
    """Any of them, each as often."""
    return nodes[int(_random.random() * len(nodes))]  # noqa: S311  no secret


class RoundRobin:
    """One after the other, across all calls to an endpoint: 100 calls on 4 nodes are 25 each.

    Each endpoint has turns of its own: where two were called by turns, each would else meet every other node alone.
    """

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], int] = {}

    def __call__(self, nodes: Sequence[Node], choice: Choice) -> Node:
        place = choice.service, choice.endpoint
        turn = self._turns.get(place)
        if turn is None:
            if len(self._turns) >= TURNS:  # endpoints of names that others make up
                self._turns.clear()
            turn = int(_random.random() * len(nodes))  # noqa: S311  many clients do not begin at the same node
        self._turns[place] = turn + 1
        return nodes[turn % len(nodes)]


def least_in_flight(nodes: Sequence[Node], choice: Choice) -> Node:
    """The one with the fewest calls of this client that it has not answered; of several any."""
    least = min(node.in_flight for node in nodes)
    return random([node for node in nodes if node.in_flight == least], choice)


def two_choices(nodes: Sequence[Node], choice: Choice) -> Node:
    """The better of two at random, by how long it takes to answer and how much it has to do: never the worst, and no
    stampede to the best. What the other one took fades, so that a node that was slow once is tried again.
    """
    if len(nodes) == 1:
        return nodes[0]
    one = random(nodes, choice)
    other = random(nodes, choice)
    while other is one:
        other = random(nodes, choice)
    better, worse = (one, other) if _is_better(one, other) else (other, one)
    if not worse.in_flight:
        worse.latency *= FADES
    return better


def _is_better(one: Node, other: Node) -> bool:
    if one.latency and other.latency:
        return one.latency * (one.in_flight + 1) <= other.latency * (other.in_flight + 1)
    # One that has not answered yet is tried first, but by no more calls than the other has: perhaps it never will.
    return (one.in_flight, one.latency) <= (other.in_flight, other.latency)


class Sticky:
    """The same node for the same key, for as long as it is there; a new key goes to the one with the fewest keys."""

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[str, str], Node] = OrderedDict()
        self._counts: WeakKeyDictionary[Node, int] = WeakKeyDictionary()

    def __call__(self, nodes: Sequence[Node], choice: Choice) -> Node:
        place = choice.service, _key(choice, "sticky")
        home = self._homes.get(place)
        if home is None or home not in nodes:
            home = self._settle(place, home, nodes)
        self._homes.move_to_end(place)
        return home

    def _settle(self, place: tuple[str, str], former: Node | None, nodes: Sequence[Node]) -> Node:
        if former is not None:
            self._counts[former] -= 1
        home = min(nodes, key=lambda node: self._counts.get(node, 0))
        self._counts[home] = self._counts.get(home, 0) + 1
        self._homes[place] = home
        if len(self._homes) > STICKY_KEYS:
            _, forgotten = self._homes.popitem(last=False)
            self._counts[forgotten] -= 1
        return home


def rendezvous(nodes: Sequence[Node], choice: Choice) -> Node:
    """The same node for the same key in every process, by hash: of n nodes one that comes or goes moves a nth of the
    keys, and no others.
    """
    key = hashlib.blake2b(_key(choice, "rendezvous").encode("utf-8", "surrogatepass"), digest_size=16)

    def weight(node: Node) -> bytes:
        weighed = key.copy()
        weighed.update(node.id.encode())
        return weighed.digest()

    return max(nodes, key=weight)


def newest(nodes: Sequence[Node], choice: Choice) -> Node:
    """Any of those of the newest version, by semver; a pre-release is older than its release."""
    ranked = [(version_of(node.version), node) for node in nodes]
    versions = [version for version, _ in ranked if version is not None]
    if not versions:
        return random(nodes, choice)
    latest: Version = max(versions)
    return random([node for version, node in ranked if version == latest], choice)


def _key(choice: Choice, name: str) -> str:
    if not isinstance(choice.key, str):
        said = "" if choice.key is None else f", and {choice.key!r} is none"
        raise UsageError(f"selector {name!r} goes by a key{said}: write call(..., key='customer-7')")
    return choice.key


STRATEGIES: dict[str, Callable[[], Selector]] = {
    "random": lambda: random,
    "round-robin": RoundRobin,
    "least-in-flight": lambda: least_in_flight,
    "two-choices": lambda: two_choices,
    "sticky": Sticky,
    "rendezvous": lambda: rendezvous,
    "newest": lambda: newest,
}


# Those that go by a key, and what goes by one where a call names a key and the client's selector does not.
BY_KEY = ("sticky", "rendezvous")
DEFAULT_BY_KEY = "rendezvous"


def make_selector(selector: str | Selector) -> Selector:
    """The selector of this name; a function is one itself.

    Raises:
        UsageError: there is none of this name; or it is no function.
    """
    if callable(selector):
        return selector
    if not isinstance(selector, str) or selector not in STRATEGIES:
        raise UsageError(
            f"selector={selector!r}: there are {', '.join(STRATEGIES)}, or write a function of the nodes"
            f"{did_you_mean(str(selector), STRATEGIES)}"
        )
    return STRATEGIES[selector]()
