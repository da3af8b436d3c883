"""Signals: the first one asks for a stop, the second one does not wait for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, Self

log = logging.getLogger(__name__)

# The end of a terminal or of its session is one, where the system has such a thing.
HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
SIGNALS = (signal.SIGINT, signal.SIGTERM, *HANGUP)
# For how long after a signal the same one again is only its echo, in seconds.
ECHO = 0.5


class StopSignals:
    """From its `with` on the first signal asks for a stop, and the second, even if the event loop is blocked, exits.

    The same signal at nearly the same time is the first one yet: who runs this program may have been sent it, too, and
    have passed it on.

    Args:
        signals: those that are heeded.
        level: how loudly it is said in the log that one came.
        at_once: what is called before it exits.
    """

    def __init__(
        self,
        signals: Iterable[signal.Signals] = SIGNALS,
        at_once: Callable[[], None] = lambda: None,
        level: int = logging.INFO,
    ) -> None:
        self._signals = signals
        self._level = level
        self._at_once = at_once
        self._before: dict[signal.Signals, Any] = {}
        self._tell: Callable[[], object] | None = None
        self._asked: int | None = None
        self._since = 0.0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._receive) for number in heeded(self._signals)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def asking(self, ask: Callable[[], None]) -> Iterator[None]:
        """Have the event loop call this at the first signal, or now where that has come already."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            log.log(self._level, "stopping; a second signal exits at once")
            ask()

        self._tell = lambda: loop.call_soon_threadsafe(stop)
        if self._asked is not None:
            stop()
        try:
            yield
        finally:
            self._tell = None

    def _receive(self, number: int, frame: object) -> None:
        if self._asked is not None:
            if number == self._asked and time.monotonic() - self._since < ECHO:
                return
            self._at_once()
            _exit_at_once(number)
        self._asked, self._since = number, time.monotonic()
        if self._tell is not None:  # else nothing has begun yet, or all is over already
            self._tell()


def heeded(signals: Iterable[signal.Signals] = SIGNALS) -> list[signal.Signals]:
    """Those of the signals that stop this program: no hangup where who started it wants it to go on, by `nohup`."""
    return [number for number in signals if number not in HANGUP or signal.getsignal(number) is not signal.SIG_IGN]


def _exit_at_once(number: int) -> NoReturn:
    with suppress(RuntimeError):  # the signal came amidst a write to the same stream
        log.warning("%s while stopping: exiting at once, what still runs is cut off", signal.Signals(number).name)
    os._exit(1)
