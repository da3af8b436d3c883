"""The tasks of a subscription of Kafka: they are ended though they resist, and started again where they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from eventmicro_kafka.connection import ending
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.consuming import jobs, live, member
from eventmicro_kafka.consuming.jobs import Jobs
from eventmicro_kafka.consuming.live import Broadcast, Shared
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.broker import Durable

Until = Callable[[Callable[[], object]], Awaitable[None]]

PLACE = TopicPartition("t", 0)


class Stubborn:
    """What swallows its first cancellations, as aiokafka's tasks do."""

    def __init__(self, swallows: int) -> None:
        self.swallows = swallows
        self.begun = 0
        self.ended = 0
        self.released = asyncio.Event()

    async def run(self, *_: object) -> None:
        self.begun += 1
        try:
            await self._resist()
        finally:
            self.ended += 1

    async def _resist(self) -> None:
        while True:
            try:
                await self.released.wait()
                return
            except asyncio.CancelledError:
                if self.swallows == 0:
                    raise
                self.swallows -= 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "STOP_TIMEOUT", 0.1)
    for room in (jobs, live):
        monkeypatch.setattr(room, "LEAVE_TIME", 0.05)
    monkeypatch.setattr(jobs, "RESTART_INTERVAL", 0.01)
    monkeypatch.setattr(member, "COMMIT_TIMEOUT", 0.05)


def make_subscription() -> Any:
    settings = KafkaSettings(rebalance_wait=0.01, commit_interval=0.01)
    publisher: Any = SimpleNamespace()
    return KafkaSubscription("t", "q", lambda _: None, Durable(), settings, publisher, {})


# -- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swallows", [0, 1, 5])
async def test_a_job_that_swallows_its_cancellation_is_cancelled_again(swallows: int, until: Until) -> None:
    job = Stubborn(swallows)
    running = Jobs("q", {"job": job.run})
    running.start()
    await until(lambda: job.begun)
    async with asyncio.timeout(20):
        await running.stop(["job"])
    assert job.ended == 1


@pytest.mark.parametrize("everything", [True, False])
async def test_a_job_that_never_ends_is_not_waited_for_for_ever_and_said(
    everything: bool, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    job = Stubborn(10**6)
    running = Jobs("q", {"job": job.run})
    running.start()
    await until(lambda: job.begun)
    async with asyncio.timeout(20):
        await (running.stop_all() if everything else running.stop(["job"]))
    assert "'q': its job does not end" in caplog.text
    job.released.set()
    await until(lambda: job.ended)
    await asyncio.sleep(0.03)
    assert job.begun == 1, "it was not to be started again"


async def test_a_job_that_never_ends_has_no_double_and_is_started_again_when_it_has_ended(until: Until) -> None:
    """Two of them would work against each other."""
    job = Stubborn(10**6)
    running = Jobs("q", {"job": job.run})
    running.start()
    await until(lambda: job.begun)
    await running.stop(["job"])
    running.start(["job"])
    await asyncio.sleep(0)
    assert job.begun == 1
    job.released.set()
    await until(lambda: job.begun >= 2)
    job.swallows = 0
    await running.stop_all()


async def test_a_commit_that_swallows_its_cancellation_keeps_no_other_from_committing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck, said = Stubborn(3), []

    async def commit(_: object, wanted: object, __: object) -> None:
        said.append(wanted)
        if len(said) == 1:
            await stuck.run()

    monkeypatch.setattr(member, "commit", commit)
    subscription = make_subscription()
    subscription.share({PLACE: (0, "")})
    subscription.lanes[PLACE].next = 5
    subscription._member._consumer = SimpleNamespace(assignment=lambda: {PLACE})
    async with asyncio.timeout(20):
        assert await asyncio.gather(subscription._member.commit(), subscription._member.commit()) == [False, True]
    assert stuck.ended == 1


@pytest.mark.parametrize("act", ["_begin_anew", "close"])
async def test_what_stands_still_in_a_commit_begins_anew_and_ends(
    act: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Nothing of what the watchdog is to mend may hold up the watchdog, nor the end."""
    stuck, pump = Stubborn(10**6), Stubborn(2)

    async def commit(*_: object) -> None:
        await stuck.run()

    monkeypatch.setattr(member, "commit", commit)
    monkeypatch.setattr(member, "stop_consumer", lambda _: asyncio.sleep(0))
    subscription = make_subscription()
    subscription.share({PLACE: (0, "")})
    subscription._member._consumer = SimpleNamespace(assignment=lambda: {PLACE})
    subscription._jobs._jobs |= {"pump": pump.run, "member": asyncio.Event().wait}
    subscription._jobs.start()
    subscription.lanes[PLACE].next = 5
    subscription.settled()
    await until(lambda: stuck.begun and pump.begun)
    async with asyncio.timeout(20):
        await (subscription._begin_anew(60.0) if act == "_begin_anew" else subscription.close())
    await until(lambda: pump.begun == (2 if act == "_begin_anew" else 1))
    assert subscription.closed == (act == "close")
    async with asyncio.timeout(20):
        await subscription.close()
    stuck.released.set()
    await until(lambda: stuck.ended == stuck.begun)


# -- what ends by itself -----------------------------------------------------------------------------------------


class Flawed:
    """A job that fails at first."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.begun = 0

    async def run(self) -> None:
        self.begun += 1
        if self.begun > 2:
            await asyncio.Event().wait()
        elif self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("which never should"), asyncio.CancelledError(), None], ids=["fails", "cancelled", "returns"]
)
async def test_a_job_that_ends_says_why_and_is_started_again(
    error: BaseException | None, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    job = Flawed(error)
    ended: list[str] = []
    running = Jobs("q", {"job": job.run}, ended.append)
    running.start()
    await until(lambda: job.begun == 3)
    assert caplog.text.count("'q': its job has ended") == 2
    assert ended == ["job", "job"]
    assert caplog.text.count("ValueError: which never should") == (2 if isinstance(error, ValueError) else 0)
    await running.stop_all()
    await asyncio.sleep(0.03)
    assert job.begun == 3


async def test_a_job_that_has_ended_is_not_started_again_once_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(jobs, "RESTART_INTERVAL", 60.0)
    job = Flawed(ValueError("which never should"))
    running = Jobs("q", {"job": job.run})
    running.start()
    await until(lambda: not running._tasks)
    await running.stop(["job"])
    running._run("job")  # as when its pause is over
    assert not running._tasks
    assert job.begun == 1


@pytest.mark.parametrize("name", ["pump", "member", "commits"])
async def test_what_a_job_had_in_hand_when_it_ended_is_read_again_and_not_committed(
    name: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(jobs, "RESTART_INTERVAL", 60.0)
    subscription = make_subscription()
    subscription.share({PLACE: (0, "")})
    subscription._member._consumer = SimpleNamespace()
    never = asyncio.Event().wait
    subscription._jobs._jobs = dict.fromkeys(("pump", "member", "commits"), never)
    subscription._jobs.start()
    lane = subscription.lanes[PLACE]
    subscription._jobs._tasks[name].cancel()
    await until(lambda: subscription._jobs._tasks.get(name) is None)
    assert lane.gone == subscription._member._failed == (name != "commits")
    subscription._member._consumer = None
    await subscription._jobs.stop_all()


# -- other tasks that ask aiokafka for something -----------------------------------------------------------------


@pytest.mark.parametrize("swallows", [1, 5])
async def test_a_ping_that_swallows_its_cancellation_does_not_hold_up_the_end(swallows: int, until: Until) -> None:
    link, ping = Link(KafkaSettings(), "kafka://"), Stubborn(swallows)
    link._watching = asyncio.create_task(ping.run())
    await until(lambda: ping.begun)
    async with asyncio.timeout(20):
        await link.close()
    assert ping.ended


@pytest.mark.parametrize("kind", ["broadcast", "shared"])
async def test_a_live_subscription_ends_though_what_reads_resists(kind: str, until: Until) -> None:
    reads: Any = Stubborn(5)
    link: Any = SimpleNamespace()
    subscription: Any = Shared("t", "q", lambda _: None, KafkaSettings(), {})
    if kind == "broadcast":
        subscription = Broadcast("t", 1, lambda _: None, KafkaSettings(), link)
    reading = subscription._task = asyncio.create_task(reads.run())
    subscription._tasks = [reading]
    await until(lambda: reads.begun)
    async with asyncio.timeout(20):
        await subscription.close()
    assert subscription.closed
    assert reads.ended
