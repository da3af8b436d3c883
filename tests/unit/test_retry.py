"""retry: what is tried again, when, and what is no Retry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventmicro import Retry
from eventmicro.errors import (
    BadRequest,
    CallTimeout,
    Conflict,
    Disconnected,
    InternalError,
    NotFound,
    TooManyRequests,
    Unavailable,
    UsageError,
)


def test_by_default_five_attempts_one_two_four_and_eight_seconds_apart() -> None:
    retry = Retry(jitter=0)
    assert [retry.delay(attempt) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert [retry.again(ValueError(), attempt) for attempt in (1, 4, 5, 6)] == [True, True, False, False]


def test_a_wait_grows_by_the_factor_up_to_the_longest() -> None:
    retry = Retry(backoff=0.5, factor=10, longest=20, jitter=0)
    assert [retry.delay(attempt) for attempt in (1, 2, 3, 4)] == [0.5, 5, 20, 20]
    assert Retry(backoff=3, factor=1, jitter=0).delay(9) == 3
    assert Retry(backoff=3, longest=2, jitter=0).delay(1) == 2
    assert Retry(backoff=0, jitter=0).delay(1) == 0


@pytest.mark.parametrize("attempt", [1_000, 10**9])
def test_an_attempt_of_any_number_waits_the_longest(attempt: int) -> None:
    assert Retry(factor=10, jitter=0).delay(attempt) == 60
    assert Retry(factor=1e300, jitter=0).delay(attempt) == 60


def test_jitter_makes_a_wait_longer_by_its_share_at_most_and_never_shorter() -> None:
    waits = [Retry(backoff=10, jitter=0.5).delay(1) for _ in range(200)]
    assert all(10 <= wait <= 15 for wait in waits)
    assert len(set(waits)) > 1


def test_only_the_errors_that_are_named_are_worth_another_attempt() -> None:
    retry = Retry(on=(OSError, NotFound))
    assert retry.again(ConnectionError(), 1)
    assert retry.again(NotFound(), 1)
    assert not retry.again(ValueError(), 1)
    assert not Retry().again(SystemExit(), 1)
    assert not Retry().again(asyncio.CancelledError(), 1)


NO_RETRY: list[tuple[dict[str, Any], str]] = [
    ({"attempts": 0}, "attempts=0"),
    ({"attempts": 2.5}, "attempts=2.5: write a whole number"),
    ({"backoff": -1}, "backoff"),
    ({"backoff": float("nan")}, "backoff"),
    ({"longest": -1}, "longest"),
    ({"longest": float("inf")}, "longest"),
    ({"jitter": -0.1}, "^Retry: jitter=-0.1: write a number, 0 or more$"),
    ({"jitter": True}, "^Retry: jitter=True: write a number"),
    ({"factor": 0}, "^Retry: factor=0: write a number, 1 or more$"),
    ({"factor": "2"}, "^Retry: factor='2': write a number"),
    ({"factor": float("nan")}, "^Retry: factor=nan: write"),
    ({"factor": float("inf")}, "^Retry: factor=inf: write"),
    ({"on": ValueError("one")}, "on="),
    ({"on": [ValueError]}, "on="),
    ({"on": str}, "on="),
]


@pytest.mark.parametrize(("words", "said"), NO_RETRY, ids=[f"{name}" for words, _ in NO_RETRY for name in words])
def test_what_cannot_be_is_refused_when_it_is_written(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Retry(**words)


def test_a_function_of_the_error_says_which_are_worth_another_attempt() -> None:
    retry = Retry(on=lambda error: "again" in str(error))
    assert retry.again(ValueError("again"), 1)
    assert not retry.again(ValueError("never"), 1)
    assert not retry.again(ValueError("again"), 5)
    assert not retry.again(SystemExit("again"), 1)


SAME_AGAIN: list[tuple[Exception, bool]] = [
    (NotFound("no such sku"), False),
    (BadRequest("wrong"), False),
    (Conflict("too late"), False),
    (Conflict("come again", retryable=True), True),
    (TooManyRequests("busy"), True),
    (Unavailable("nobody"), True),
    (Unavailable("never more", retryable=False), True),
    (CallTimeout("no reply"), True),
    (InternalError("failed"), True),
    (Disconnected(), True),
    (ValueError(), True),
]


@pytest.mark.parametrize(("error", "again"), SAME_AGAIN, ids=lambda each: str(each).replace(" ", "-"))
def test_what_a_service_has_answered_is_the_same_at_the_next_attempt(error: Exception, again: bool) -> None:
    assert Retry().again(error, 1) is again
    assert Retry(on=Exception).again(error, 1), "who names the errors has said which"
