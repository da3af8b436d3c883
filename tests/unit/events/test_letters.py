"""DeadLetters where the broker does what seldom happens: takes letters back, goes away, tells nothing of its queues."""

from __future__ import annotations

import asyncio
import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventmicro import Client, DeadLetters, LetterFilter, MemoryBroker, UsageError
from eventmicro.broker import Durable, QueueState, Receive
from eventmicro.cli import dead
from eventmicro.errors import Disconnected, NotAllPublished, NotStored
from eventmicro.events import browsing
from eventmicro.events import letters as module
from eventmicro.events.letters import DeadLetter, Outcome
from eventmicro.events.settling import Kept
from eventmicro.message import Copy, Delivery, Message
from tests.unit.events.test_settling import kept

PAGE = (Path(__file__).parents[3] / "docs" / "delivery.md").read_text()
LETTERS = "dead.orders.bill"
ABOUT = {"Dead-Letter-Subject": "orders", "Dead-Letter-Queue": "bill", "dead-letter-reason": "why", "Tenant": "acme"}


class Letter(Delivery):
    """A delivery that notes how it was settled."""

    __slots__ = ("log",)

    def __init__(self, id: str, headers: dict[str, str] | None = None) -> None:
        super().__init__("dead.bill", id.encode(), dict(ABOUT) if headers is None else headers, id=id)
        self.log: list[str] = []

    async def ack(self) -> None:
        self.log.append("ack")

    async def nack(self, delay: float = 0.0) -> None:
        self.log.append("nack")


class Scripted(MemoryBroker):
    """A broker that hands over what it is told to, and keeps what is published, or refuses it."""

    def __init__(self, *deliveries: Letter, waiting: int | None = None) -> None:
        super().__init__()
        self.deliveries = deliveries
        self.waiting = len(deliveries) if waiting is None else waiting
        self.published: list[Copy] = []
        self.refused: dict[int, Exception] = {}
        self.is_online = True
        self.prefetch = 0

    @property
    def online(self) -> bool:
        return self.is_online

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        return QueueState(queue=queue, waiting=self.waiting)

    async def subscribe(self, subject: str, receive: Receive, **words: Any) -> Any:
        durable: Durable = words["durable"]
        self.prefetch = durable.prefetch
        for delivery in self.deliveries:
            receive(delivery)
        return self

    async def drain(self) -> None: ...

    async def publish_many(self, messages: Any, *, timeout: float = 10.0) -> None:
        self.published += [message for n, message in enumerate(messages) if n not in self.refused]
        if self.refused:
            raise NotAllPublished(failed=self.refused, confirmed=len(messages) - len(self.refused))


def of(broker: MemoryBroker, **words: Any) -> DeadLetters:
    return DeadLetters(broker, "bill", quiet=0.05, **words)


async def test_an_event_is_published_as_it_was_and_its_letter_acknowledged() -> None:
    letter = Letter("1")
    broker = Scripted(letter)
    done = await of(broker).replay()
    (event,) = broker.published
    assert (event.subject, event.body, event.headers, event.queue) == ("orders", b"1", {"Tenant": "acme"}, "bill")
    assert (event.id, event.of) == ("replay.dead.bill.1", letter)
    assert (done.done, letter.log) == (1, ["ack"])


async def test_what_was_taken_back_is_published_when_it_comes_again() -> None:
    lapsed, again = Letter("1"), Letter("1")
    lapsed.lapsed = True
    broker = Scripted(lapsed, again, Letter("2"), waiting=2)
    done = await of(broker).replay()
    assert (done.read, done.meant, done.done) == (2, 2, 2)
    assert [event.of for event in broker.published] == [again, broker.deliveries[2]]


async def test_what_is_taken_back_while_it_is_held_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = Letter("1"), Letter("1")
    broker = Scripted(first, Letter("2"), again, Letter("3"), waiting=3)
    found = []
    outcome = Outcome()
    async for letter in of(broker).read(outcome=outcome):
        found.append(letter.id)
        first.lapsed = True
    assert (found, outcome.read) == (["1", "2", "3"], 3)


async def test_two_letters_of_one_id_are_two() -> None:
    twins = Letter("1"), Letter("1")
    broker = Scripted(*twins)
    assert (await of(broker).replay(LetterFilter(reason="nothing"))).read == 2
    assert [twin.log for twin in twins] == [["nack"], ["nack"]]


async def test_what_is_refused_stays_and_the_others_go_on() -> None:
    broker = Scripted(*(Letter(str(n)) for n in range(4)))
    broker.refused = {1: NotStored("full")}
    done = await of(broker).replay()
    assert (done.done, done.failed, str(done.error)) == (3, 1, "full")
    assert [each.log[0] for each in broker.deliveries] == ["ack", "nack", "ack", "ack"]


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_replay_that_is_cancelled_finishes_what_it_has_begun_and_nothing_else(is_refused: bool) -> None:
    broker = Scripted(*(Letter(str(n)) for n in range(4)))
    begun, let, told = asyncio.Event(), asyncio.Event(), []
    publish_many = broker.publish_many

    async def slow(messages: Any, **words: Any) -> None:
        begun.set()
        await let.wait()
        if is_refused:
            raise Disconnected("away")
        await publish_many(messages, **words)

    broker.publish_many = slow  # type: ignore[method-assign]
    replay = asyncio.ensure_future(of(broker).replay(rate=20, progress=lambda outcome: told.append(outcome.done)))
    await begun.wait()
    replay.cancel()
    await asyncio.sleep(0)
    let.set()
    with pytest.raises(asyncio.CancelledError):
        await replay
    ended = "nack" if is_refused else "ack"
    assert [each.log for each in broker.deliveries] == [[ended], [ended], ["nack"], ["nack"]]
    assert told == [0 if is_refused else 2]
    assert len(broker.published) == (0 if is_refused else 2)


async def test_a_broker_that_went_away_ends_it() -> None:
    broker = Scripted(*(Letter(str(n)) for n in range(4)))
    broker.refused = {n: Disconnected("away") for n in range(2)}
    with pytest.raises(Disconnected):
        await of(broker).replay(rate=20)  # two a window
    assert [each.log for each in broker.deliveries] == [["nack"]] * 4


async def test_a_broker_that_is_away_is_waited_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, "PATIENCE", 0.1)
    broker = Scripted(Letter("1"), waiting=2)
    broker.is_online = False
    with pytest.raises(Disconnected, match="what is not done stays"):
        await of(broker).replay()


async def test_letters_that_do_not_come_are_counted() -> None:
    done = await of(Scripted(Letter("1"), waiting=5)).replay()
    assert (done.done, done.absent) == (1, 4)


async def test_no_more_are_held_than_may_be() -> None:
    broker = Scripted(*(Letter(str(n)) for n in range(9)))
    done = await of(broker, hold=3).replay(LetterFilter(id="8"))
    assert (done.read, done.is_full, broker.prefetch) == (3, True, 3 + browsing.AHEAD)


async def test_it_ends_at_what_was_there_at_the_beginning() -> None:
    broker = Scripted(*(Letter(str(n)) for n in range(5)), waiting=3)
    assert (await of(broker).drop()).done == 3
    assert [each.log[0] for each in broker.deliveries] == ["ack", "ack", "ack", "nack", "nack"]


async def test_a_broker_that_tells_nothing_is_read_until_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TellsQueues", int)
    done = await of(Scripted(Letter("1"), Letter("2"))).drop()
    assert (done.expected, done.done) == (None, 2)


async def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(module, "_now", lambda: 5.0)
    await of(Scripted(*(Letter(str(n)) for n in range(6)))).replay(rate=20)
    assert slept[:3] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("words", [{"rate": 0}, {"rate": -1.0}, {"limit": 0}])
async def test_bad_numbers_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await of(Scripted(Letter("1"))).replay(**words)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="time zone"):
        LetterFilter(since=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("which", "is_meant"),
    [
        (LetterFilter(reason="WHY"), True),
        (LetterFilter(reason="w*"), True),
        (LetterFilter(reason="h*"), False),
        (LetterFilter(subject="orders"), True),
        (LetterFilter(subject="order"), False),
        (LetterFilter(subject="ord*"), True),
        (LetterFilter(subject=">"), True),
        (LetterFilter(subject="orders.>"), False),
        (LetterFilter(since=datetime(2026, 1, 1, tzinfo=UTC)), False),
        (LetterFilter(id="1", reason="else"), False),
    ],
)
def test_which_letters_are_meant(which: LetterFilter, is_meant: bool) -> None:
    assert which(DeadLetter.read(Letter("1"))) is is_meant


def test_a_subject_may_end_as_where_it_is_subscribed_to() -> None:
    about = {**ABOUT, "Dead-Letter-Subject": "orders.placed.eu"}
    letter = DeadLetter.read(Letter("1", about))
    assert [LetterFilter(subject=subject)(letter) for subject in ("orders.>", "orders.placed.>", ">")] == [True] * 3
    assert not any(LetterFilter(subject=subject)(letter) for subject in ("orders.paid.>", "orders.placed.eu.>", "o>"))


async def test_letters_are_never_given_up_for_being_looked_at() -> None:
    subscriber: Kept = kept()
    looked_at = Letter("1")
    looked_at.attempt = 1000
    assert subscriber.refuses(looked_at) is None
    event = Letter("2", {})
    event.attempt = 1000
    assert subscriber.refuses(event) is not None
    again = Letter("3", {"Dead-Letter-Subject": "dead.bill"})  # one that was published again
    again.attempt = 1000
    assert kept().refuses(again) is not None


def test_a_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in (Terminal(), True), (io.StringIO(), False):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with dead._bar("replayed") as tell:
            tell(Outcome(expected=4, done=2))
        assert ("replayed" in stream.getvalue()) is shown


async def test_what_the_page_on_delivery_does_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def mend" in each]
    scope: dict[str, Any] = {}
    exec(block, scope)
    async with Client("memory://mended") as client:
        letters = await client.broker.subscribe(LETTERS, lambda _: None, queue=LETTERS, durable=Durable())
        await letters.drain()
        about = ABOUT | {"dead-letter-reason": "no such account"}
        await client.broker.publish_many([Message(LETTERS, b"1", about), Message(LETTERS, b"2", dict(ABOUT))])
        await client.broker.publish(Message(LETTERS, b"3", ABOUT | {"Dead-Letter-Subject": "orders.test"}))
        await scope["mend"](client)
        assert [letter.body async for letter in DeadLetters(client.broker, "orders.bill").read()] == [b"2"]
    assert "1 of 3 published again; failed: 0 None" in capsys.readouterr().out
