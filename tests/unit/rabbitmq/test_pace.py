"""RabbitMQ: how many events are held, by how fast they are handled."""

from __future__ import annotations

from eventmicro_rabbitmq.consuming.pace import Pace

CLOSED = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 4000 ms. This ..."


def test_what_is_handled_fast_is_held_as_asked_for() -> None:
    pace = Pace(100, 1800, grows=False)
    pace.measure(0, 0, busy=True)
    pace.measure(10, 10_000, busy=True)
    assert pace.in_time([0.0] * 99) == 99
    assert pace.held == 100
    assert not pace.may_grow(all_begun=False)


def test_what_cannot_be_begun_in_time_is_too_many() -> None:
    pace = Pace(100, 4, grows=False)
    pace.measure(0, 0, busy=True)
    pace.measure(0.8, 1, busy=True)
    assert pace.in_time([0.8] * 99) == 1, "begun after 1.6 s, of the 2 s that is half of the time"
    pace.slow_down(2)
    assert pace.held == 2


def test_a_handler_that_does_not_end_counts_as_it_goes_on() -> None:
    pace = Pace(100, 1800, grows=False)
    pace.measure(0, 0, busy=True)
    pace.measure(60, 0, busy=True)
    assert pace.in_time([60.0] * 99) == 99, "nothing is known yet"
    pace.measure(300, 0, busy=True)
    assert pace.in_time([300.0] * 99) == 2


def test_of_a_shorter_time_it_learns_from_rabbitmq() -> None:
    pace = Pace(100, 1800, grows=False)
    assert pace.interval == 10
    pace.learn("CONNECTION_FORCED")
    assert (pace.held, pace.learnt.is_set()) == (100, False)
    pace.learn(CLOSED)
    assert (pace.held, pace.learnt.is_set()) == (1, True), "of how fast it goes nothing is known yet"
    assert pace.interval == 0.1
    pace.measure(0, 0, busy=True)
    pace.measure(0.8, 1, busy=True)
    assert not pace.may_grow(all_begun=False), "it may have been almost done at first"
    pace.measure(1.6, 3, busy=True)
    assert pace.may_grow(all_begun=False)
    assert pace.held == 2


def test_it_grows_only_where_that_is_worth_it() -> None:
    pace = Pace(100, 4, grows=False)
    pace.slow_down(10)
    pace.measure(0, 0, busy=True)
    pace.measure(1, 8, busy=True)
    assert not pace.may_grow(all_begun=False)
    pace.measure(2, 21, busy=True)
    assert pace.may_grow(all_begun=False)
    assert pace.held == 20


def test_where_nothing_is_to_do_nothing_is_measured() -> None:
    pace = Pace(100, 4, grows=False)
    pace.measure(0, 0, busy=True)
    pace.measure(1, 1, busy=False)
    pace.measure(100, 1, busy=True)
    pace.measure(100.1, 2, busy=True)
    assert pace.in_time([0.0] * 99) == 99


def test_few_are_held_of_which_nothing_is_known_yet() -> None:
    assert [Pace(100, timeout).held for timeout in (1, 60, 1800, 1e6)] == [1, 1, 7, 100]
    assert Pace(3, 1800).held == 3


def test_where_none_waits_more_are_held_up_to_the_most() -> None:
    pace, held = Pace(50, 1800), list[int]()
    while pace.may_grow(all_begun=True):
        held.append(pace.held)
    assert held == [14, 28, 50]


def test_where_one_waits_as_many_are_held_as_can_be_begun_in_time() -> None:
    pace = Pace(50, 4)
    pace.measure(0, 0, busy=True)
    assert not pace.may_grow(all_begun=False), "nothing is known yet"
    pace.measure(0.5, 3, busy=True)
    assert pace.may_grow(all_begun=False)
    assert pace.held == 8
    assert not pace.may_grow(all_begun=False)
