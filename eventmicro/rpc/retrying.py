"""Calls that are made again: when, and how often; within their deadline, their policy and their budget."""

from __future__ import annotations

import asyncio
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from eventmicro.checks import check_kind, check_seconds
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.retry import TRIED_AGAIN, CallRetry
from eventmicro.rpc.budget import Budget
from eventmicro.rpc.hedging import hedged
from eventmicro.terms import NO_TERMS, Terms

# Of how many endpoints a client keeps what it has spent on further attempts.
ENDPOINTS = 10_000
# How long a cancelled attempt may take to say so to its service, in seconds.
GRACE = 1.0
ONCE = CallRetry(attempts=1)

Send = Callable[[float], Awaitable[Any]]
"""Makes an attempt, that waits until then at most, in `time.monotonic()` seconds."""


class Opening:
    """A client from when it is made, or was closed, until it is closed: what began in it is not made again after it."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


class Trying:
    """How the calls of a client to one endpoint are tried.

    Args:
        policy: when they are made again.
        hedge: after how many seconds a second request goes out; 0: none does.
        idempotent: whether a call may be made twice; None: as `terms` say.
        terms: those of the endpoints of which something is known.
        losers: where attempts are kept that are cancelled, until they have ended.
        opening: as long as it is not over calls are made again.

    Attributes:
        attempt_timeout: how long one attempt waits for its reply, in seconds; None: as long as the call.
    """

    __slots__ = ("_budget", "_hedge", "_idempotent", "_losers", "_opening", "_policy", "_terms", "attempt_timeout")

    def __init__(
        self,
        policy: CallRetry,
        hedge: float,
        idempotent: bool | None,
        budget: Budget,
        terms: Mapping[str, Terms],
        losers: set[asyncio.Task[Any]],
        opening: Opening,
    ) -> None:
        self.attempt_timeout = policy.attempt_timeout
        self._policy = policy
        self._hedge = hedge
        self._idempotent = idempotent
        self._budget = budget
        self._terms = terms
        self._losers = losers
        self._opening = opening

    @property
    def idempotent(self) -> bool:
        """Whether a call may be made twice without harm, as far as is known."""
        if self._idempotent is not None:
            return self._idempotent
        return self._terms.get(self._budget.endpoint, NO_TERMS).idempotent

    def first(self, send: Send, deadline: float) -> Awaitable[Any]:
        """Make the first attempt."""
        self._budget.calls += 1
        return self._attempt(send, deadline) if self._hedge else send(deadline)

    async def again(self, send: Send, error: Exception, deadline: float) -> Any:
        """The call has failed once: make it again, as long as that is of use.

        Raises:
            EventMicroError: the last attempt's error.
        """
        attempt = 1
        try:
            while (pause := self._pause(error, attempt, deadline)) is not None:
                await sleep(pause)
                if self._opening.is_over:
                    break
                attempt += 1
                try:
                    return await self._attempt(send, deadline)
                except TRIED_AGAIN as later:
                    error = later
            if isinstance(error, EventMicroError):
                error.attempts = attempt
            raise error
        finally:
            del error  # its traceback holds this frame

    def _attempt(self, send: Send, deadline: float) -> Awaitable[Any]:
        if self._hedge and self.idempotent:
            return hedged(send, deadline, self._hedge, self._take, self._losers)
        return send(deadline)

    def _pause(self, error: Exception, attempt: int, deadline: float) -> float | None:
        """How long to wait before the next attempt, in seconds; None where there is none."""
        if not self._policy.again(error, attempt, idempotent=self.idempotent):
            return None
        pause = self._policy.delay(error, attempt)
        return pause if time.monotonic() + pause < deadline and self._take() else None

    def _take(self) -> bool:
        return not self._opening.is_over and self._budget.take(self._policy.budget)


class Retries:
    """What a client says of calls that are made again, and what they have cost.

    Args:
        policy, hedge: for the calls that do not say so themselves.
        terms: those of the endpoints of which something is known.

    Attributes:
        opening: as long as it is not over what is on its way may be made again.
    """

    def __init__(self, policy: CallRetry | None, hedge: float | None, terms: Mapping[str, Terms]) -> None:
        check_retry(policy, hedge)
        self.are_default = policy is not None or bool(hedge)
        self._policy = policy or ONCE
        self._hedge = hedge or 0.0
        self._terms = terms
        self._default: dict[str, Trying] = {}
        self._budgets: dict[str, Budget] = {}
        self._losers: set[asyncio.Task[Any]] = set()
        self.opening = Opening()

    def of(
        self, endpoint: str, policy: CallRetry | None, hedge: float | None, idempotent: bool | None
    ) -> Trying | None:
        """How a call is tried that says this of it; None: once, as any other.

        Raises:
            UsageError: one of these is none, or a hedge is asked for where a call may not be made twice.
        """
        if policy is None and hedge is None and idempotent is None:
            return self._of_any(endpoint) if self.are_default else None
        check_retry(policy, hedge)
        check_kind("idempotent", idempotent, bool | None, "True or False")
        if policy is None and not hedge and not self.are_default:  # it is only told what the endpoint is
            return None
        trying = self._make(endpoint, policy or self._policy, self._hedge if hedge is None else hedge, idempotent)
        if hedge and not trying.idempotent:
            raise UsageError(
                f"hedge={hedge!r} may send a request twice, and {endpoint} is not known to be idempotent: write "
                "@service.rpc(idempotent=True) there, which directed calls see, or call(..., idempotent=True)"
            )
        return trying

    def budget(self, endpoint: str) -> Budget:
        """What the calls to an endpoint may spend."""
        budget = self._budgets.get(endpoint)
        if budget is None:
            if len(self._budgets) >= ENDPOINTS:  # endpoints of names that others make up
                self._budgets.clear()
                self._default.clear()
            budget = self._budgets[endpoint] = Budget(endpoint)
        return budget

    def end(self) -> None:
        """What is on its way is not made again."""
        self.opening.is_over = True
        self.opening = Opening()
        self._default.clear()

    async def close(self) -> None:
        """Return when the attempts have ended that were cancelled, or a little later."""
        if self._losers:
            await asyncio.wait(self._losers, timeout=GRACE)

    def _of_any(self, endpoint: str) -> Trying:
        trying = self._default.get(endpoint)
        if trying is None:
            trying = self._make(endpoint, self._policy, self._hedge, None)
            self._default[endpoint] = trying
        return trying

    def _make(self, endpoint: str, policy: CallRetry, hedge: float, idempotent: bool | None) -> Trying:
        return Trying(policy, hedge, idempotent, self.budget(endpoint), self._terms, self._losers, self.opening)


async def tried(trying: Trying, send: Send, deadline: float) -> Any:
    """A call with all its attempts."""
    try:
        return await trying.first(send, deadline)
    except TRIED_AGAIN as error:
        return await trying.again(send, error, deadline)


def check_retry(policy: CallRetry | None, hedge: float | None) -> None:
    """Refuse what is no policy, and no time after which a second request goes out.

    Raises:
        UsageError: it is none.
    """
    if policy is not None and not isinstance(policy, CallRetry):
        raise UsageError(f"retry={policy!r}: write CallRetry(attempts=...); Retry is for events")
    if hedge is not None:
        check_seconds("hedge", hedge, or_none_at_all=True)
