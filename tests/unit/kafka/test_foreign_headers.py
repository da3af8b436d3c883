"""Events from outside that carry the names which this adapter uses on its copies, with nonsense or with real values."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from eventmicro_kafka.consuming.lane import KafkaDelivery, Lane
from eventmicro_kafka.consuming.retry import read_copy, retry_copy
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.records import to_record
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.broker import Durable

OURS = {
    "Retry-At": f"{time.time() + 3600:.3f}",
    "Retry-Attempt": "7",
    "Retry-Id": "t-0-3",
    "Retry-Queue": "q",
    "Retry-Subject": "t",
}
NONSENSE = dict.fromkeys(OURS, "nonsense") | {"Retry-Attempt": "-1", "Retry-At": "nan"}
KEPT = {"Retry-Kept-Retry-At": "soon", "Retry-Kept-": "", "Retry-Kept-Retry-Kept-Retry-At": "sooner"}


def make_lane() -> Any:
    holder: Any = SimpleNamespace(held=0, settled=lambda: None, again=lambda *_: None)
    return Lane(TopicPartition("t", 0), (0, ""), holder)


def record_of(headers: dict[str, str], offset: int = 0) -> Any:
    encoded = tuple((name, value.encode()) for name, value in headers.items())
    return SimpleNamespace(topic="q.t.retry", key=b"k", value=b"body", headers=encoded, offset=offset)


def copied(delivery: KafkaDelivery, due: float) -> Any:
    message = retry_copy(delivery, "q.t.retry", "q", due)
    key, headers = to_record(message, 10_000)
    return SimpleNamespace(topic=message.subject, key=key, value=message.body, headers=tuple(headers), offset=0)


def take_in(*records: Any) -> tuple[KafkaSubscription, list[Any]]:
    """A subscription that has taken these in from its retry topic, and what it handed over."""
    got: list[Any] = []
    publisher: Any = SimpleNamespace()
    subscription = KafkaSubscription("t", "q", got.append, Durable(), KafkaSettings(), publisher, {})
    place = TopicPartition("q.t.retry", 0)
    subscription.share({place: (0, "")})
    subscription.take(subscription.lanes[place], list(records))
    return subscription, got


@pytest.mark.parametrize("headers", [OURS, NONSENSE, KEPT, OURS | NONSENSE | KEPT | {"Other": "x"}])
async def test_an_event_that_carries_our_names_has_them_at_each_attempt_and_they_say_nothing(
    headers: dict[str, str],
) -> None:
    """Such as one that was read from a retry topic by a tool and published again."""
    delivery = KafkaDelivery("t", b"body", dict(headers), 1, None, make_lane(), 17, b"k")
    for attempt in (2, 3, 4):
        read = read_copy(copied(delivery, 123.0), make_lane(), "q", "t")
        assert read is not None
        due, delivery = read
        assert due == 123.0
        assert (delivery.attempt, delivery.id) == (attempt, "t-0-17")
        assert delivery.headers == headers


async def test_an_event_that_carries_our_names_is_handed_over_at_once_and_for_the_first_time() -> None:
    got: list[Any] = []
    publisher: Any = SimpleNamespace()
    subscription = KafkaSubscription("t", "q", got.append, Durable(), KafkaSettings(), publisher, {})
    place = TopicPartition("t", 0)
    subscription.share({place: (0, "")})
    record = record_of(OURS)
    await subscription._hand_over(subscription.lanes[place], [record])
    assert [(delivery.attempt, delivery.id, delivery.headers) for delivery in got] == [(1, "t-0-0", OURS)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"Retry-At": "nan"},
        {"Retry-At": "inf"},
        {"Retry-At": "-inf"},
        {"Retry-At": ""},
        {"Retry-Attempt": "0"},
        {"Retry-Attempt": "-7"},
        {"Retry-Attempt": "1.5"},
        {"Retry-Attempt": "9" * 5000},
    ],
    ids=str,
)
async def test_what_somebody_puts_into_a_retry_topic_and_makes_no_sense_is_said_and_holds_nothing_up(
    wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    due = {**OURS, "Retry-At": f"{time.time() - 1:.3f}"}
    subscription, got = take_in(record_of(OURS | wrong), record_of(due, 1))
    while (delivery := subscription._waiting.take_due()) is not None:
        got.append(delivery)
    assert [(delivery.offset, delivery.attempt) for delivery in got] == [(1, 7)]
    lane = next(iter(subscription.lanes.values()))
    assert lane.progress() == (1, "em1:1:0")
    assert "'q'" in caplog.text
    assert "q.t.retry-0 at offset 0" in caplog.text


async def test_the_copies_of_another_queue_are_passed_by_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    subscription, _ = take_in(record_of(OURS | {"Retry-Queue": "other"}), record_of({}, 1))
    assert subscription._waiting.next_due is None
    assert not caplog.records
