"""The watchdog: what stands still begins anew, and nothing else does."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

from eventmicro import watchdog
from eventmicro.errors import Disconnected
from eventmicro.watchdog import Watchdog


class Queue:
    """Something that is looked after, with a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.done = 0
        self.waiting: bool | Exception = True
        self.began: list[float] = []
        self.broken = False
        self.stateless: Exception | None = None
        monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.watchdog = Watchdog(self.state, self.waits, self.begin_anew, patience=60.0)

    def state(self) -> int:
        if self.stateless is not None:
            raise self.stateless
        return self.done

    async def waits(self) -> bool:
        if isinstance(self.waiting, Exception):
            raise self.waiting
        return self.waiting

    async def begin_anew(self, still: float) -> None:
        self.began.append(still)
        if self.broken:
            raise ValueError("cannot")

    async def pass_by(self, seconds: float) -> None:
        """So many seconds go by, with a look every ten of them."""
        for _ in range(int(seconds / 10)):
            self.now += 10
            await self.watchdog.look()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


async def test_what_stands_still_for_as_long_as_it_may_begins_anew(queue: Queue) -> None:
    await queue.pass_by(60)
    assert queue.began == []
    await queue.pass_by(10)
    assert queue.began == [60.0]


async def test_what_makes_progress_is_left_alone(queue: Queue) -> None:
    for _ in range(30):
        await queue.pass_by(50)
        queue.done += 1
    assert queue.began == []


async def test_what_has_nothing_to_do_is_left_alone_and_has_all_its_time_when_something_comes(queue: Queue) -> None:
    queue.waiting = False
    await queue.pass_by(1000)
    queue.waiting = True
    await queue.pass_by(50)
    assert queue.began == []
    await queue.pass_by(10)
    assert queue.began == [60.0]


@pytest.mark.parametrize("error", [OSError("the broker is away"), TimeoutError(), Disconnected("away")])
async def test_where_it_cannot_be_told_nothing_is_done(
    error: Exception, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    queue.waiting = error
    await queue.pass_by(1000)
    assert queue.began == []
    assert not caplog.text
    queue.waiting = True
    await queue.pass_by(70)
    assert queue.began == [60.0]


@pytest.mark.parametrize("where", ["waiting", "stateless"])
async def test_a_defect_of_what_tells_it_is_said_once_and_ends_nothing(
    where: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    for times in (1, 2):
        setattr(queue, where, AttributeError("no such thing"))
        await queue.pass_by(1000)
        assert queue.began == []
        assert caplog.text.count("AttributeError: no such thing") == times
        queue.waiting, queue.stateless = True, None
        await queue.pass_by(70)
        assert queue.began == [60.0]
        queue.began.clear()
        queue.done += 1
        await queue.pass_by(10)


async def test_where_to_begin_anew_is_of_no_use_it_is_done_ever_more_rarely(queue: Queue) -> None:
    await queue.pass_by(70 + 120 + 240)
    assert queue.began == [60.0, 120.0, 240.0]
    queue.began.clear()
    await queue.pass_by(100_000)
    assert set(queue.began[-5:]) == {3600.0}


async def test_what_went_on_meanwhile_may_stand_still_no_longer_than_at_first(queue: Queue) -> None:
    await queue.pass_by(70 + 120)
    queue.done += 1
    await queue.pass_by(70)
    assert queue.began == [60.0, 120.0, 60.0]


async def test_a_beginning_that_fails_is_said_and_tried_again(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.broken = True
    await queue.pass_by(70 + 120)
    assert len(queue.began) == caplog.text.count("ValueError: cannot") == 2


async def test_it_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    began = asyncio.Event()

    async def waits() -> bool:
        return True

    async def begin_anew(_: float) -> None:
        began.set()

    running = asyncio.create_task(Watchdog(int, waits, begin_anew, patience=0.0, interval=0.0).run())
    await began.wait()
    running.cancel()
