"""Retry: when what has failed is tried again, and when it is given up: the event of a handler, the call of a client."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eventmicro.checks import check_count, check_number, check_seconds, names_words
from eventmicro.errors import (
    ConnectionFailed,
    Disconnected,
    MessageTooLarge,
    ServiceError,
    TransportError,
    Unconfirmed,
    UsageError,
)

Kinds = type[Exception] | tuple[type[Exception], ...]
On = Kinds | Callable[[Exception], bool]
"""Which errors are worth another attempt: exception classes, or a function of the error."""


@names_words
@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and when an event is tried again; the broker counts the attempts and waits, not this process.

    `Retry(attempts=3)`; by default five attempts, 1, 2, 4 and 8 seconds apart.
    """

    attempts: int = 5
    """How many times in all an event is handed to the handler before it is given up; 1: no second try."""
    backoff: float = 1.0
    """How long to wait before the second attempt, in seconds."""
    factor: float = 2.0
    """How many times as long as the one before each further wait is."""
    longest: float = 60.0
    """No wait is longer than this, apart from its jitter, in seconds."""
    jitter: float = 0.1
    """By how much a wait may be longer by chance, as a share of it, so that what failed together does not come
    together."""
    on: On | None = None
    """The errors that are worth another attempt: exception classes, or a function of the error; any other gives the
    event up at once. None: all but those that are the same at the next attempt, a ServiceError by which a service has
    answered and that is not `retryable`, such as NotFound."""

    def __post_init__(self) -> None:
        _check_waits("Retry", self)
        _check_on("Retry", self.on)

    def again(self, error: BaseException, attempt: int) -> bool:
        """Whether an event that failed with this error at this attempt is worth another one."""
        if attempt >= self.attempts or not isinstance(error, Exception):
            return False
        if self.on is None:
            return not isinstance(error, ServiceError) or is_safe(error, idempotent=True)
        return _is_one(error, self.on)

    def delay(self, attempt: int) -> float:
        """How long to wait after this attempt, in seconds."""
        return _wait(self, attempt)


@names_words
@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetry:
    """How often and when a call is made again, by its client, within the time that the call has; never beyond it.

    `CallRetry(attempts=3)`; by default three attempts, 0.05 and 0.1 seconds apart. Without `on` a call is made again
    where that does no harm: it surely did not run, or the error says that it may be, or its endpoint is `idempotent`
    and did not answer, or with 500 or more.
    """

    attempts: int = 3
    """How many times in all a call is made; 1: no second try."""
    attempt_timeout: float | None = None
    """How long one attempt waits for its reply, in seconds; None: as long as the call has left. One that is not
    answered in time is cancelled at its service."""
    backoff: float = 0.05
    """How long to wait before the second attempt, in seconds; longer where the error says `retry_after`."""
    factor: float = 2.0
    """How many times as long as the one before each further wait is."""
    longest: float = 1.0
    """No wait is longer than this, apart from its jitter, in seconds."""
    jitter: float = 0.5
    """By how much a wait may be longer by chance, as a share of it, so that what failed together does not come
    together."""
    on: On | None = None
    """The errors that are worth another attempt, whether it is safe or not: exception classes, or a function of the
    error. None: those after which it is safe."""
    budget: float | None = 0.1
    """How many further attempts the calls of one endpoint have, as a share of the calls: 0.1 is one for ten, beside ten
    for a start. Where they are used up an error is raised at once. None: no such limit."""

    def __post_init__(self) -> None:
        _check_waits("CallRetry", self)
        if self.attempt_timeout is not None:
            check_seconds("CallRetry: attempt_timeout", self.attempt_timeout)
        if self.budget is not None:
            check_number("CallRetry: budget", self.budget, 0)
        _check_on("CallRetry", self.on)

    def again(self, error: Exception, attempt: int, *, idempotent: bool) -> bool:
        """Whether a call that ended with this error at this attempt is worth another one."""
        if attempt >= self.attempts or isinstance(error, MessageTooLarge):
            return False
        if self.on is None:
            return is_safe(error, idempotent=idempotent)
        return _is_one(error, self.on)

    def delay(self, error: Exception, attempt: int) -> float:
        """How long to wait after this attempt, in seconds."""
        wait = _wait(self, attempt)
        return max(wait, error.retry_after or 0.0) if isinstance(error, ServiceError) else wait


def is_safe(error: Exception, *, idempotent: bool) -> bool:
    """Whether a call that ended so may be made again without harm."""
    if isinstance(error, ServiceError):
        return error.retryable or (idempotent and error.is_failure)
    if isinstance(error, Disconnected | ConnectionFailed):  # it was not taken
        return True
    return idempotent and isinstance(error, Unconfirmed)


TRIED_AGAIN = (ServiceError, TransportError)
"""What a policy is asked about: any other error is the same at the next attempt."""


def _check_waits(name: str, policy: Retry | CallRetry) -> None:
    check_count(f"{name}: attempts", policy.attempts)  # the first one counts
    check_seconds(f"{name}: backoff", policy.backoff, or_none_at_all=True)
    check_seconds(f"{name}: longest", policy.longest, or_none_at_all=True)
    check_number(f"{name}: factor", policy.factor, 1)
    check_number(f"{name}: jitter", policy.jitter, 0)


def _check_on(name: str, on: Any) -> None:
    kinds = on if isinstance(on, tuple) else (on,)
    are_kinds = all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)
    if on is not None and not are_kinds and (isinstance(on, type) or not callable(on)):
        raise UsageError(f"{name}(on={on!r}): write an exception class, a tuple of them, or a function of the error")


def _is_one(error: Exception, on: On) -> bool:
    return isinstance(error, on) if isinstance(on, type | tuple) else on(error)


def _wait(policy: Retry | CallRetry, attempt: int) -> float:
    steps = min(attempt - 1, 1000)
    wait = policy.longest if policy.backoff > policy.longest else _grown(policy, steps)
    return wait * (1 + random.uniform(0, policy.jitter))  # noqa: S311  it spreads load, it hides nothing


def _grown(policy: Retry | CallRetry, steps: int) -> float:
    try:
        return min(policy.backoff * policy.factor**steps, policy.longest)
    except OverflowError:
        return policy.longest
