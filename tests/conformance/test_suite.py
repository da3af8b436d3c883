"""The conformance suite itself: it finds out a broker that breaks a promise, that overstates or that understates."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace

import pytest

from eventmicro import conformance
from eventmicro.broker import Capabilities
from eventmicro.conformance import bench, replay, restart, settling
from eventmicro.errors import TransportError, UsageError
from eventmicro.memory import MemoryBroker
from tests.conformance import liars, restartable
from tests.conformance.liars import Liar, asking, delivering, handing_over, publishing, together
from tests.conformance.restartable import MemoryServer, RestartableBroker

ALL = Capabilities(**{f.name: True for f in fields(Capabilities) if f.type == "bool"})
NAMES = {f.name for f in fields(Capabilities) if f.type == "bool"}
# What cannot be asked for through the port, so that nothing can refuse it.
NOT_ASKED_FOR = {"persistent", "crash_attempts"}


def find_case(name: str, capabilities: Capabilities = ALL) -> conformance.Case:
    return next(c for c in conformance.cases(capabilities, restartable=True) if str(c) == name)


def fails(case: conformance.Case, broker: Liar, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the case finds the broker out, within a few seconds."""
    monkeypatch.setattr(bench, "ARRIVAL_TIMEOUT", 0.5)
    monkeypatch.setattr(bench, "CLOSE_TIMEOUT", 0.5)
    monkeypatch.setattr(settling, "LONG", 0.5)
    monkeypatch.setattr(replay, "WINDOW", 0.1)
    monkeypatch.setattr(replay, "PASSED", 0.3)
    loop_errors: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
        await replace(case, seconds=3.0).run(broker)

    try:
        asyncio.run(run())
    except Exception:
        return True
    return False


LIARS: list[tuple[str, Liar, str]] = [
    # name, the broker, the case that finds it out
    ("loses", handing_over(liars.lose_every_tenth), "a_queue_keeps_its_events_while_nobody_is_there"),
    ("loses live", handing_over(liars.lose_every_tenth), "without_a_queue_everyone_gets_every_message"),
    ("doubles", handing_over(liars.twice), "each_queue_gets_every_event"),
    ("doubles live", handing_over(liars.twice), "each_queue_gets_every_message_once"),
    ("swaps", handing_over(liars.in_pairs_swapped), "a_batch_is_kept_in_its_order"),
    ("swaps live", handing_over(liars.in_pairs_swapped), "a_live_batch_arrives_in_its_order"),
    ("swaps ordered", handing_over(liars.in_pairs_swapped), "instances_of_an_ordered_queue_take_its_events_in_order"),
    ("swaps within keys", handing_over(liars.in_pairs_swapped), "the_events_of_a_key_come_in_order"),
    ("ignores room", handing_over(liars.without_waiting), "the_next_event_waits_until_there_is_room"),
    ("ignores room live", handing_over(liars.without_waiting), "the_next_message_waits_until_there_is_room"),
    ("acks early", handing_over(liars.ack_at_once), "what_was_not_settled_comes_again_when_its_consumer_closes"),
    ("acks early, nacked", handing_over(liars.ack_at_once), "what_is_nacked_comes_again_and_is_counted"),
    (
        "lets the lease run out",
        handing_over(liars.redelivered_soon),
        "an_event_is_not_delivered_again_while_its_handler_runs",
    ),
    ("counts no attempts", delivering(liars.first_attempt), "what_is_nacked_comes_again_and_is_counted"),
    (
        "counts no attempts of others",
        delivering(liars.first_attempt),
        "attempts_are_counted_by_the_broker_not_by_the_process",
    ),
    ("drops headers", delivering(liars.without_headers), "an_event_is_kept_as_it_was_sent"),
    ("drops headers live", delivering(liars.without_headers), "a_message_arrives_as_it_was_sent"),
    ("ascii headers", delivering(liars.ascii_headers), "an_event_is_kept_as_it_was_sent"),
    ("drops empty headers", delivering(liars.without_empty_headers), "what_comes_again_is_what_was_sent"),
    ("new ids", delivering(liars.new_id), "an_event_keeps_its_id_however_often_it_is_delivered"),
    ("same ids", delivering(liars.same_id), "an_event_is_kept_as_it_was_sent"),
    ("no ids", delivering(liars.without_id), "an_event_is_kept_as_it_was_sent"),
    ("nack is ack", delivering(liars.NackIsAck), "what_is_nacked_comes_again_and_is_counted"),
    ("nack is ack, for good", delivering(liars.NackIsAck), "consumers_that_fail_and_go_leave_all_to_one_that_works"),
    ("nack without delay", delivering(liars.NackWithoutDelay), "events_come_again_in_the_order_of_their_delays"),
    ("ack is nothing", delivering(liars.AckIsNothing), "close_keeps_the_acks_that_came_before_it"),
    ("ack is nothing, in between", delivering(liars.AckIsNothing), "closing_in_the_middle_loses_nothing"),
    ("the last settlement counts", delivering(liars.LastSettlementCounts), "the_first_settlement_counts"),
    ("forgets queues", liars.ForgetsQueues, "a_queue_keeps_its_events_while_nobody_is_there"),
    ("forgets queues, two", liars.ForgetsQueues, "each_queue_gets_every_event"),
    ("forgets what is held", liars.ForgetsWhatIsHeld, "what_was_not_settled_comes_again_when_its_consumer_closes"),
    ("forgets what hangs", liars.ForgetsWhatIsHeld, "an_instance_that_hangs_does_not_stop_the_others"),
    ("counts no crash", liars.ForgetsToCountWhatIsHeld, "a_delivery_that_was_never_settled_counts_as_an_attempt"),
    ("settles after close", liars.SettlesAfterClose, "a_settlement_after_close_does_nothing"),
    (
        "drain drops kept",
        liars.DrainDropsWhatWaits,
        "a_subscription_that_drains_gives_back_at_once_what_it_has_not_taken",
    ),
    ("nacked go to the end", liars.NackedGoToTheEnd, "a_nacked_event_comes_again_before_those_behind_it"),
    (
        "nacked go to the end, keys",
        liars.NackedGoToTheEnd,
        "a_nacked_event_comes_again_before_those_of_its_key_behind_it",
    ),
    ("ignores order", asking(ordered=False), "the_next_event_waits_for_the_settlement_of_the_one_before"),
    ("ignores order, taking over", asking(ordered=False), "another_instance_goes_on_where_one_has_ended"),
    ("ignores prefetch", asking(prefetch=1000), "prefetch_is_reached_and_never_exceeded"),
    ("does not reach prefetch", asking(prefetch=9), "prefetch_is_reached_and_never_exceeded"),
    ("ignores dedupe", asking(dedupe=None), "an_event_that_is_published_again_is_not_delivered_again"),
    ("remembers ids for ever", asking(dedupe=3600.0), "an_event_that_is_published_again_after_the_window_is_another"),
    ("keeps no dead letters", asking(dead_letter=None), "what_is_published_to_the_dead_letter_subject_is_kept"),
    ("ignores start", asking(start="new"), "every_new_queue_may_begin_with_all_that_is_there"),
    ("ignores since", asking(start="new"), "a_new_queue_may_begin_at_a_time"),
    ("starts with all", liars.StartsWithAll, "a_new_queue_begins_with_what_comes"),
    ("any queue will do", liars.AnyQueueWillDo, "a_durable_subscription_without_a_queue_is_refused"),
    ("one queue for all", liars.OneQueueForAll, "several_queues_on_one_connection_each_get_every_event"),
    ("queue names end at the dot", liars.QueueNamesEndAtTheDot, "each_queue_gets_every_event"),
    ("queues are ignored", liars.QueuesAreIgnored, "each_queue_gets_every_message_once"),
    ("queues are ignored, many", liars.QueuesAreIgnored, "the_members_of_a_queue_share_its_messages"),
    ("everyone shares a queue", liars.EveryoneSharesAQueue, "without_a_queue_everyone_gets_every_message"),
    ("star is arrow", liars.StarIsArrow, "wildcards_match_as_specified"),
    ("arrow is star", liars.ArrowIsStar, "wildcards_match_as_specified"),
    ("star is arrow, kept", liars.StarIsArrow, "a_queue_may_keep_the_events_of_many_subjects"),
    ("drain drops", liars.DrainDrops, "drain_hands_over_what_had_been_sent_and_takes_no_more"),
    (
        "cancelled drain drops",
        liars.CancelledDrainDrops,
        "a_drain_that_is_cancelled_hands_over_what_had_been_sent",
    ),
    (
        "cancelled drain drops, calls",
        liars.CancelledDrainDrops,
        "an_endpoint_answers_what_had_been_sent_when_its_drain_is_cancelled",
    ),
    (
        "subscriptions come back",
        liars.SubscriptionsComeBack,
        "a_closed_broker_can_be_connected_again_without_its_subscriptions",
    ),
    ("refuses all for one", liars.RefusesAllForOne, "of_a_kept_batch_only_what_is_too_large_fails"),
    ("refuses all for one, live", liars.RefusesAllForOne, "of_a_live_batch_only_what_is_too_large_fails"),
    (
        "passes over the large",
        liars.PassesOverWhatIsTooLarge,
        "an_event_over_the_limit_is_refused_and_the_next_one_arrives",
    ),
    (
        "passes over the large, live",
        liars.PassesOverWhatIsTooLarge,
        "a_live_message_over_the_limit_is_refused_and_the_next_one_arrives",
    ),
    ("loses the largest", liars.TakesBackWhatItCanNot, "an_event_of_the_largest_size_arrives"),
    ("loses the largest live", liars.TakesBackWhatItCanNot, "a_live_message_of_the_largest_size_arrives"),
    ("batches backwards", liars.BatchesBackwards, "a_batch_is_kept_in_its_order"),
    ("overtakes itself", liars.OvertakesItself, "kept_events_of_a_publisher_keep_their_order"),
    ("overtakes itself live", liars.OvertakesItself, "live_messages_of_a_publisher_keep_their_order"),
    ("truncates", publishing(lambda m: replace(m, body=m.body[:1000])), "a_message_arrives_as_it_was_sent"),
    (
        "mixes subjects up",
        publishing(lambda m: replace(m, subject=m.subject[:-1] + "1")),
        "twenty_subjects_on_one_connection_are_kept_apart",
    ),
    ("closes once", liars.ClosesOnce, "connect_and_close_may_be_called_twice"),
    ("connects once", liars.ConnectsOnce, "many_connect_and_close_at_once"),
    ("takes after close", liars.TakesAfterClose, "a_closed_broker_takes_nothing"),
    ("waits for handlers", liars.ClosesWhenHandlersAreDone, "close_waits_neither_for_room_nor_for_handlers"),
    ("waits for room", liars.ClosesWhenHandlersAreDone, "close_does_not_wait_for_a_consumer_without_room"),
    ("breaks when cancelled", liars.LosesWhenCancelled, "what_is_cancelled_leaves_the_broker_usable"),
    ("one inbox for all", liars.OneInboxForAll, "inboxes_are_nobody_elses"),
    ("is silent where nobody is", liars.SaysNothingWhereNobodyIs, "a_request_that_nobody_takes_is_answered_at_once"),
    ("sends the last first", liars.SendsTheLastFirst, "what_is_sent_one_after_the_other_keeps_its_order"),
    ("forgets objects", liars.ForgetsObjects, "an_object_comes_back_whole_on_another_connection"),
    ("cuts objects off", liars.CutsObjectsOff, "an_object_comes_back_whole_on_another_connection"),
    ("any object will do", liars.AnyObjectWillDo, "an_object_that_is_not_there_is_missing"),
    ("everything fits", liars.EverythingFits, "what_fits_can_be_published"),
    ("sends anything", liars.SendsAnything, "what_cannot_be_sent_is_refused"),
    (
        "swaps what came together, live",
        together(liars.the_last_first),
        "what_comes_together_comes_once_and_in_its_order",
    ),
    (
        "swaps what came together",
        together(liars.the_last_first),
        "events_that_come_together_come_once_and_in_their_order",
    ),
    (
        "loses what is left, live",
        together(liars.without_what_is_left),
        "what_comes_together_comes_once_and_in_its_order",
    ),
    (
        "loses what is left",
        together(liars.without_what_is_left),
        "what_was_not_taken_of_what_came_together_is_given_back",
    ),
    (
        "loses what is left, drained",
        together(liars.without_what_is_left),
        "what_was_not_taken_is_handed_over_by_a_drain",
    ),
    (
        "doubles what is left",
        together(liars.what_is_left_again),
        "what_comes_together_comes_once_and_in_its_order",
    ),
    ("has many without room", together(liars.without_room), "who_takes_many_is_handed_no_more_before_there_is_room"),
    (
        "counts what waited",
        together(liars.attempts_of_what_waited),
        "events_that_come_together_come_once_and_in_their_order",
    ),
    (
        "nack is ack, together",
        delivering(liars.NackIsAck),
        "what_is_nacked_among_what_came_together_comes_again",
    ),
    (
        "nacked go to the end, together",
        liars.NackedGoToTheEnd,
        "what_is_nacked_among_what_came_together_keeps_the_order",
    ),
    ("acks apart, refused", liars.PublishesAndMayAck, "where_one_is_refused_nothing_is_done"),
    ("acks apart, late", liars.PublishesAndMayAck, "what_is_handled_elsewhere_by_now_is_not_published"),
    ("does not ack", liars.PublishesAlone, "what_is_published_with_an_acknowledgement_comes_once"),
    ("does not ack, together", liars.PublishesAlone, "several_are_published_and_acknowledged_together"),
    ("acks what is nobody's", liars.PublishesAndMayAck, "only_events_of_a_transactional_queue_are_acknowledged_so"),
]


@pytest.mark.parametrize(("broker", "name"), [liar[1:] for liar in LIARS], ids=[liar[0] for liar in LIARS])
def test_a_broker_that_breaks_a_promise_is_found_out(broker: Liar, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails(find_case(name), broker, monkeypatch)


def declaring(**changes: bool) -> Liar:
    class DeclaresOtherwise(MemoryBroker):
        capabilities = replace(MemoryBroker.capabilities, **changes)

    return DeclaresOtherwise


UNDERSTATED = [
    {"request_reply": False, "no_responders": False},
    {"no_responders": False},
    {"queue_groups": False},
    {"broadcast": False},
    {"wildcards": False},
    {"ordered": False, "ordered_keys": False},
    {"ordered_keys": False},
    {"dedupe": False},
    {"objects": False},
    {"transactions": False},
    dict.fromkeys(("durable", "ordered", "ordered_keys", "dedupe", "crash_attempts"), False),
]


@pytest.mark.parametrize("changes", UNDERSTATED, ids=lambda changes: "+".join(changes))
def test_what_works_and_is_not_declared_is_found_out(changes: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    broker = declaring(**changes)
    chapters = ("eventmicro.conformance.declarations", "eventmicro.conformance.objects")
    cases = [c for c in conformance.cases(broker.capabilities) if c.function.__module__ in chapters]
    assert any(fails(case, broker, monkeypatch) for case in cases)


def test_of_every_capability_a_case_is_proof() -> None:
    assert conformance.unproved(ALL, restartable=True) == []
    assert conformance.unproved(ALL) == ["persistent"]


def test_every_capability_that_can_be_asked_for_is_asked_for_where_it_is_not_declared() -> None:
    asked: set[str] = set().union(*(case.lacks for case in conformance.cases(Capabilities())))
    durable = Capabilities(durable=True, request_reply=True)
    asked |= set().union(*(case.lacks for case in conformance.cases(durable)))
    assert asked == NAMES - NOT_ASKED_FOR


def test_what_is_declared_and_not_there_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = declaring(replay=True)
    cases = [case for case in conformance.cases(broker.capabilities) if "replay" in case.needs]
    assert all(fails(case, broker, monkeypatch) for case in cases)
    assert cases


def test_names_of_cases_are_their_own() -> None:
    names = [str(case) for case in conformance.cases(ALL, restartable=True)]
    assert len(names) == len(set(names))


RESTARTABLE = [case for case in conformance.cases(RestartableBroker.capabilities, restartable=True) if case.restarts]


async def run_with_server(case: conformance.Case, kind: type[RestartableBroker]) -> None:
    server = MemoryServer()
    await case.run(lambda: kind(server), server=server)


@pytest.mark.parametrize("case", RESTARTABLE, ids=str)
def test_a_broker_that_outlives_its_server_passes(case: conformance.Case) -> None:
    asyncio.run(run_with_server(case, RestartableBroker))


FORGETFUL: list[tuple[type[RestartableBroker], str]] = [
    (restartable.KeepsNothing, "what_was_published_survives_a_kill"),
    (restartable.KeepsNothing, "publishers_and_consumers_go_on_after_restarts"),
    (restartable.KeepsNothing, "what_was_settled_stays_so_and_what_was_not_comes_again"),
    (restartable.LosesWhatIsHeld, "what_a_consumer_holds_over_a_kill_is_not_lost"),
    (restartable.NeverComesBack, "publishers_and_consumers_go_on_after_restarts"),
    (restartable.NeverComesBack, "live_subscriptions_are_taken_up_again"),
    (restartable.NeverComesBack, "publish_waits_for_a_server_that_comes_back"),
    (restartable.SeesNothing, "a_lost_connection_is_seen_and_made_again"),
    (restartable.GivesUpAtOnce, "publish_waits_for_a_server_that_comes_back"),
    (restartable.BatchesAreNotWaitedFor, "publish_waits_for_a_server_that_comes_back"),
    (restartable.SaysThatItIsStored, "publish_waits_for_a_server_that_comes_back"),
    (restartable.SaysThatItIsStored, "publishers_and_consumers_go_on_after_restarts"),
    (restartable.WaitsForEver, "without_a_server_everything_ends_in_time"),
    (restartable.DrainsNever, "a_live_subscription_drains_without_a_server"),
    (restartable.DrainsNever, "a_durable_subscription_ends_without_a_server"),
]


@pytest.mark.parametrize(("kind", "name"), FORGETFUL, ids=[f"{k.__name__}-{n}" for k, n in FORGETFUL])
def test_a_broker_that_does_not_outlive_its_server_is_found_out(
    kind: type[RestartableBroker], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "ARRIVAL_TIMEOUT", 0.5)
    monkeypatch.setattr(restart, "BOUND", 1.0)
    case = replace(find_case(name), seconds=3.0)
    with pytest.raises((AssertionError, TimeoutError, TransportError)):
        asyncio.run(run_with_server(case, kind))


def test_a_case_that_restarts_the_server_needs_one() -> None:
    case = next(c for c in conformance.cases(ALL, restartable=True) if c.restarts)
    with pytest.raises(UsageError, match="restarts the server: pass server="):
        asyncio.run(case.run(MemoryBroker))


def test_the_suite_needs_no_pytest() -> None:
    import subprocess
    import sys

    code = "import sys, eventmicro.conformance; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
