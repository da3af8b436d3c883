"""What `make soak` counts, of runs that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.count import Standstill, doubled, longest_wait, lost, out_of_order, standstills
from tests.soak.facts import KEYS, Facts, Handled, Notes, Queue
from tests.soak.report import all_lost, all_out_of_order, details, row


def queue(*handled: tuple[float, int], given_up: set[int] | None = None, ordered: bool = False) -> Queue:
    """Each one that was handled: when, and its number."""
    return Queue(ordered, [Handled(at, value) for at, value in handled], given_up or set())


def facts(
    confirmed: dict[int, float], end: float, away: list[tuple[float, float]] | None = None, **queues: Queue
) -> Facts:
    return Facts(confirmed=confirmed, queues=queues, away=away or [], end=end)


def test_lost_is_what_was_confirmed_and_neither_handled_nor_given_up() -> None:
    pack = queue((1.0, 0), (1.5, 1), given_up={2})
    assert lost(facts({0: 0.5, 2: 0.5, 3: 0.5}, 9, pack=pack), pack) == {3}


def test_each_time_after_the_first_counts_as_doubled() -> None:
    pack = queue((1.0, 0), (2.0, 1), (3.0, 0), (2.5, 0))
    assert [(each.at, each.value) for each in doubled(pack)] == [(2.5, 0), (3.0, 0)]


def test_also_those_of_one_moment_in_two_processes_count_as_doubled() -> None:
    assert len(doubled(queue((1.0, 0), (1.0, 0), (2.0, 0)))) == 2


def test_out_of_order_is_what_is_handled_first_after_a_later_one_of_its_key() -> None:
    third, second, first = 2 * KEYS, KEYS, 0
    assert out_of_order(queue((1.0, first), (2.0, second), (3.0, third))) == []
    assert out_of_order(queue((1.0, first), (2.0, third), (3.0, second))) == [second]
    assert out_of_order(queue((3.0, first), (2.0, second), (1.0, third))) == [second, first]


def test_other_keys_and_redeliveries_are_not_out_of_order() -> None:
    assert out_of_order(queue((1.0, 1), (2.0, 0))) == []
    assert out_of_order(queue((1.0, 0), (2.0, KEYS), (3.0, 0))) == []


def test_the_order_of_the_notes_says_nothing_but_their_times_do() -> None:
    assert out_of_order(queue((2.0, KEYS), (1.0, 0))) == []


@pytest.mark.parametrize(
    ("confirmed", "handled", "away", "expected"),
    [
        ({0: 1.0, 1: 1.0}, [(2.0, 0), (5.0, 1)], [], [(3.0, 2.0), (1.0, 1.0)]),
        ({0: 1.0, 1: 4.0}, [(2.0, 0), (5.0, 1)], [], [(1.0, 4.0), (1.0, 1.0)]),  # nothing waits from 2 to 4
        ({0: 1.0, 1: 1.0}, [(2.0, 0), (3.0, 0), (5.0, 1)], [], [(2.0, 3.0), (1.0, 2.0), (1.0, 1.0)]),
        ({0: 1.0}, [(8.0, 0)], [(2.0, 4.0)], [(4.0, 4.0), (1.0, 1.0)]),  # no majority from 2 to 4
        ({0: 1.0}, [(8.0, 0)], [(0.0, 9.0)], []),
        ({0: 1.0}, [(8.0, 0)], [(2.0, 7.0), (3.0, 4.0)], [(1.0, 7.0), (1.0, 1.0)]),
        ({0: 1.0}, [], [], [(9.0, 1.0)]),  # it is lost: until the end
        ({0: 1.0}, [(0.5, 0)], [], []),  # it was handled before its confirmation came
        ({}, [], [], []),
    ],
)
def test_a_standstill_is_the_time_in_which_events_wait_and_none_is_handled(
    confirmed: dict[int, float],
    handled: list[tuple[float, int]],
    away: list[tuple[float, float]],
    expected: list[tuple[float, float]],
) -> None:
    run = facts(confirmed, 10.0, away, pack=queue(*handled))
    assert standstills(run, 0) == [Standstill(seconds, since, "pack") for seconds, since in expected]


def test_dead_letters_do_not_wait() -> None:
    assert standstills(facts({0: 1.0}, 10.0, pack=queue(given_up={0})), 0) == []


def test_short_standstills_are_left_out() -> None:
    run = facts({0: 1.0, 1: 1.0}, 10.0, pack=queue((2.0, 0), (5.0, 1)))
    assert standstills(run, 2) == [Standstill(3.0, 2.0, "pack")]


def test_the_longest_wait_is_that_of_one_event_though_others_are_handled() -> None:
    pack = queue((2.0, 0), (3.0, 1), (9.0, 2), (9.5, 2))
    assert longest_wait(facts({0: 1.0, 1: 2.5, 2: 2.0, 3: 1.0}, 10, pack=pack), pack) == (7.0, 2)


def test_notes_are_taken_once_and_a_line_that_is_not_finished_later(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    run, notes = facts({}, 0, pack=queue(), bill=queue()), Notes(file)
    file.write_bytes(b"pack 1 2.5\nbill 1 2.75\npack 2")
    notes.take(run)
    notes.take(run)
    assert run.queues["pack"].handled == [Handled(2.5, 1)]
    assert run.queues["bill"].handled == [Handled(2.75, 1)]
    with file.open("ab") as stream:
        stream.write(b"2 3.5\n")
    notes.take(run)
    assert run.queues["pack"].handled == [Handled(2.5, 1), Handled(3.5, 22)]


def test_the_line_of_the_table_counts_all_queues_and_order_only_where_it_is_promised() -> None:
    pack = queue((2.0, KEYS), (3.0, 0), (3.5, 0))
    bill = queue((2.0, KEYS), (4.0, 0), ordered=True)
    run = facts({0: 1.0, KEYS: 1.0, 2: 1.5}, 5.0, pack=pack, bill=bill)
    run.published_again = 1234
    run.faults = [(0.5, "node killed: 1, 0.0 s"), (3.2, "node frozen: 2, 2.0 s")]
    assert all_lost(run) == ["pack 2", "bill 2"]
    assert all_out_of_order(run) == ["bill 0"]
    assert row("Any", run) == "| Any | 3 | 2 | 1 | 1 | 2.0 s | 1,234 |"
    assert list(details(run)) == [
        "node killed: 1, 0.0 s: nothing",
        "node frozen: 2, 2.0 s: pack handled 1 again",
        "pack: 0 dead letters; the longest wait was that of event 0, 2.0 s",
        "bill: 0 dead letters; the longest wait was that of event 0, 3.0 s",
        "lost: pack 2, bill 2",
        "out of order: bill 0",
    ]
