"""Which node each ready-made selector picks."""

from __future__ import annotations

from collections import Counter

import pytest

from eventmicro import UsageError
from eventmicro.discovery import strategies
from eventmicro.discovery.directing import NEW
from eventmicro.discovery.filters import endpoint, label, version
from eventmicro.discovery.filters import node as only
from eventmicro.discovery.strategies import STICKY_KEYS, STRATEGIES, make_selector
from eventmicro.selector import Choice, Node

CHOICE = Choice("orders", "quote")
# What rendezvous picks for the first six keys of ten nodes, in whatever process.
PINNED = ["n9", "n1", "n5", "n8", "n8", "n9"]


def nodes(count: int, **more: str) -> list[Node]:
    return [Node("orders", f"n{number}", **more) for number in range(count)]


def keyed(number: int, service: str = "orders") -> Choice:
    return Choice(service, "quote", f"customer-{number}")


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_picks_the_only_node(name: str) -> None:
    (only,) = nodes(1)
    select = make_selector(name)
    assert {select([only], keyed(number)) for number in range(10)} == {only}


@pytest.mark.parametrize("name", ["random", "round-robin", "least-in-flight", "newest"])
def test_a_hundred_calls_reach_all_of_four_nodes(name: str) -> None:
    four, select = nodes(4, version="1.0.0"), make_selector(name)
    assert set(Counter(select(four, CHOICE).id for _ in range(300))) == {"n0", "n1", "n2", "n3"}


def test_round_robin_is_one_after_the_other_across_calls_and_apart_for_each_service() -> None:
    four, select = nodes(4), make_selector("round-robin")
    other = Choice("payments", "pay")
    chosen = Counter[str]()
    for _ in range(100):
        chosen[select(four, CHOICE).id] += 1
        select(four, other)
    assert set(chosen.values()) == {25}


def test_least_in_flight_is_the_one_with_the_least_to_do() -> None:
    busy = nodes(3)
    for number, node in enumerate(busy):
        node.in_flight = number + 1
    assert {make_selector("least-in-flight")(busy, CHOICE).id for _ in range(20)} == {"n0"}


def test_two_choices_never_picks_the_worst_and_tries_one_that_is_new() -> None:
    several, select = nodes(4), make_selector("two-choices")
    for node, latency in zip(several, (0.01, 0.02, 0.03, 1.0), strict=True):
        node.latency = latency
    chosen = Counter(select(several, CHOICE).id for _ in range(400))
    assert "n3" not in chosen
    assert chosen["n0"] > chosen["n2"]
    several[3].latency = 0.0
    assert Counter(select(several, CHOICE).id for _ in range(400))["n3"] > 100


def test_two_choices_goes_by_what_is_to_be_done_too() -> None:
    fast, slow = nodes(2)
    fast.latency, slow.latency, fast.in_flight = 0.01, 0.02, 5
    assert make_selector("two-choices")([fast, slow], CHOICE) is slow


def test_sticky_keeps_the_node_of_a_key_and_spreads_keys_evenly() -> None:
    four, select = nodes(4), make_selector("sticky")
    first = {number: select(four, keyed(number)) for number in range(100)}
    assert set(Counter(node.id for node in first.values()).values()) == {25}
    assert {number: select(four, keyed(number)) for number in range(100)} == first
    left = four[1:]
    moved = [number for number in range(100) if select(left, keyed(number)) is not first[number]]
    assert moved == [number for number, node in first.items() if node is four[0]]
    assert set(Counter(select(left, keyed(number)).id for number in range(100)).values()) <= {33, 34}


def test_sticky_forgets_the_keys_that_were_not_asked_for_the_longest() -> None:
    select = make_selector("sticky")
    two = nodes(2)
    for number in range(STICKY_KEYS + 100):
        select(two, keyed(number))
    assert len(select._homes) == STICKY_KEYS  # type: ignore[attr-defined]
    assert sum(select._counts.values()) == STICKY_KEYS  # type: ignore[attr-defined]


def test_rendezvous_is_the_same_in_every_process_and_moves_few() -> None:
    """The figures are those of another process: nothing depends on a hash that differs from run to run."""
    ten, select = nodes(10), make_selector("rendezvous")
    assert [select(ten, keyed(number)).id for number in range(6)] == PINNED
    before = {number: select(ten, keyed(number)) for number in range(2000)}
    assert min(Counter(node.id for node in before.values()).values()) > 120
    after = {number: select(ten[:9], keyed(number)) for number in range(2000)}
    assert all(after[number] is node for number, node in before.items() if node is not ten[9])
    assert [select(list(reversed(ten)), keyed(number)).id for number in range(6)] == PINNED


def test_a_key_with_half_a_surrogate_pair_is_one_as_any() -> None:
    ten, select = nodes(10), make_selector("rendezvous")
    assert select(ten, Choice("orders", "quote", "\ud800")) is select(ten, Choice("orders", "quote", "\ud800"))


def test_long_ids_that_begin_alike_are_told_apart() -> None:
    long = [Node("orders", "x" * 100 + str(number)) for number in range(4)]
    select = make_selector("rendezvous")
    assert len({select(long, keyed(number)).id for number in range(100)}) == 4


def test_newest_goes_by_numbers_and_not_by_letters() -> None:
    several = [Node("orders", v, version=v) for v in ("1.9.0", "1.10.0", "1.10.0-rc.1", "nonsense")]
    assert {make_selector("newest")(several, CHOICE).id for _ in range(20)} == {"1.10.0"}


@pytest.mark.parametrize("name", ["sticky", "rendezvous"])
def test_what_goes_by_a_key_asks_for_one(name: str) -> None:
    with pytest.raises(UsageError, match=rf"selector '{name}' goes by a key: write call\(\.\.\., key="):
        make_selector(name)(nodes(2), CHOICE)


def test_a_function_is_a_selector_and_an_unknown_name_is_refused() -> None:
    assert make_selector(lambda nodes, choice: nodes[-1])(nodes(3), CHOICE).id == "n2"
    with pytest.raises(UsageError, match="did you mean 'round-robin'"):
        make_selector("roundrobin")
    with pytest.raises(UsageError, match="there are random, round-robin"):
        make_selector(7)  # type: ignore[arg-type]


def test_filters_let_through_what_they_say() -> None:
    node = Node("orders", "1", "1.4.0", metadata={"zone": "eu"}, endpoints=frozenset({"quote"}))
    assert [version("^1.2")(node), version("^2")(node), version("*")(Node("orders", "2", "x"))] == [True, False, False]
    assert [label("zone", "eu", "us")(node), label("zone", "us")(node), label("zone")(node)] == [True, False, True]
    assert [label("rack")(node), endpoint("quote")(node), endpoint("pay")(node)] == [False, True, False]
    assert [only("1")(node), only("2", "1")(node), only("2")(node)] == [True, True, False]
    assert version("^1.2") == version("^1.2") != version("^1")
    assert len({label("a", "b", "c"), label("a", "c", "b"), endpoint("a")}) == 2


@pytest.mark.parametrize(
    "make", [lambda: version(7), lambda: label("zone", 7), lambda: endpoint(None), lambda: only(1)]
)
def test_a_filter_of_another_kind_is_refused(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


def test_two_choices_does_not_send_all_to_one_that_has_never_answered() -> None:
    known, hung = nodes(2)
    known.latency, select = 0.01, make_selector("two-choices")
    chosen = Counter[str]()
    for _ in range(100):  # at once: of the hung one no call ends
        node = select([known, hung], CHOICE)
        chosen[node.id] += 1
        node.in_flight += 1
    assert max(chosen.values()) == 50


def test_round_robin_is_fair_for_each_endpoint_where_several_are_called_by_turns() -> None:
    two, select = nodes(2), make_selector("round-robin")
    chosen = Counter[tuple[str, str]]()
    for _ in range(50):
        for called in ("quote", "reserve"):
            chosen[called, select(two, Choice("orders", called)).id] += 1
    assert set(chosen.values()) == {25}


def test_round_robin_remembers_no_endpoints_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "TURNS", 10)
    select = strategies.RoundRobin()
    for number in range(1000):
        select(nodes(2), Choice("orders", f"made-up-{number}"))
    assert len(select._turns) <= 10


@pytest.mark.parametrize(("takes", "least", "most"), [(0.011, 200, 500), (0.1, 1, 60)])
def test_two_choices_tries_one_again_that_was_slow_once(takes: float, least: int, most: int) -> None:
    """One call after the other, of two nodes: without that all would stay with the one that was quicker at first."""
    quick, once_slow = nodes(2)
    quick.latency, once_slow.latency, select = 0.01, 1.0, make_selector("two-choices")
    chosen = Counter[str]()
    for number in range(2000):
        node = select([quick, once_slow], CHOICE)
        node.latency += NEW * ((0.01 if node is quick else takes) - node.latency)
        if number >= 1000:
            chosen[node.id] += 1
    assert least <= chosen[once_slow.id] <= most


def test_two_choices_forgets_nothing_of_a_node_in_a_burst() -> None:
    quick, slow = nodes(2)
    quick.latency, slow.latency, select = 0.01, 0.1, make_selector("two-choices")
    chosen = Counter[str]()
    for _ in range(3000):  # of which none is answered yet
        node = select([quick, slow], CHOICE)
        chosen[node.id] += 1
        node.in_flight += 1
    assert chosen[slow.id] < 400
    assert slow.latency > 0.08
    assert quick.latency == 0.01
