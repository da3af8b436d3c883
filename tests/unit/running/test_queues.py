"""How it is with a service's queues, as part of its figures: asked of the broker seldom, waited for a moment only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from eventmicro import Client, Context, Retry, Service
from eventmicro.broker import QueueState
from eventmicro.discovery.report import HandlerStatistics, NodeStatistics
from eventmicro.errors import Disconnected, UsageError
from eventmicro.memory import MemoryBroker
from eventmicro.running import queues
from eventmicro.running.health_port import health_port
from tests.unit.telemetry.test_prometheus import read, scrape

URL = "memory://queues"
Answer = Callable[[str], QueueState | None]
SINCE = datetime(2026, 5, 1, tzinfo=UTC)


class Telling(MemoryBroker):
    """A broker that says of its queues what a test wants, and counts who asks; of dead letters it says how many."""

    def __init__(self, answer: Answer | None) -> None:
        super().__init__(URL)
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []
        self.letters: dict[str, int] = {}
        self.asked_for_letters: list[tuple[str, str | None]] = []

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        if queue.startswith("dead"):
            self.asked_for_letters.append((queue, subject))
            count = self.letters.get(queue)
            return None if count is None else QueueState(queue=queue, waiting=count, unsettled=2)
        self.asked.append((queue, subject))
        if self.answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        return self.answer(queue)


def says(waiting: int) -> Answer:
    return lambda queue: QueueState(queue=queue, waiting=waiting, consumers=2, oldest=SINCE)


def refuses(queue: str) -> QueueState | None:
    raise UsageError(f"{queue} may not be looked at")


def is_away(queue: str) -> QueueState | None:
    raise Disconnected("it is away")


def breaks(queue: str) -> QueueState | None:
    raise KeyError(queue)


def shop(broker: Telling | str, count: int = 1) -> Service:
    service = Service("shop", broker=broker)
    for number in range(count):

        @service.subscribe("placed", name=f"bill{number}")
        async def bill(event: int) -> None: ...

    return service


def of(service: Service) -> HandlerStatistics:
    return service.statistics().subscribers[0]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "PATIENCE", 0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(queues, "monotonic", lambda: now[0])
    return now


async def test_a_scrape_says_what_the_broker_says_and_asks_no_sooner_than_it_is_old(clock: list[float]) -> None:
    broker = Telling(says(7))
    async with shop(broker) as service, health_port([service], "127.0.0.1", 0) as port:
        for _ in range(3):
            found = read((await scrape(port))[1])
            (waiting,) = found["eventmicro_queue_waiting"]
            assert (waiting.value, waiting.labels) == (
                7,
                {"service": "shop", "subscriber": "bill0", "queue": "shop.bill0"},
            )
            assert found["eventmicro_queue_consumers"][0].value == 2
            assert found["eventmicro_queue_oldest_timestamp_seconds"][0].value == SINCE.timestamp()
            assert found["eventmicro_queue_unsettled"] == []  # the broker does not say
        assert broker.asked == [("shop.bill0", "placed")]
        clock[0] += queues.FRESH
        broker.answer = says(3)
        await service.look_at_queues()
        state = of(service).queue
        assert state is not None
        assert state.waiting == 3
        assert len(broker.asked) == 2


async def test_a_broker_that_does_not_answer_holds_up_neither_a_scrape_nor_the_stop(clock: list[float]) -> None:
    broker = Telling(None)
    async with shop(broker) as service, health_port([service], "127.0.0.1", 0) as port:
        for _ in range(3):
            found = read((await scrape(port))[1])
            assert found["eventmicro_queue_waiting"] == []
            assert found["eventmicro_events"][0].value == 0
        assert len(broker.asked) == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "eventmicro queue states"]


async def test_where_one_question_fails_nobody_is_left_who_asks_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "PATIENCE", 10)
    broker = Telling(None)
    seen = broker.queue_state

    async def queue_state(queue: str, *, subject: str | None = None) -> QueueState | None:
        if queue == "shop.bill1":
            raise KeyError(queue)  # of a stranger
        return await seen(queue, subject=subject)

    broker.queue_state = queue_state  # type: ignore[method-assign]
    async with shop(broker, 3) as service:
        before = asyncio.all_tasks()
        await service.look_at_queues()
        await asyncio.sleep(0)
        assert len(broker.asked) == 2
        assert asyncio.all_tasks() <= before


async def test_a_round_without_an_end_is_cut_off_and_asked_again(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "ROUND", 0.01)
    monkeypatch.setattr(queues, "PATIENCE", 10)
    broker = Telling(None)
    async with shop(broker, 3) as service:
        await service.look_at_queues()
        assert len(broker.asked) == 3
        clock[0] += queues.FRESH
        broker.answer = says(1)
        await service.look_at_queues()
        assert [each.queue is not None for each in service.statistics().subscribers] == [True] * 3


@pytest.mark.parametrize("trouble", [is_away, refuses, breaks])
async def test_what_was_said_last_is_told_for_a_while_where_nothing_new_is(
    clock: list[float], trouble: Answer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "PATIENCE", 10)  # a starved machine takes long for what is there at once
    broker = Telling(says(7))
    async with shop(broker) as service:
        await service.look_at_queues()
        broker.answer = trouble
        clock[0] += queues.FRESH
        await service.look_at_queues()
        assert of(service).queue is not None
        clock[0] += queues.TOLD * queues.FRESH
        await service.look_at_queues()
        assert of(service).queue is None
        lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == (0 if trouble is is_away else 1)
        assert len(broker.asked) == (2 if trouble is refuses else 3)  # a right that is missing is not asked for often


async def test_a_queue_whose_node_is_away_keeps_nobody_from_being_told_of_the_others(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "PATIENCE", 10)
    broker = Telling(says(1))
    answer = broker.queue_state

    async def later(queue: str, *, subject: str | None = None) -> QueueState | None:
        if queue == "shop.bill0":
            return is_away(queue)
        await asyncio.sleep(0)
        return await answer(queue, subject=subject)

    monkeypatch.setattr(broker, "queue_state", later)
    async with shop(broker, 3 * queues.AT_ONCE) as service:
        await service.look_at_queues()
        told = [each.queue is not None for each in service.statistics().subscribers]
        assert told == [False] + [True] * (3 * queues.AT_ONCE - 1)


async def test_queues_of_which_no_answer_comes_are_asked_about_after_the_others(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "ROUND", 0.01)
    monkeypatch.setattr(queues, "PATIENCE", 10)
    broker = Telling(None)
    async with shop(broker, 2 * queues.AT_ONCE) as service:
        await service.look_at_queues()
        clock[0] += queues.FRESH
        broker.asked.clear()
        await service.look_at_queues()
        assert [queue for queue, _ in broker.asked] == [
            f"shop.bill{number}" for number in range(queues.AT_ONCE, 2 * queues.AT_ONCE)
        ]


async def test_a_broker_that_is_away_or_tells_nothing_is_not_asked() -> None:
    broker = Telling(says(7))
    broker.__class__ = type("Away", (Telling,), {"online": property(lambda self: False)})
    async with shop(broker) as service:
        await service.look_at_queues()
        assert broker.asked == []
        assert of(service).queue is None
    async with shop("memory://queues?like=nats") as service:
        await service.look_at_queues()
        assert of(service).queue is None


async def test_all_of_many_queues_are_told_and_those_of_no_subscriber_any_more_are_not(clock: list[float]) -> None:
    async def more(event: int) -> None: ...

    broker = Telling(says(1))
    async with shop(broker, 1000) as service:
        handle = await service.start_subscriber("placed", more)
        await service.look_at_queues()
        assert {each.queue is not None for each in service.statistics().subscribers} == {True}
        assert len(broker.asked) == len(set(broker.asked)) == 1001
        await handle.drain()
        clock[0] += queues.FRESH  # so many are asked about more rarely
        await service.look_at_queues()
        assert len(broker.asked) == 1001
        clock[0] += 2 * 1001 / queues.A_SECOND  # with those of their dead letters
        await service.look_at_queues()
        assert len(broker.asked) == 2001


async def test_dead_letters_that_stand_are_told_as_long_as_they_do_and_a_queue_that_is_shared_is_asked_about_once(
    clock: list[float],
) -> None:
    broker = Telling(says(0))
    service = shop(broker, 2)
    service.subscribe("placed", name="pay", dead_letter="dead.all")(_nothing)
    service.subscribe("placed", name="ship", dead_letter="dead.all")(_nothing)
    service.subscribe("placed", name="tell", dead_letter=False)(_nothing)
    broker.letters |= {"dead.shop.bill0": 3, "dead.all": 0}
    async with service, health_port([service], "127.0.0.1", 0) as port:
        found = read((await scrape(port))[1])["eventmicro_queue_dead_letters"]
        told = {(sample.labels["subscriber"], sample.labels["queue"]): sample.value for sample in found}
        assert told == {("bill0", "dead.shop.bill0"): 5, ("pay", "dead.all"): 2, ("ship", "dead.all"): 2}
        queues_of_letters = ["dead.shop.bill0", "dead.shop.bill1", "dead.all"]
        assert broker.asked_for_letters == [(name, name) for name in queues_of_letters]
        assert len(broker.asked) == 5
        letters = of(service).letters
        assert letters is not None
        assert (letters.waiting, letters.unsettled) == (3, 2)
        clock[0] += queues.FRESH
        broker.letters["dead.shop.bill0"] = 0
        await service.look_at_queues()
        assert len(broker.asked_for_letters) == 6
        letters = of(service).letters
        assert letters is not None
        assert letters.waiting == 0


async def _nothing(event: int) -> None: ...


async def test_stats_of_a_node_say_it_too() -> None:
    async with shop(URL) as service, Client(URL) as client:
        figures = await client.call("shop.stats", None, NodeStatistics)
        state = figures.subscribers[0].queue
        assert state is not None
        assert (state.name, state.waiting, state.consumers) == ("shop.bill0", 0, 1)
        assert [(each.url, each.online, each.reconnects) for each in figures.brokers] == [(URL, True, None)]
        assert service.statistics().published == 0


async def test_what_comes_again_what_is_unsettled_and_what_was_published_are_counted(until: Any) -> None:
    service = Service("shop", broker=URL)
    held: list[Context] = []

    @service.subscribe("placed", retry=Retry(attempts=3, backoff=0))
    async def fail(event: int) -> None:
        raise ValueError(event)

    @service.subscribe("placed", ack="manual")
    async def hold(event: int, context: Context) -> None:
        held.append(context)

    async with service:
        for number in range(2):
            await service.publish("placed", number)
        await until(lambda: service.statistics().subscribers[0].dead_letters == 2)
        await until(lambda: service.statistics().subscribers[1].unsettled == 2)
        failing = service.statistics().subscribers[0]
        assert (failing.count, failing.retried, failing.unsettled) == (6, 4, 0)
        await held[0].ack()
        assert service.statistics().subscribers[1].unsettled == 1
        assert service.statistics().published == 2
