"""Hanging: a handler that takes very long is named once, with where it stands; so is code that stops the event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any
from weakref import WeakSet

from eventmicro.context import context_in
from eventmicro.fields import of_handler
from eventmicro.handlers.eager import Task, variables_of, work_of
from eventmicro.handlers.inflight import InFlight
from eventmicro.repeating import Repeating
from eventmicro.wire import one_line

log = logging.getLogger(__name__)

# After how many seconds a handler is named; later where its own timeout is longer.
PATIENCE = 60.0
# How often is looked, in seconds.
INTERVAL = 10.0
# After how many looks, a second apart, in which the event loop has not moved it is said where it stands.
STANDS = 5
LOOK = 1.0

_OURS = str(Path(__file__).parent.parent)
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


class Hanging:
    """Looks after the handlers of a node. It costs nothing per message.

    Args:
        patience: after how many seconds a handler is named.
        interval: how many seconds are between two looks.
    """

    def __init__(self, patience: float = PATIENCE, interval: float = INTERVAL) -> None:
        self._patience = patience
        self._interval = interval
        self._watched: list[tuple[str, InFlight, float]] = []
        self._named: WeakSet[Task] = WeakSet()
        self._told: dict[str, Repeating] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, name: str, inflight: InFlight, timeout: float | None) -> None:
        """Look after one more handler, `orders.bill`, which may take so many seconds."""
        self._watched.append((name, inflight, max(self._patience, timeout or 0.0)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._look_again)

    def forget(self, inflight: InFlight) -> None:
        """Look after a handler no more, which has ended."""
        self._watched = [each for each in self._watched if each[1] is not inflight]

    def look(self) -> None:
        """Look once."""
        now = perf_counter()
        for name, inflight, patience in self._watched:
            for task, begun in inflight.running():
                if now - begun > patience and task not in self._named:
                    self._named.add(task)
                    self._say(name, task, now - begun)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        for told in self._told.values():
            told.close()

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look_again)
        self.look()

    def _say(self, name: str, task: Task, seconds: float) -> None:
        place, context = where(frames_of(task)), context_in(variables_of(task))
        told = self._told.setdefault(name, Repeating(log, name, of_handler(name)))
        if told.counts((place,), logging.WARNING, "handlers are at it for long, and stand at %s", place):
            return
        fields, what = dict(told.fields), "it"
        if context is not None:
            what = f"the message on {one_line(context.topic)}"
            fields |= {"subject": context.topic, "event_id": context.id, "attempt": context.attempt}
        text = "%s: %s is being handled for %.0f s, and its handler stands at %s"
        log.warning(text, name, what, seconds, place, extra=fields)


def frames_of(task: Task) -> Iterator[FrameType]:
    """Where a handler waits: its own frame, that of what it awaits, and so on."""
    waiting: Any = work_of(task)
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            if (frame := getattr(waiting, f"{kind}_frame", None)) is not None:
                yield frame
        waiting = next(filter(None, (getattr(waiting, each, None) for each in AWAITED)), None)


AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")


def where(frames: Iterable[FrameType]) -> str:
    """The innermost place that is the user's own, and the innermost one at all where that is another's."""
    places = list(frames)
    own = [frame for frame in places if _is_users(frame.f_code.co_filename)]
    if not places:
        return "a place that is not known"
    first = _place(own[-1] if own else places[-1])
    return first if not own or own[-1] is places[-1] else f"{first}, which waits at {_place(places[-1])}"


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_users(file: str) -> bool:
    return not file.startswith((_OURS, *_LIBRARIES, "<frozen"))


@contextmanager
def watched_loop(look: float = LOOK, stands: int = STANDS) -> Iterator[None]:
    """While the block lasts, say from another thread where the running event loop stands still: nothing is taken,
    answered or kept alive meanwhile.

    It counts its own looks, so that a process which was stopped as a whole has not stood still.
    """
    loop, main = asyncio.get_running_loop(), threading.get_ident()
    moved, ended = threading.Event(), threading.Event()

    def run() -> None:
        still = 0
        moved.set()
        while not ended.wait(look):
            if moved.is_set():
                still = 0
                moved.clear()
                loop.call_soon_threadsafe(moved.set)
                continue
            still += 1
            if still == stands:
                _say_still(main, stands * look)

    thread = threading.Thread(target=run, name="eventmicro watched loop", daemon=True)
    with _without_signals():
        thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _without_signals() -> Iterator[None]:
    """Threads that are started meanwhile get no signals: one of these would not end what the main thread waits in."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say_still(thread: int, seconds: float) -> None:
    frame = sys._current_frames().get(thread)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    log.warning(
        "nothing else runs for %g s: the event loop stands at %s; await what takes long, or leave it to a thread by "
        "`await asyncio.to_thread(...)`",
        seconds,
        where(reversed(frames)),
    )
