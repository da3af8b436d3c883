"""Calls that are made again: when, how often, and never beyond their deadline, their policy and their budget."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import CallRetry, Client, MemoryBroker, Retry, Service
from eventmicro.errors import (
    BadRequest,
    CallTimeout,
    DecodeError,
    Disconnected,
    EncodeError,
    EventMicroError,
    InternalError,
    MessageTooLarge,
    NotFound,
    ServiceError,
    TooManyRequests,
    Unavailable,
    Unconfirmed,
    UsageError,
)
from eventmicro.retry import is_safe
from eventmicro.rpc import budget, retrying
from eventmicro.rpc.budget import RESERVE, Budget
from eventmicro.rpc.client import RpcClient
from eventmicro.rpc.retrying import Retries, Trying, tried
from eventmicro.terms import Terms

Until = Callable[[Callable[[], object]], Awaitable[None]]
PLAIN = CallRetry(jitter=0)


class Clock:
    """A clock that moves when somebody sleeps, or a request takes its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        monkeypatch.setattr(retrying, "time", self)
        monkeypatch.setattr(retrying, "sleep", self.sleep)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Scripted:
    """Answers each attempt by the next of these outcomes, after so long; the last one again and again."""

    def __init__(self, clock: Clock, *outcomes: Any, takes: float = 0.0) -> None:
        self.clock = clock
        self.outcomes = list(outcomes)
        self.takes = takes
        self.untils: list[float] = []

    def __call__(self, until: float) -> Awaitable[Any]:
        return self._answer(until)

    async def _answer(self, until: float) -> Any:
        self.untils.append(until)
        self.clock.now += min(self.takes, max(0.0, until - self.clock.now))
        if self.clock.now >= until:
            raise CallTimeout("no reply")
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def trying(policy: CallRetry = PLAIN, *, idempotent: bool = False, hedge: float = 0.0) -> Trying:
    made = Retries(policy, hedge, {}).of("orders.quote", policy, None, idempotent)
    assert made is not None
    return made


async def call(service: Scripted, how: Trying, seconds: float = 5.0) -> Any:
    return await tried(how, service, service.clock.now + seconds)


SAFE = [
    # error, safe, safe where the endpoint is idempotent
    (Unavailable("nobody"), True, True),
    (TooManyRequests("busy"), True, True),
    (ServiceError("come again", code=423, retryable=True), True, True),
    (Unavailable("I say no", retryable=False), False, True),
    (Disconnected(), True, True),
    (Unconfirmed(), False, True),
    (CallTimeout("no reply"), False, True),
    (InternalError("failed"), False, True),
    (ServiceError("bad gateway", code=502), False, True),
    (BadRequest("no"), False, False),
    (NotFound("no"), False, False),
    (MessageTooLarge(), False, False),
    (EncodeError(), False, False),
]


@pytest.mark.parametrize(("error", "safe", "if_idempotent"), SAFE, ids=lambda value: type(value).__name__)
def test_what_is_safe_by_itself(error: Exception, safe: bool, if_idempotent: bool) -> None:
    assert is_safe(error, idempotent=False) == safe
    assert is_safe(error, idempotent=True) == if_idempotent


async def test_what_goes_well_the_second_time_has_gone_well(clock: Clock) -> None:
    service = Scripted(clock, Unavailable("gone"), "answer")
    assert await call(service, trying()) == "answer"
    assert len(service.untils) == 2
    assert clock.slept == [0.05]


async def test_after_the_last_attempt_its_error_is_raised_and_says_how_many_there_were(clock: Clock) -> None:
    service = Scripted(clock, Unavailable("one"), Unavailable("two"), Unavailable("three"))
    with pytest.raises(Unavailable, match=r"three \(3 attempts\)$") as caught:
        await call(service, trying())
    assert caught.value.attempts == 3
    assert clock.slept == [0.05, 0.1]


async def test_one_attempt_says_nothing_of_attempts(clock: Clock) -> None:
    with pytest.raises(BadRequest) as caught:
        await call(Scripted(clock, BadRequest("no")), trying())
    assert (str(caught.value), caught.value.attempts) == ("400 Bad Request: no", 1)
    disconnected = Disconnected("away")
    disconnected.attempts = 2
    assert str(disconnected) == "away (2 attempts)"


@pytest.mark.parametrize(("idempotent", "attempts"), [(False, 1), (True, 3)])
async def test_what_may_have_run_is_made_again_where_that_does_no_harm(
    clock: Clock, idempotent: bool, attempts: int
) -> None:
    service = Scripted(clock, InternalError("failed"))
    with pytest.raises(InternalError):
        await call(service, trying(idempotent=idempotent))
    assert len(service.untils) == attempts


@pytest.mark.parametrize(
    "words", [{}, {"selector": "random"}, {"middleware": [lambda m, c, call_next: call_next(m, c)]}]
)
async def test_each_attempt_has_its_own_timeout_within_that_of_the_call(
    monkeypatch: pytest.MonkeyPatch, words: dict[str, Any]
) -> None:
    waited: list[float] = []

    async def exchange(*arguments: Any, **words: Any) -> None:
        now, until = arguments[5:7]
        waited.append(until - now)
        raise CallTimeout("no reply")

    policy = CallRetry(attempts=4, attempt_timeout=2, backoff=0)
    flaky = Flaky(idempotent=True)
    async with flaky.service, Client("memory://retrying", retry=policy, **words) as client:
        await client.call("flaky.quote", None, int, selector="random")
        monkeypatch.setattr(RpcClient, "exchange", exchange)
        for timeout, expected in ((60, 2), (1, 1)):
            with pytest.raises(CallTimeout, match=r"\(4 attempts\)"):
                await client.call("flaky.quote", None, int, timeout=timeout)
            assert waited == pytest.approx([expected] * 4, abs=0.5)
            assert max(waited) <= expected
            waited.clear()
        monkeypatch.undo()


@pytest.mark.parametrize("seconds", [0.04, 0.1, 0.5, 1, 3, 10])
@pytest.mark.parametrize("takes", [0.0, 0.03, 0.4])
async def test_the_deadline_is_never_exceeded(clock: Clock, seconds: float, takes: float) -> None:
    """A pause that does not fit is not begun: the error is raised at once."""
    service = Scripted(clock, Unavailable("gone"), takes=takes)
    policy = CallRetry(attempts=1000, budget=None, jitter=0)
    started = clock.now
    with pytest.raises((Unavailable, CallTimeout)):
        await call(service, trying(policy), seconds)
    assert clock.now <= started + seconds
    assert all(until == started + seconds for until in service.untils)
    pauses = [min(1.0, 0.05 * 2**attempt) for attempt in range(len(clock.slept) + 1)]
    assert clock.slept == pytest.approx(pauses[:-1])
    if takes == 0:
        assert clock.now + pauses[-1] >= started + seconds


async def test_a_pause_is_as_long_as_the_error_says(clock: Clock) -> None:
    service = Scripted(clock, TooManyRequests("busy", retry_after=0.7), "answer")
    assert await call(service, trying()) == "answer"
    assert clock.slept == [0.7]


async def test_one_that_does_not_fit_is_not_waited_for(clock: Clock) -> None:
    service = Scripted(clock, TooManyRequests("busy", retry_after=7), "answer")
    with pytest.raises(TooManyRequests):
        await call(service, trying(), 5)
    assert (clock.slept, len(service.untils)) == ([], 1)


POLICIES: list[tuple[Any, int]] = [
    (BadRequest, 3),
    ((BadRequest, NotFound), 3),
    (lambda error: error.code == 400, 3),
    (NotFound, 1),
    (lambda error: False, 1),
]


@pytest.mark.parametrize(("on", "attempts"), POLICIES)
async def test_what_the_user_names_is_made_again_whether_it_is_safe_or_not(
    clock: Clock, on: Any, attempts: int
) -> None:
    service = Scripted(clock, BadRequest("no"))
    with pytest.raises(BadRequest):
        await call(service, trying(CallRetry(on=on, jitter=0)))
    assert len(service.untils) == attempts


@pytest.mark.parametrize("error", [UsageError("x"), EncodeError(), DecodeError(), MessageTooLarge(), ValueError()])
async def test_what_is_never_made_again(clock: Clock, error: Exception) -> None:
    service = Scripted(clock, error)
    with pytest.raises(type(error)):
        await call(service, trying(CallRetry(on=Exception), idempotent=True))
    assert len(service.untils) == 1


async def test_a_retry_storm_stays_within_its_budget(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "eventmicro")
    service = Scripted(clock, Unavailable("dead"))
    retries = Retries(CallRetry(attempts=5, jitter=0), None, {})
    for _ in range(1000):
        how = retries.of("orders.quote", None, None, None)
        assert how is not None
        with pytest.raises(Unavailable):
            await call(service, how, 60)
    further = len(service.untils) - 1000
    assert further == retries.budget("orders.quote").spent
    assert 100 <= further <= 1000 * 0.1 + RESERVE
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["orders.quote fails too often"]


async def test_each_endpoint_has_a_budget_of_its_own(clock: Clock) -> None:
    dead, alive = Scripted(clock, Unavailable("dead")), Scripted(clock, Unavailable("once"), "answer")
    retries = Retries(PLAIN, None, {})
    for _ in range(50):
        with pytest.raises(Unavailable):
            await call(dead, retries.of("orders.dead", None, None, None))  # type: ignore[arg-type]
    assert await call(alive, retries.of("orders.alive", None, None, None)) == "answer"  # type: ignore[arg-type]


def test_a_budget_is_a_part_of_the_calls_and_never_more_than_its_reserve() -> None:
    some = Budget("orders.quote")
    assert [some.take(0.5) for _ in range(12)] == [True] * 10 + [False] * 2
    some.calls += 1
    assert not some.take(0.5)
    some.calls += 1
    assert some.take(0.5)
    some.calls += 1_000_000
    assert [some.take(0.5) for _ in range(11)] == [True] * 10 + [False]
    assert some.take(None)
    assert some.spent == 22


def test_budgets_of_endpoints_that_others_make_up_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "ENDPOINTS", 10)
    retries = Retries(PLAIN, None, {})
    for number in range(95):
        retries.of(f"orders.x{number}", None, None, None)
    assert len(retries._budgets) <= 10
    assert len(retries._default) <= 10
    assert budget.RESERVE == 10


def test_by_default_nothing_is_made_again() -> None:
    retries = Retries(None, None, {})
    assert not retries.are_default
    assert retries.of("orders.quote", None, None, None) is None
    assert retries.of("orders.quote", None, None, True) is None


def test_whether_an_endpoint_is_idempotent_is_said_at_the_call_or_by_its_terms() -> None:
    terms: dict[str, Terms] = {}
    retries = Retries(PLAIN, None, terms)
    how = retries.of("orders.quote", None, None, None)
    assert how is not None
    assert not how.idempotent
    terms["orders.quote"] = Terms(idempotent=True)
    assert how.idempotent
    said = retries.of("orders.quote", None, None, False)
    assert said is not None
    assert not said.idempotent


def test_waits_grow_up_to_the_longest_and_differ_by_chance() -> None:
    policy = CallRetry(jitter=0)
    assert [policy.delay(Unavailable(), attempt) for attempt in (1, 2, 3, 9)] == [0.05, 0.1, 0.2, 1.0]
    waits = [CallRetry(backoff=1, jitter=0.5).delay(Disconnected(), 1) for _ in range(200)]
    assert all(1 <= wait <= 1.5 for wait in waits)
    assert len(set(waits)) > 1


NO_RETRY: list[tuple[dict[str, Any], str]] = [
    ({"attempts": 0}, "CallRetry: attempts=0"),
    ({"attempt_timeout": 0}, "CallRetry: attempt_timeout=0"),
    ({"backoff": -1}, "CallRetry: backoff=-1"),
    ({"factor": 0.5}, "CallRetry: factor=0.5"),
    ({"longest": math.inf}, "CallRetry: longest=inf"),
    ({"jitter": -1}, "CallRetry: jitter=-1"),
    ({"budget": -1}, "CallRetry: budget=-1"),
    ({"budget": "1"}, "CallRetry: budget='1'"),
    ({"on": 5}, r"CallRetry\(on=5\): write an exception class, a tuple of them, or a function"),
    ({"on": int}, r"CallRetry\(on=<class 'int'>\)"),
    ({"on": KeyboardInterrupt}, r"CallRetry\(on=<class 'KeyboardInterrupt'>\)"),
]


@pytest.mark.parametrize(("words", "message"), NO_RETRY)
def test_what_is_no_policy_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CallRetry(**words)


@pytest.mark.parametrize("make", [Client, lambda *a, **w: Service("orders", **w)], ids=["client", "service"])
def test_a_client_and_a_service_refuse_what_is_none(make: Any) -> None:
    with pytest.raises(UsageError, match=r"retry=Retry\(.*: write CallRetry\(attempts=...\); Retry is for events"):
        make("memory://", retry=Retry())
    with pytest.raises(UsageError, match="hedge=-1: write seconds"):
        make("memory://", hedge=-1)


def test_a_subscriber_takes_no_policy_of_calls() -> None:
    async def take(event: int) -> None: ...

    with pytest.raises(UsageError, match=r"retry=CallRetry\(.*: write Retry\("):
        Service("orders").subscribe("a.b", retry=CallRetry())(take)  # type: ignore[arg-type]


class Flaky:
    """A service whose endpoint fails so often before it answers."""

    def __init__(self, *errors: ServiceError, **options: Any) -> None:
        self.service = Service("flaky", broker="memory://retrying")
        self.errors = list(errors)
        self.runs = 0

        @self.service.rpc(**options)
        async def quote() -> int:
            self.runs += 1
            if self.errors:
                raise self.errors.pop(0)
            return self.runs


QUICK = CallRetry(backoff=0, jitter=0)


@pytest.mark.parametrize("middleware", [False, True])
async def test_retryable_in_the_error_of_a_service_is_honoured(middleware: bool) -> None:
    async def passing(message: Any, context: Any, call_next: Any) -> Any:
        seen.append(context.topic)
        return await call_next(message, context)

    seen: list[str] = []
    flaky = Flaky(ServiceError("come again", code=423, retryable=True), ServiceError("go", code=423))
    around = [passing] if middleware else []
    async with flaky.service, Client("memory://retrying", middleware=around) as client:
        with pytest.raises(ServiceError, match=r"go \(2 attempts\)"):
            await client.call("flaky.quote", None, int, retry=QUICK)
        assert await client.call("flaky.quote", None, int) == 3
    assert seen == ["flaky.quote"] * 2 * middleware  # once around all attempts


async def test_a_client_says_it_for_all_its_calls_and_a_call_for_itself() -> None:
    flaky = Flaky(Unavailable("a"), Unavailable("b"), Unavailable("c"))
    async with flaky.service, Client("memory://retrying", retry=QUICK) as client:
        with pytest.raises(Unavailable, match=r"a$"):
            await client.call("flaky.quote", None, int, retry=CallRetry(attempts=1))
        assert await client.call("flaky.quote", None, int) == 4


async def test_a_service_makes_its_own_calls_again() -> None:
    flaky = Flaky(Unavailable("a"))
    relay = Service("relay", broker="memory://retrying", retry=QUICK)

    @relay.rpc
    async def ask() -> int:
        return await relay.call("flaky.quote", None, int)

    async with flaky.service, relay, Client("memory://retrying") as client:
        assert await client.call("relay.ask", None, int) == 2


async def test_without_a_policy_nothing_is_made_again() -> None:
    flaky = Flaky(Unavailable("a"), idempotent=True)
    async with flaky.service, Client("memory://retrying") as client:
        with pytest.raises(Unavailable) as caught:
            await client.call("flaky.quote", None, int, idempotent=True)
    assert (flaky.runs, caught.value.attempts) == (1, 1)


class Away(MemoryBroker):
    """Refuses so many messages before it takes them."""

    def __init__(self, times: int) -> None:
        super().__init__("memory://retrying")
        self.times = times

    def try_send(self, *arguments: Any, **words: Any) -> bool:
        return self.times == 0 and super().try_send(*arguments, **words)

    async def send(self, message: Any) -> None:
        if message.subject == "flaky.quote" and self.times:
            self.times -= 1
            raise Disconnected("away")
        await super().send(message)


async def test_what_was_not_sent_is_sent_again() -> None:
    flaky = Flaky()
    async with flaky.service, Client(Away(2)) as client:
        with pytest.raises(Disconnected):
            await client.call("flaky.quote", None, int)
        assert await client.call("flaky.quote", None, int, retry=QUICK) == 1


async def test_a_wrong_idempotent_is_refused() -> None:
    async with Client("memory://retrying") as client:
        with pytest.raises(UsageError, match="idempotent='yes': write True or False"):
            await client.call("flaky.quote", retry=QUICK, idempotent="yes")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="retry=5: write CallRetry"):
            await client.call("flaky.quote", retry=5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="idempotent='yes': write True or False"):
        Flaky(idempotent="yes")


async def test_an_attempt_that_times_out_is_cancelled_at_its_service(until: Any) -> None:
    service = Service("slow", broker="memory://retrying")
    begun: list[int] = []
    cancelled: list[int] = []

    @service.rpc
    async def wait() -> int:
        begun.append(1)
        if len(begun) == 2:
            return 2
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return 0

    policy = CallRetry(attempt_timeout=0.02, backoff=0)
    async with service, Client("memory://retrying") as client:
        assert await client.call("slow.wait", None, int, retry=policy, idempotent=True) == 2
        await until(lambda: cancelled == [1])
        with pytest.raises(EventMicroError):
            await client.call("slow.wait", None, int, timeout=0.02, retry=policy)


@pytest.mark.parametrize("words", [{}, {"hedge": 0.001}, {"selector": "random"}])
@pytest.mark.parametrize("paused", [False, True])
async def test_what_is_on_its_way_when_its_client_is_closed_is_not_made_again(
    until: Until, words: dict[str, Any], paused: bool
) -> None:
    """It would open again what was closed, for nobody to close."""
    service, begun = Service("slow", broker="memory://closed"), 0

    @service.rpc(idempotent=True)
    async def wait() -> int:
        nonlocal begun
        begun += 1
        if paused:
            raise Unavailable("come again", retry_after=0.5)
        return await asyncio.Event().wait()

    policy = CallRetry(attempts=5, backoff=0)
    async with service, MemoryBroker("memory://closed") as broker:
        client = Client(broker, retry=policy, **words)
        call = asyncio.create_task(client.call("slow.wait", None, int, timeout=60, idempotent=True))
        await until(lambda: begun == 1 + ("hedge" in words and not paused))
        await asyncio.sleep(0)
        former = begun
        await client.close()
        with pytest.raises((CallTimeout, Unavailable)):
            await call
        assert begun == former
        assert client._calls._caller is None
        assert "_directing" not in client.__dict__ or client._directing._cache is None
