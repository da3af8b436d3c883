"""DeadLetters on every broker that keeps events: looking costs nothing, what is replayed is what was given up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventmicro import Context, DeadLetter, DeadLetters, LetterFilter, Reject, Service, UsageError
from eventmicro.broker import Broker, TellsQueues
from eventmicro.errors import Disconnected
from eventmicro.message import Message
from eventmicro.running import queues
from tests.delivery.bench import Bench, Number, Until, numbers

ALL = LetterFilter()

pytestmark = pytest.mark.timeout_seconds(120)


@dataclass
class Given:
    """A service that rejects what it gets for as long as something is wrong, and what it has handled."""

    bench: Bench
    service: Service
    handled: list[tuple[int, dict[str, str]]]
    refused: int = 0
    is_wrong: bool = True

    @property
    def queue(self) -> str:
        return f"{self.bench.name}.see"

    @property
    def given_up(self) -> int:
        return sum(handler.dead_letters for handler in self.service.statistics().subscribers)

    def letters(self, broker: Broker | None = None, **words: Any) -> DeadLetters:
        return DeadLetters(broker or self.service.client.broker, self.queue, **words)

    def values(self) -> list[int]:
        return sorted(value for value, _ in self.handled)


@asynccontextmanager
async def given(bench: Bench, until: Until, count: int) -> AsyncIterator[Given]:
    """So many letters, each with a header, rejected as `odd` or `even`."""

    async def see(event: Number, context: Context) -> None:
        if about.is_wrong:
            about.refused += 1
            raise Reject("odd one" if event.value % 2 else "even one")
        about.handled.append((event.value, dict(context.metadata)))

    service = bench.service(see, concurrency=10)
    about = Given(bench, service, [])
    async with service:
        await service.publish_many(bench.topic, numbers(count, 3), metadata={"Tenant": "acme"})
        await until(lambda: about.given_up == count)
        yield about


async def found(letters: DeadLetters, which: LetterFilter = ALL) -> list[DeadLetter]:
    return [letter async for letter in letters.read(which)]


def value(letter: DeadLetter) -> int:
    return Number.model_validate_json(letter.body).value


async def test_those_that_stand_are_among_the_figures_of_their_service(
    bench: Bench, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "FRESH", 0.01)
    async with given(bench, until, 2) as about:

        async def standing() -> int | None:
            await about.service.look_at_queues()
            letters = about.service.statistics().subscribers[0].letters
            return None if letters is None else (letters.waiting or 0) + (letters.unsettled or 0)

        async with asyncio.timeout(20):
            while await standing() != 2:
                await asyncio.sleep(0.01)
            assert (await about.letters().drop()).done == 2
            while await standing() != 0:
                await asyncio.sleep(0.01)


async def test_looking_takes_nothing_away(bench: Bench, until: Until) -> None:
    async with given(bench, until, 6) as about:
        letters = about.letters()
        for _ in range(2):
            there = await found(letters)
            assert sorted(map(value, there)) == [0, 1, 2, 3, 4, 5]
        assert {(letter.subject, letter.queue, letter.attempts) for letter in there} == {
            (bench.topic.name, about.queue, 1)
        }
        assert {letter.reason for letter in there} == {"rejected: odd one", "rejected: even one"}
        assert {letter.headers["Tenant"] for letter in there} == {"acme"}
        assert len({letter.id for letter in there}) == 6
        odd = await found(letters, LetterFilter(reason="ODD"))
        assert sorted(map(value, odd)) == [1, 3, 5]
        assert sorted(map(value, await found(letters, LetterFilter(id=odd[0].id)))) == [value(odd[0])]
        assert await found(letters, LetterFilter(subject="other.*")) == []
        now = datetime.now(UTC)
        recent = await found(letters, LetterFilter(since=now - timedelta(minutes=5)))
        assert len(recent) == (0 if bench.url.startswith("memory") else 6)
        assert await found(letters, LetterFilter(before=now - timedelta(minutes=5))) == []


async def test_what_is_replayed_comes_to_its_queue_as_it_was(bench: Bench, until: Until) -> None:
    async with given(bench, until, 6) as about:
        about.is_wrong = False
        seen: list[int] = []
        letters = about.letters()
        dry = await letters.replay(dry_run=True)
        assert (dry.meant, dry.done, about.handled) == (6, 0, [])
        done = await letters.replay(LetterFilter(reason="odd"), progress=lambda now: seen.append(now.done))
        assert (done.read, done.meant, done.done, done.failed, done.expected) == (6, 3, 3, 0, 6)
        assert seen[-1] == 3
        await until(lambda: len(about.handled) == 3)
        assert about.values() == [1, 3, 5]
        for _, metadata in about.handled:
            assert metadata["Tenant"] == "acme"
            assert not [name for name in metadata if name.startswith("Dead-Letter")]
        assert sorted(map(value, await found(letters))) == [0, 2, 4]
        assert (await letters.drop(limit=2)).done == 2
        again = (await letters.drop()).done
        assert again == 1
        assert await found(about.letters(quiet=0.5)) == []


async def test_a_replay_that_is_cut_off_loses_nothing_and_is_run_again(bench: Bench, until: Until) -> None:
    """The connection ends in the middle of the second window: what was published and not acknowledged comes twice."""
    async with given(bench, until, 12) as about:
        about.is_wrong = False
        async with bench.broker() as broker:
            left = 2

            async def cut(events: Any, **words: Any) -> None:
                nonlocal left
                left -= 1
                await publish_many(events, **words)
                if not left:
                    await broker.close()
                    raise Disconnected("cut off")

            publish_many, broker.publish_many = broker.publish_many, cut  # type: ignore[method-assign]
            with pytest.raises(Disconnected):
                await about.letters(broker).replay(rate=40.0)
        done = await about.letters().replay()
        assert done.done == 8
        is_deduplicated = bench.url.startswith("jetstream")
        await until(lambda: len(about.handled) == (12 if is_deduplicated else 16))
        assert set(about.values()) == set(range(12))


async def test_what_fails_again_is_a_letter_again_and_goes_round_once(bench: Bench, until: Until) -> None:
    async with given(bench, until, 3) as about:
        letters = about.letters()
        for runs in (2, 3):
            assert (await letters.replay()).done == 3
            await until(lambda runs=runs: about.given_up == 3 * runs)
        assert sorted(map(value, await found(letters))) == [0, 1, 2]


async def test_those_that_stay_are_bounded(bench: Bench, until: Until) -> None:
    async with given(bench, until, 8) as about:
        letters = about.letters(hold=4)
        done = await letters.replay(LetterFilter(reason="nothing is so"))
        assert (done.read, done.done, done.is_full) == (4, 0, True)
        assert len(await found(letters)) == 4
        about.is_wrong = False
        assert (await letters.replay()).done == 8


async def test_an_event_goes_where_it_is_told(bench: Bench, until: Until) -> None:
    elsewhere = f"{bench.name}.elsewhere"
    async with given(bench, until, 2) as about, bench.letters(elsewhere) as came:
        assert (await about.letters().replay(to=elsewhere)).done == 2
        await until(lambda: len(came) == 2)
        assert about.refused == 2
        assert sorted(Number.model_validate_json(each.body).value for each in came) == [0, 1]


async def test_only_its_own_queue_gets_it_where_the_broker_can(bench: Bench, until: Until) -> None:
    others: list[int] = []
    other = Service(f"{bench.name}-other", broker=bench.url)

    @other.subscribe(bench.topic)
    async def too(event: Number) -> None:
        others.append(event.value)

    async with other, given(bench, until, 2) as about:
        await until(lambda: len(others) == 2)
        about.is_wrong = False
        await about.letters().replay()
        await until(lambda: len(about.handled) == 2)
        if not bench.url.startswith("amqp"):
            await until(lambda: len(others) == 4)
        assert len(others) == (2 if bench.url.startswith("amqp") else 4)


async def test_a_letter_that_says_not_where_it_came_from_stays(bench: Bench, until: Until) -> None:
    async with given(bench, until, 1) as about, bench.broker() as broker:
        await broker.publish(Message(f"dead.{about.queue}", b'{"value": 7}', {"Dead-Letter-Attempts": "many"}))
        about.is_wrong = False
        done = await about.letters().replay()
        assert (done.done, done.failed) == (1, 1)
        assert "to=" in str(done.error)
        (left,) = await found(about.letters())
        assert (value(left), left.subject, left.attempts) == (7, "", 0)


async def test_a_queue_that_is_not_there_is_told_and_not_made(bench: Bench, until: Until) -> None:
    async with given(bench, until, 1) as about:
        broker = about.service.client.broker
        missing = f"{about.queue}-{secrets.token_hex(3)}"
        with pytest.raises(UsageError, match=f"there is no queue dead.{missing}"):
            await DeadLetters(broker, missing).replay()
        assert isinstance(broker, TellsQueues)
        assert await broker.queue_state(f"dead.{missing}") is None
        if await broker.queue_states() is not None:
            with pytest.raises(UsageError, match=f"; did you mean 'dead.{about.queue}'"):
                await DeadLetters(broker, f"{about.queue}x").replay()

        async def held() -> tuple[int, int] | None:
            """How many the queue of letters has, and the subscriber's own; None: the broker lists none."""
            if (states := await broker.queue_states()) is None:
                return None
            by_name = {state.queue: state for state in states}
            dead, own = by_name[f"dead.{about.queue}"], by_name[about.queue]
            return (dead.waiting or 0) + (dead.unsettled or 0), (own.waiting or 0) + (own.unsettled or 0)

        async with asyncio.timeout(20):  # Kafka commits a moment after an event is finished
            while await held() not in (None, (1, 0)):
                await asyncio.sleep(0.01)
