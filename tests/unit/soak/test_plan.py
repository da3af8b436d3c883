"""Which faults a seed stands for."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.servers.cluster import NODES
from tests.soak.plan import KINDS, SUBSCRIBERS, plan


def test_a_seed_gives_the_same_faults_each_time() -> None:
    assert plan(7, 50_000) == plan(7, 50_000)
    assert plan(7, 50_000) != plan(8, 50_000)


@pytest.mark.parametrize(("events", "rounds"), [(100, 1), (10_000, 1), (20_000, 2), (100_000, 10)])
def test_each_kind_of_fault_comes_once_a_round(events: int, rounds: int) -> None:
    assert Counter(fault.kind for fault in plan(3, events)) == dict.fromkeys(KINDS, rounds)


@pytest.mark.parametrize("seed", range(20))
def test_a_fault_is_within_its_bounds(seed: int) -> None:
    for fault in plan(seed, 20_000):
        shortest, longest = KINDS[fault.kind]
        assert shortest <= fault.seconds <= longest
        assert fault.subscriber in range(SUBSCRIBERS)
        assert set(fault.nodes) <= set(range(NODES))
        assert len(set(fault.nodes)) == len(fault.nodes)


def test_only_a_fault_that_says_so_takes_the_majority() -> None:
    for fault in plan(5, 100_000):
        if "killed" in fault.kind or "frozen" in fault.kind:
            assert len(fault.nodes) == (2 if fault.kind == "two nodes killed" else 1)
