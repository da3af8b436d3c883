"""Nodes that fail are taken out, tried by one call, and brought back; the last one never is."""

from __future__ import annotations

import pytest

from eventmicro.discovery import marks as module
from eventmicro.discovery.marks import FAILURES, OUT, Marks
from eventmicro.selector import Node


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


ONE, OTHER = Node("orders", "1"), Node("orders", "2")
BOTH = (ONE, OTHER)


def fail(marks: Marks, times: int, node: Node = ONE) -> None:
    for _ in range(times):
        marks.mark(node, failed=True)


def test_after_three_failures_in_a_row_a_node_is_out(clock: Clock) -> None:
    marks = Marks()
    fail(marks, FAILURES - 1)
    assert list(marks.usable(BOTH)) == [ONE, OTHER]
    fail(marks, 1)
    assert list(marks.usable(BOTH)) == [OTHER]


def test_one_that_goes_well_begins_the_count_anew(clock: Clock) -> None:
    marks = Marks()
    for _ in range(5):
        fail(marks, FAILURES - 1)
        marks.mark(ONE, failed=False)
    assert list(marks.usable(BOTH)) == [ONE, OTHER]


def test_a_call_that_was_cancelled_says_nothing(clock: Clock) -> None:
    marks = Marks()
    fail(marks, FAILURES - 1)
    marks.mark(ONE, failed=None)
    assert list(marks.usable(BOTH)) == [ONE, OTHER]
    fail(marks, 1)
    assert list(marks.usable(BOTH)) == [OTHER]


@pytest.mark.parametrize(("failed", "after"), [(False, [ONE, OTHER]), (True, [OTHER]), (None, [ONE, OTHER])])
def test_after_a_while_one_call_tries_it(clock: Clock, failed: bool | None, after: list[Node]) -> None:
    marks = Marks()
    fail(marks, FAILURES)
    clock.now += OUT - 0.1
    assert list(marks.usable(BOTH)) == [OTHER]
    clock.now += 0.2
    assert list(marks.usable(BOTH)) == [ONE, OTHER]
    marks.chosen(ONE)
    assert list(marks.usable(BOTH)) == [OTHER]
    marks.mark(ONE, failed=failed)
    assert list(marks.usable(BOTH)) == after


def test_the_last_node_is_never_out(clock: Clock) -> None:
    marks = Marks()
    fail(marks, FAILURES)
    fail(marks, FAILURES, OTHER)
    assert list(marks.usable(BOTH)) == [ONE, OTHER]
    assert list(marks.usable([ONE])) == [ONE]


def test_nodes_that_are_gone_are_forgotten() -> None:
    marks = Marks()
    marks.mark(Node("orders", "gone"), failed=True)
    assert not marks._marks
