"""What a handler's failure brings about: another attempt, later, and in the end a dead letter, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from eventmicro import Ack, Context, Nack, NotStored, Reject, Retry, Service, current_context
from eventmicro.message import Message
from eventmicro.plugins import open_broker
from tests.delivery.bench import Bench, Number, Until, numbers, values

pytestmark = pytest.mark.timeout_seconds(60)

SOON = Retry(attempts=3, backoff=0.05, factor=1)


async def test_what_fails_comes_again_with_a_rising_attempt_and_no_sooner_than_its_delay(
    bench: Bench, until: Until
) -> None:
    now = asyncio.get_running_loop().time
    attempts: list[int] = []
    times: list[float] = []

    async def fail_twice(event: Number, context: Context) -> None:
        attempts.append(context.attempt)
        times.append(now())
        if context.attempt < 3:
            raise ValueError("not yet")

    async with bench.run(fail_twice, retry=Retry(attempts=5, backoff=0.2, jitter=0)) as client:
        await client.publish(bench.topic, Number(value=1))
        await until(lambda: len(attempts) == 3)
    assert attempts == [1, 2, 3]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(wait >= delay * 0.95 for wait, delay in zip(waits, (0.2, 0.4), strict=True)), waits


async def test_only_the_errors_that_are_named_are_tried_again(bench: Bench, until: Until) -> None:
    attempts: Counter[int] = Counter()

    async def fail(event: Number) -> None:
        attempts[event.value] += 1
        raise ConnectionError if event.value == 1 else ValueError

    async with bench.run(fail, retry=Retry(attempts=3, backoff=0.05, on=OSError)) as client:
        await client.publish_many(bench.topic, [Number(value=1), Number(value=2)])
        async with bench.letters() as letters:
            await until(lambda: len(letters) == 2)
    assert attempts == {1: 3, 2: 1}


async def test_after_the_last_attempt_it_becomes_a_dead_letter_once_as_it_was_and_with_its_story(
    bench: Bench, until: Until
) -> None:
    attempts: Counter[int] = Counter()

    async def fail(event: Number) -> None:
        attempts[event.value] += 1
        raise ValueError("unlucky")

    async with bench.run(fail, retry=SOON) as client, bench.letters() as letters:
        await client.publish(bench.topic, Number(value=1, key="ä-1"), metadata={"X-Trace": "äöü"})
        await until(lambda: letters)
        await client.publish(bench.topic, Number(value=2))
        await until(lambda: len(letters) >= 2)
    assert attempts == {1: 3, 2: 3}
    assert values(letters) == [1, 2]
    (letter,) = (letter for letter in letters if b'"value":1' in letter.body)
    assert Number.model_validate_json(letter.body) == Number(value=1, key="ä-1")
    assert letter.key == ("ä-1" if bench.url.startswith("kafka") else None), "what keeps keys keeps them here, too"
    assert letter.headers == {
        "X-Trace": "äöü",
        "Dead-Letter-Reason": "failed 3 times, the last time by ValueError: unlucky",
        "Dead-Letter-Attempts": "3",
        "Dead-Letter-Subject": bench.topic.name,
        "Dead-Letter-Queue": f"{bench.name}.see",
    }


async def test_a_dead_letter_that_is_published_again_under_a_new_id_is_handled(bench: Bench, until: Until) -> None:
    mended, seen = False, list[str]()

    async def see(event: Number, context: Context) -> None:
        if not mended:
            raise Reject("not mended yet")
        seen.append(context.metadata.get("Dead-Letter-Reason", "none"))

    tool = Service(f"{bench.name}-tool", broker=bench.url)

    @tool.subscribe(f"dead.{bench.name}.see", queue=f"dead.{bench.name}.see", durable=True)
    async def publish_again(event: Number, context: Context) -> None:
        await tool.publish(bench.topic, event, id=f"{event.id}-again")

    async with bench.run(see) as client:
        await client.publish(bench.topic, Number(value=1, id="one"))
        async with bench.letters() as letters:
            await until(lambda: letters)
        mended = True
        await client.publish(bench.topic, Number(value=2, id="two"))
        async with bench.broker() as broker:
            await broker.publish(Message(f"dead.{bench.name}.see", letters[0].body))  # the bench has taken it
        async with tool:
            await until(lambda: len(seen) == 2)
    assert seen == ["none", "none"]


async def test_poison_among_two_hundred_good_events_stops_none_of_them(bench: Bench, until: Until) -> None:
    handled: Counter[int] = Counter()

    async def fail_at_poison(event: Number) -> None:
        if event.value % 50 == 13:
            raise ValueError("unlucky")
        handled[event.value] += 1

    async with bench.run(fail_at_poison, retry=SOON, concurrency=5) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(204))
        await until(lambda: len(handled) == 200 and len(letters) == 4)
    assert handled == {value: 1 for value in range(204) if value % 50 != 13}
    assert values(letters) == [13, 63, 113, 163]


async def test_what_cannot_be_decoded_goes_to_the_dead_letters_at_once_and_stops_none_of_the_others(
    bench: Bench, until: Until
) -> None:
    handled: Counter[int] = Counter()

    async def see(event: Number) -> None:
        handled[event.value] += 1

    async with bench.run(see) as client, bench.letters() as letters, bench.broker() as broker:
        for value in range(10):
            await broker.publish(Message(bench.topic.name, b"\xff\x00 no number"))
            await client.publish(bench.topic, Number(value=value))
        await broker.publish(Message(bench.topic.name, b"<n/>", {"Content-Type": "text/xml"}))
        await until(lambda: len(handled) == 10 and len(letters) == 11)
    assert handled == dict.fromkeys(range(10), 1)
    reasons = Counter((letter.body, (letter.headers or {})["Dead-Letter-Reason"][:40]) for letter in letters)
    assert reasons == {
        (b"\xff\x00 no number", "it is not a valid Number (the body: Inva"): 10,
        (b"<n/>", "it is in a form not taken here: content "): 1,
    }


async def test_a_dead_letter_goes_where_it_is_said_or_nowhere(bench: Bench, until: Until) -> None:
    elsewhere = f"{bench.name}.lost"
    service = Service(bench.name, broker=bench.url)
    handled: list[str] = []

    async def reject(event: Number, context: Context) -> None:
        handled.append(context.endpoint)
        raise Reject("no such number")

    service.subscribe(bench.topic, name="named", dead_letter=elsewhere)(reject)
    service.subscribe(bench.topic, name="nowhere", dead_letter=False)(reject)
    async with service, bench.letters(elsewhere) as letters:
        await service.publish_many(bench.topic, numbers(3))
        await until(lambda: len(letters) == 3 and len(handled) == 6)
    assert {(letter.headers or {})["Dead-Letter-Queue"] for letter in letters} == {f"{bench.name}.named"}


async def test_a_dead_letter_that_cannot_be_published_is_kept_until_it_can(bench: Bench, until: Until) -> None:
    broker: Any = open_broker(bench.url)
    publish, refused = broker.publish, 0

    async def refuse_twice(message: Message, **words: Any) -> None:
        nonlocal refused
        if message.subject.startswith("dead.") and refused < 2:
            refused += 1
            raise NotStored("the disk is full")
        await publish(message, **words)

    async def reject(event: Number) -> None:
        raise Reject("no such number")

    broker.publish = refuse_twice
    service = bench.service(reject, retry=Retry(longest=0.05))
    service.broker = broker
    async with service, bench.letters() as letters:
        await service.publish(bench.topic, Number(value=1))
        await until(lambda: letters)
    assert refused == 2
    assert values(letters) == [1]


# -- from any depth of the handler -----------------------------------------------------------------------------


async def _deep(what: Any) -> None:
    """Settle an event from far below its handler."""

    async def below() -> None:
        if isinstance(what, str):
            await getattr(current_context(), what)()
        else:
            raise what

    await asyncio.create_task(below())


STOPS = [Ack(), Reject("no"), "ack", "reject"]
AGAIN = [Nack(), Nack(0), "nack"]


@pytest.mark.parametrize("what", STOPS, ids=repr)
async def test_a_handler_may_settle_its_event_for_good_from_any_depth(what: Any, bench: Bench, until: Until) -> None:
    attempts: Counter[int] = Counter()

    async def see(event: Number, context: Context) -> None:
        attempts[event.value] += 1
        await _deep(what)

    async with bench.run(see) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(5))
        rejected = 5 if what == "reject" or isinstance(what, Reject) else 0
        await until(lambda: len(attempts) == 5 and len(letters) == rejected)
    async with bench.run(see) as client:
        await client.publish(bench.topic, Number(value=9))
        await until(lambda: attempts[9])
    assert attempts == dict.fromkeys((*range(5), 9), 1)


@pytest.mark.parametrize("what", AGAIN, ids=["Nack()", "Nack(0)", "nack"])
async def test_a_handler_may_ask_for_its_event_again_from_any_depth(what: Any, bench: Bench, until: Until) -> None:
    attempts: dict[int, list[int]] = {value: [] for value in range(5)}

    async def see(event: Number, context: Context) -> None:
        attempts[event.value].append(context.attempt)
        if context.attempt < 3:
            await _deep(what)

    async with bench.run(see, retry=SOON) as client:
        await client.publish_many(bench.topic, numbers(5))
        await until(lambda: all(len(each) == 3 for each in attempts.values()))
    assert attempts == {value: [1, 2, 3] for value in range(5)}


async def test_a_nack_comes_again_after_its_own_delay_and_after_the_last_attempt_it_is_given_up(
    bench: Bench, until: Until
) -> None:
    now = asyncio.get_running_loop().time
    times: list[float] = []

    async def nack(event: Number) -> None:
        times.append(now())
        raise Nack(0.3)

    async with bench.run(nack, retry=Retry(attempts=2, backoff=100, longest=100)) as client, bench.letters() as letters:
        await client.publish(bench.topic, Number(value=1))
        await until(lambda: letters)
    assert len(times) == 2
    assert times[1] - times[0] >= 0.3 * 0.95


# -- time and cancellation -------------------------------------------------------------------------------------


async def test_a_handler_that_takes_too_long_has_failed(bench: Bench, until: Until) -> None:
    attempts: list[int] = []

    async def hang(event: Number, context: Context) -> None:
        attempts.append(context.attempt)
        await asyncio.Event().wait()

    async with bench.run(hang, timeout=0.05, retry=SOON) as client, bench.letters() as letters:
        await client.publish(bench.topic, Number(value=1))
        await until(lambda: letters)
    assert attempts == [1, 2, 3]
    reason = (letters[0].headers or {})["Dead-Letter-Reason"]
    assert reason.endswith("TimeoutError: not finished within its timeout of 0.05 s")


@pytest.mark.parametrize("how", ["raised", "task"])
async def test_a_handler_that_is_cancelled_neither_acknowledges_nor_loses_its_event(
    how: str, bench: Bench, until: Until
) -> None:
    attempts: dict[int, list[int]] = {value: [] for value in range(5)}

    async def cancelled_once(event: Number, context: Context) -> None:
        attempts[event.value].append(context.attempt)
        if context.attempt > 1:
            return
        if how == "raised":
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    async with bench.run(cancelled_once) as client:
        await client.publish_many(bench.topic, numbers(5))
        await until(lambda: all(len(each) == 2 for each in attempts.values()))
    assert attempts == {value: [1, 2] for value in range(5)}


async def test_a_handler_that_is_always_cancelled_is_given_up_in_the_end(bench: Bench, until: Until) -> None:
    attempts: list[int] = []

    async def cancelled(event: Number, context: Context) -> None:
        attempts.append(context.attempt)
        raise asyncio.CancelledError

    async with bench.run(cancelled, retry=SOON) as client, bench.letters() as letters:
        await client.publish_many(bench.topic, numbers(2))
        await until(lambda: len(letters) == 2)
    reasons = {(letter.headers or {})["Dead-Letter-Reason"] for letter in letters}
    assert reasons == {"delivered 11 times and never settled", "cancelled, after 11 deliveries"}
    assert sorted(attempts) == sorted([*range(1, 11), *range(1, 12)])
