"""Signals: the first one asks for a stop, the second one does not wait for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

log = logging.getLogger(__name__)

# The end of a terminal or of its session is one, where the system has such a thing.
HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
SIGNALS = (signal.SIGINT, signal.SIGTERM, *HANGUP)
# For how long after a signal the same one again is only its echo, in seconds.
ECHO = 0.5


@contextmanager
def stop_on_signals(
    ask: Callable[[], None],
    signals: Iterable[signal.Signals] = SIGNALS,
    at_once: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Call `ask` at the first signal; at the second, even if the event loop is blocked by then, `at_once` and exit.

    The same signal at nearly the same time is the first one yet: who runs this program may have been sent it, too, and
    have passed it on.
    """
    loop = asyncio.get_running_loop()
    asked: int | None = None
    since = 0.0

    def receive(number: int, frame: object) -> None:
        nonlocal asked, since
        if asked is not None:
            if number == asked and time.monotonic() - since < ECHO:
                return
            at_once()
            _exit_at_once(number)
        asked, since = number, time.monotonic()
        loop.call_soon_threadsafe(
            log.info, "stopping; a second signal exits at once" if len(before) > 1 else "stopping"
        )
        loop.call_soon_threadsafe(ask)

    before = {number: signal.signal(number, receive) for number in heeded(signals)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heeded(signals: Iterable[signal.Signals] = SIGNALS) -> list[signal.Signals]:
    """Those of the signals that stop this program: no hangup where who started it wants it to go on, by `nohup`."""
    return [number for number in signals if number not in HANGUP or signal.getsignal(number) is not signal.SIG_IGN]


def _exit_at_once(number: int) -> NoReturn:
    with suppress(RuntimeError):  # the signal came amidst a write to the same stream
        log.warning("%s while stopping: exiting at once, what still runs is cut off", signal.Signals(number).name)
    os._exit(1)
