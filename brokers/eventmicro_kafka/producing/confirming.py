"""Who waits for which batch to be stored, and until when: one future a batch, and one timer for all deadlines."""

from __future__ import annotations

import asyncio

# How often it is looked whose time is over, in seconds.
INTERVAL = 0.05

Outcome = BaseException | None
"""None: stored. TimeoutError: not within its time. Anything else: why it was not."""


class Confirming:
    """The messages that wait to be confirmed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[object], list[tuple[float, asyncio.Future[Outcome]]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def outcome(self, batch: asyncio.Future[object], deadline: float) -> asyncio.Future[Outcome]:
        """What becomes of a message in a batch, known by `deadline` in seconds of the event loop; it may be cancelled.

        It has a result, never an exception.
        """
        waiting = self._waiting.get(batch)
        if waiting is None:
            waiting = self._waiting[batch] = []
            batch.add_done_callback(self._settle)
            if self._timer is None:
                self._timer = self._loop.call_later(INTERVAL, self._sweep)
        outcome: asyncio.Future[Outcome] = self._loop.create_future()
        waiting.append((deadline, outcome))
        return outcome

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settle(self, batch: asyncio.Future[object]) -> None:
        error = batch.exception()
        for _, outcome in self._waiting.pop(batch):
            if not outcome.done():
                outcome.set_result(error)

    def _sweep(self) -> None:
        now = self._loop.time()
        for waiting in self._waiting.values():
            for deadline, outcome in waiting:
                if deadline <= now and not outcome.done():
                    outcome.set_result(TimeoutError())
        self._timer = self._loop.call_later(INTERVAL, self._sweep) if self._waiting else None
