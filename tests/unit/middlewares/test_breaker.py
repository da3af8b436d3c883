"""The breaker: when it opens, what it lets through then, and what brings it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from eventmicro import BadRequest, CallTimeout, Client, Disconnected, InternalError, Service, Side, Unavailable, sides
from eventmicro.context import Context
from eventmicro.errors import EncodeError, MessageTooLarge, PeerLost, ServiceError, StreamBroken, UsageError
from eventmicro.middlewares import Circuit, CircuitBreaker, State
from eventmicro.middlewares.window import Window
from eventmicro.selector import Node
from tests.unit.middlewares.kit import Called, Clock, Directed, Numbers, at, turns

Until = Callable[[Callable[[], object]], Awaitable[None]]
FAILED = InternalError("failed")


async def make(breaker: CircuitBreaker, called: Called, times: int = 1, **where: Any) -> list[Any]:
    outcomes: list[Any] = []
    for _ in range(times):
        try:
            outcomes.append(await breaker(None, at(**where), called))
        except Exception as error:
            outcomes.append(error)
    return outcomes


def state(breaker: CircuitBreaker) -> list[tuple[str, str, State]]:
    return [(circuit.name, circuit.node, circuit.state) for circuit in breaker]


async def test_it_opens_where_too_many_of_enough_have_failed(clock: Clock) -> None:
    breaker, called = CircuitBreaker(threshold=0.5, minimum=10), Called()
    await make(breaker, called, 5)
    called.outcome = FAILED
    await make(breaker, called, 4)
    assert state(breaker) == [("orders.quote", "", State.CLOSED)]
    await make(breaker, called)
    assert state(breaker) == [("orders.quote", "", State.OPEN)]
    (refused,) = await make(breaker, called)
    assert isinstance(refused, Unavailable)
    assert (called.count, refused.id, refused.retry_after, refused.nobody) == (10, "orders.quote", 5.0, False)
    assert "orders.quote was not called" in refused.detail


async def test_what_it_refuses_is_told_for_how_long(clock: Clock) -> None:
    breaker, called = CircuitBreaker(threshold=0.5, minimum=10, open_for=5), Called(FAILED)
    await make(breaker, called, 10)
    clock.now += 1.5
    (refused,) = await make(breaker, called)
    assert str(refused).endswith("and it is called no more for another 3.5 s")


async def test_few_failures_do_not_open_it_however_many_calls_there_are(clock: Clock) -> None:
    breaker, called = CircuitBreaker(threshold=0.5, minimum=10), Called()
    for _ in range(100):
        called.outcome = "answer"
        await make(breaker, called, 3)
        called.outcome = FAILED
        await make(breaker, called, 2)
    assert state(breaker) == [("orders.quote", "", State.CLOSED)]


async def test_what_is_older_than_the_window_is_forgotten(clock: Clock) -> None:
    breaker, called = CircuitBreaker(minimum=10, window=10), Called(FAILED)
    await make(breaker, called, 9)
    clock.now += 10.1
    await make(breaker, called, 9)
    assert state(breaker) == [("orders.quote", "", State.CLOSED)]
    clock.now += 5
    await make(breaker, called, 1)
    assert state(breaker) == [("orders.quote", "", State.OPEN)]


def test_a_window_forgets_by_tenths(clock: Clock) -> None:
    window = Window(10)
    counts = []
    for second in range(24):
        window.succeeded()
        if second % 2:
            window.failed()
        counts.append(window.counts())
        clock.now += 1
    assert counts[:10] == [(n + 1, (n + 1) // 2) for n in range(10)]
    assert counts[10:] == [(10, 5)] * 14
    clock.now += 1000
    assert window.counts() == (0, 0)
    window.succeeded()
    assert window.counts() == (1, 0)


@pytest.mark.parametrize("probes", [1, 3])
async def test_after_a_while_exactly_so_many_probes_are_let_through_at_once(clock: Clock, probes: int) -> None:
    breaker, called = CircuitBreaker(minimum=4, open_for=5, probes=probes), Called(FAILED)
    await make(breaker, called, 4)
    clock.now += 4.9
    assert isinstance((await make(breaker, called))[0], Unavailable)
    clock.now += 0.2
    called.outcome, called.count = "answer", 0
    called.gate.clear()
    calls = [asyncio.create_task(make(breaker, called)) for _ in range(50)]
    await turns()
    assert (called.count, state(breaker)[0][2]) == (probes, State.HALF_OPEN)
    called.gate.set()
    outcomes = [outcome for (outcome,) in await asyncio.gather(*calls)]
    assert outcomes.count("answer") == probes
    assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 50 - probes
    assert state(breaker)[0][2] is State.CLOSED
    await make(breaker, called, 10)
    assert called.count == probes + 10


async def test_a_probe_that_fails_opens_it_again(clock: Clock) -> None:
    breaker, called = CircuitBreaker(minimum=4, open_for=5, probes=2), Called(FAILED)
    await make(breaker, called, 4)
    for _ in range(3):
        clock.now += 5
        called.count = 0
        await make(breaker, called, 5)
        assert (called.count, state(breaker)[0][2]) == (1, State.OPEN)


async def test_a_probe_that_is_cancelled_says_nothing_and_another_one_may_go(clock: Clock) -> None:
    breaker, called = CircuitBreaker(minimum=4, open_for=5), Called(FAILED)
    await make(breaker, called, 4)
    clock.now += 5
    called.gate.clear()
    probe = asyncio.create_task(make(breaker, called))
    await turns()
    probe.cancel()
    with suppress(asyncio.CancelledError):
        await probe
    assert state(breaker)[0][2] is State.HALF_OPEN
    called.gate.set()
    called.outcome = "answer"
    assert await make(breaker, called) == ["answer"]
    assert state(breaker)[0][2] is State.CLOSED


async def test_calls_of_before_it_opened_are_no_probes(clock: Clock) -> None:
    breaker, late, called = CircuitBreaker(minimum=4, open_for=5), Called("late"), Called(FAILED)
    late.gate.clear()
    waiting = asyncio.create_task(make(breaker, late))
    await turns()
    await make(breaker, called, 4)
    clock.now += 5
    called.gate.clear()
    probe = asyncio.create_task(make(breaker, called))
    await turns()
    late.gate.set()
    assert await waiting == ["late"]
    assert state(breaker)[0][2] is State.HALF_OPEN
    called.gate.set()
    await probe
    assert state(breaker)[0][2] is State.OPEN


async def test_a_probe_that_does_not_end_makes_way_for_another(clock: Clock) -> None:
    """Such as a stream that goes on for ever."""
    breaker, called = CircuitBreaker(minimum=4, open_for=5), Called(FAILED)
    await make(breaker, called, 4)
    clock.now += 5
    stream = await breaker(None, at(), Called(Numbers(2)))
    clock.now += 4.9
    (refused,) = await make(breaker, called)
    assert isinstance(refused, Unavailable)
    assert refused.retry_after == pytest.approx(0.1)
    clock.now += 0.2
    called.outcome = "answer"
    assert await make(breaker, called) == ["answer"]
    assert state(breaker)[0][2] is State.CLOSED
    await stream.aclose()


async def test_a_stream_that_is_a_probe_has_gone_well_with_its_first_message(clock: Clock) -> None:
    breaker, called = CircuitBreaker(minimum=4, open_for=5), Called(FAILED)
    await make(breaker, called, 4)
    clock.now += 5
    stream = await breaker(None, at(), Called(Numbers(2, FAILED)))
    assert state(breaker)[0][2] is State.HALF_OPEN
    assert await anext(stream) == 1
    assert state(breaker)[0][2] is State.CLOSED
    failing = await breaker(None, at(), Called(Numbers(0, FAILED)))
    with pytest.raises(InternalError):
        await anext(failing)
    assert [circuit.failures for circuit in breaker] == [1]


async def test_a_probe_that_made_way_and_is_cancelled_lets_no_two_through(clock: Clock) -> None:
    breaker, called = CircuitBreaker(minimum=4, open_for=5), Called(FAILED)
    await make(breaker, called, 4)
    called.gate.clear()
    called.count = 0
    probes = []
    for _ in range(2):
        clock.now += 5
        probes.append(asyncio.create_task(make(breaker, called)))
        await turns()
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    others = [asyncio.create_task(make(breaker, called)) for _ in range(5)]
    await turns()
    assert called.count == 2 + 1
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


OUTCOMES: list[tuple[Exception, bool]] = [
    (InternalError("x"), True),
    (Unavailable("x"), True),
    (CallTimeout("x"), True),
    (Disconnected(), True),
    (ZeroDivisionError(), True),
    (BadRequest("x"), False),
    (ServiceError("x", code=418), False),
    (EncodeError(), False),
    (UsageError("x"), False),
    (MessageTooLarge(), False),
]


@pytest.mark.parametrize(("error", "opens"), OUTCOMES, ids=lambda value: type(value).__name__)
async def test_what_counts_as_a_failure(clock: Clock, error: Exception, opens: bool) -> None:
    breaker = CircuitBreaker(minimum=4)
    await make(breaker, Called(error), 4)
    assert state(breaker)[0][2] is (State.OPEN if opens else State.CLOSED)


async def test_what_the_caller_did_wrong_is_no_probe_that_went_well(clock: Clock) -> None:
    breaker = CircuitBreaker(minimum=4, open_for=5)
    await make(breaker, Called(FAILED), 4)
    clock.now += 5
    await make(breaker, Called(EncodeError()))
    assert state(breaker)[0][2] is State.HALF_OPEN
    await make(breaker, Called(BadRequest("its answer")))
    assert state(breaker)[0][2] is State.CLOSED


@pytest.mark.parametrize("on", [BadRequest, (BadRequest, KeyError), lambda error: error.code == 400])
async def test_the_user_may_say_what_counts(clock: Clock, on: Any) -> None:
    breaker = CircuitBreaker(minimum=4, on=on)
    await make(breaker, Called(BadRequest("x")), 4)
    assert state(breaker)[0][2] is State.OPEN
    other = CircuitBreaker(minimum=4, on=BadRequest)
    await make(other, Called(FAILED), 9)
    assert state(other)[0][2] is State.CLOSED


async def test_a_handler_whose_time_was_over_has_failed_and_one_that_was_cancelled_has_not(clock: Clock) -> None:
    for deadline, expected in ((0.0, State.OPEN), (1e12, State.CLOSED)):
        breaker, called = CircuitBreaker(minimum=2), Called()
        called.gate.clear()
        for _ in range(2):
            call = asyncio.create_task(breaker(None, at("endpoint", deadline=deadline), called))
            await turns()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert state(breaker)[0][2] is expected


async def test_each_endpoint_has_a_circuit_of_its_own_and_their_number_is_bounded(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = CircuitBreaker(minimum=2)
    await make(breaker, Called(FAILED), 2)
    assert await make(breaker, Called(), endpoint="pay") == ["answer"]
    assert state(breaker) == [("orders.quote", "", State.OPEN), ("orders.pay", "", State.CLOSED)]
    monkeypatch.setattr("eventmicro.middlewares.breaker.ENDPOINTS", 10)
    for number in range(95):
        await make(breaker, Called(), endpoint=f"x{number}")
    assert len(state(breaker)) <= 10


async def test_changes_are_told_and_logged_and_a_callback_that_fails_harms_no_call(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventmicro")
    told: list[tuple[str, State]] = []

    def on_change(circuit: Circuit) -> None:
        told.append((circuit.name, circuit.state))
        raise ZeroDivisionError

    breaker, called = CircuitBreaker(minimum=2, open_for=5, on_change=on_change), Called(FAILED)
    await make(breaker, called, 2)
    clock.now += 5
    called.outcome = "answer"
    assert await make(breaker, called) == ["answer"]
    assert told == [("orders.quote", state) for state in (State.OPEN, State.HALF_OPEN, State.CLOSED)]
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "circuit" in record.getMessage()]
    assert lines == [
        ("WARNING", "the circuit of orders.quote is open"),
        ("INFO", "the circuit of orders.quote is half-open"),
        ("INFO", "the circuit of orders.quote is closed"),
    ]
    assert repr(next(iter(breaker))) == "<Circuit orders.quote: closed, 0 of 0 calls failed>"


@pytest.mark.parametrize(("error", "opens"), [(FAILED, True), (None, False)])
async def test_a_stream_counts_when_it_has_ended(clock: Clock, error: Exception | None, opens: bool) -> None:
    breaker = CircuitBreaker(minimum=2)
    streams = [await breaker(None, at(), Called(Numbers(2, error))) for _ in range(2)]
    assert state(breaker)[0][2] is State.CLOSED
    for stream in streams:
        with suppress(InternalError):
            assert [number async for number in stream] == [1, 0]
    assert state(breaker)[0][2] is (State.OPEN if opens else State.CLOSED)
    assert streams[0].name == "numbers"


async def test_a_stream_whose_reader_wants_no_more_has_not_failed(clock: Clock) -> None:
    breaker = CircuitBreaker(minimum=1)
    numbers = Numbers(2)
    stream = await breaker(None, at(), Called(numbers))
    await stream.aclose()
    assert numbers.closed
    assert [circuit.calls for circuit in breaker] == [1]
    assert state(breaker)[0][2] is State.CLOSED


# -- nodes -----------------------------------------------------------------------------------------------------

ONE, OTHER = Node("orders", "1"), Node("orders", "2")


def fail(breaker: CircuitBreaker, node: Node, times: int) -> None:
    for _ in range(times):
        breaker.node_marks.chosen(node)
        breaker.node_marks.mark(node, failed=True)


async def test_a_directed_call_is_judged_by_its_node(clock: Clock) -> None:
    breaker = CircuitBreaker(minimum=2)
    context = Directed(Side.CLIENT, "orders", "quote", "orders.quote")
    for _ in range(5):
        with suppress(InternalError):
            await breaker(None, context, Called(FAILED))
    assert state(breaker) == []
    fail(breaker, ONE, 2)
    assert state(breaker) == [("orders", "1", State.OPEN)]


def test_a_node_that_is_open_is_not_chosen_then_probed_then_back(clock: Clock) -> None:
    breaker = CircuitBreaker(minimum=2, open_for=5)
    marks = breaker.node_marks
    assert list(marks.usable([ONE, OTHER])) == [ONE, OTHER]
    fail(breaker, ONE, 2)
    assert list(marks.usable([ONE, OTHER])) == [OTHER]
    assert list(marks.usable([ONE])) == []
    clock.now += 5
    assert list(marks.usable([ONE, OTHER])) == [ONE, OTHER]
    marks.chosen(ONE)
    assert list(marks.usable([ONE, OTHER])) == [OTHER]
    marks.mark(ONE, failed=None)
    assert list(marks.usable([ONE, OTHER])) == [ONE, OTHER]
    marks.chosen(ONE)
    marks.mark(ONE, failed=False)
    assert list(marks.usable([ONE, OTHER])) == [ONE, OTHER]
    assert state(breaker) == [("orders", "1", State.CLOSED)]
    assert repr(next(iter(breaker))) == "<Circuit orders node 1: closed, 0 of 0 calls failed>"


async def test_calls_go_round_a_node_that_is_open_and_are_refused_where_all_are(clock: Clock) -> None:
    url = "memory://breaker"
    broken = {"one"}

    def node(id: str) -> Service:
        service = Service("orders", id=id, broker=url)

        @service.rpc
        async def who() -> str:
            if id in broken:
                raise InternalError("broken")
            return id

        return service

    breaker = CircuitBreaker(minimum=2, open_for=5)
    async with node("one"), node("two"), Client(url, selector="round-robin", middleware=[breaker]) as client:

        async def called(times: int) -> list[str]:
            outcomes = []
            for _ in range(times):
                try:
                    outcomes.append(await client.call("orders.who", None, str))
                except ServiceError as error:
                    outcomes.append(type(error).__name__)
            return outcomes

        assert sorted(await called(4)) == ["InternalError"] * 2 + ["two"] * 2
        assert await called(10) == ["two"] * 10
        broken.add("two")
        clock.now += 20
        await called(30)
        assert set(await called(5)) == {"Unavailable"}
        broken.clear()
        clock.now += 20
        await called(4)
        assert set(await called(4)) == {"one", "two"}


class Gated:
    """A service of one node whose calls wait until a test says how they end."""

    def __init__(self) -> None:
        self.service = Service("orders", id="one", broker="memory://gated")
        self.gates: list[asyncio.Future[str]] = []

        @self.service.rpc
        async def who() -> str:
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            return await gate  # type: ignore[no-any-return]

    async def begin(self, client: Client, until: Until) -> asyncio.Task[str]:
        begun = len(self.gates)
        call = asyncio.create_task(client.call("orders.who", None, str))
        await until(lambda: len(self.gates) > begun)
        return call


@pytest.mark.parametrize("late", ["answer", "failure", "cancelled"])
@pytest.mark.parametrize("probed", [False, True])
async def test_calls_of_before_a_node_was_open_say_nothing_of_it(
    clock: Clock, until: Until, late: str, probed: bool
) -> None:
    gated, told = Gated(), list[State]()
    breaker = CircuitBreaker(minimum=1, open_for=5, on_change=lambda circuit: told.append(circuit.state))
    async with gated.service, Client("memory://gated", selector="random", middleware=[breaker]) as client:
        failing, waiting = await gated.begin(client, until), await gated.begin(client, until)
        gated.gates[0].set_exception(FAILED)
        await asyncio.gather(failing, return_exceptions=True)
        expected = [State.OPEN]
        if probed:
            clock.now += 5
            expected.append(State.HALF_OPEN)
            probe = await gated.begin(client, until)
        if late == "cancelled":
            waiting.cancel()
        elif late == "failure":
            gated.gates[1].set_exception(FAILED)
        else:
            gated.gates[1].set_result("late")
        await asyncio.gather(waiting, return_exceptions=True)
        assert told == expected
        with pytest.raises(Unavailable, match="is asked for a while"):
            await client.call("orders.who", None, str)
        if probed:
            gated.gates[2].set_result("one")
            assert await probe == "one"
            assert told[-1] is State.CLOSED


async def test_a_breaker_that_is_not_around_calls_keeps_none_away_from_nodes(until: Until) -> None:
    breaker = sides("endpoint")(CircuitBreaker(minimum=1))
    gated = Gated()
    async with gated.service, Client("memory://gated", selector="random", middleware=[breaker]) as client:
        failing = await gated.begin(client, until)
        gated.gates[0].set_exception(FAILED)
        await asyncio.gather(failing, return_exceptions=True)
        assert list(breaker) == []


NO_BREAKER: list[tuple[dict[str, Any], str]] = [
    ({"threshold": 0}, "threshold=0: write a share"),
    ({"threshold": 1.5}, "threshold=1.5"),
    ({"threshold": "half"}, "threshold='half'"),
    ({"minimum": 0}, "minimum=0"),
    ({"window": 0}, "window=0"),
    ({"open_for": -1}, "open_for=-1"),
    ({"probes": 0}, "probes=0"),
    ({"on": 7}, "on=7: write an exception class"),
    ({"on": int}, "on=<class 'int'>"),
    ({"on_change": 7}, "on_change: 7 is no function"),
    ({"on_change": asyncio.sleep}, "on_change: it is not awaited: write a plain function"),
]


@pytest.mark.parametrize(("words", "message"), NO_BREAKER)
def test_what_is_no_breaker_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CircuitBreaker(**words)


SERVED, OPENED = "orders.quote", "stock.watch"


@pytest.mark.parametrize(
    ("error", "where", "opens"),
    [
        (lambda: StreamBroken("frame 7", id=SERVED), Side.ENDPOINT, False),
        (lambda: PeerLost("silent", id=SERVED), Side.ENDPOINT, False),
        (lambda: InternalError("the caller gave up", id=SERVED).as_received(), Side.ENDPOINT, False),
        (lambda: StreamBroken("frame 7", id=OPENED), Side.ENDPOINT, True),  # of a stream that the handler has opened
        (lambda: PeerLost("silent", id=SERVED), Side.CLIENT, True),
        (lambda: InternalError("by itself"), Side.ENDPOINT, True),
    ],
)
async def test_what_a_caller_does_with_its_stream_is_no_failure_of_the_endpoint(
    clock: Clock, error: Callable[[], Exception], where: Side, opens: bool
) -> None:
    breaker = CircuitBreaker(minimum=3)
    context = Context(where, "orders", "quote", SERVED)
    for _ in range(3):
        with pytest.raises(ServiceError):
            await breaker(None, context, Called(error()))
    assert state(breaker)[0][2] is (State.OPEN if opens else State.CLOSED)
