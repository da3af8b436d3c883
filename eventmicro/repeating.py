"""Repeating: what happens again and again is said a few times, with its traceback once, and then counted.

Half a minute of an outage are thousands of failures, each of which says the same: what matters is that it began, how
many there were, and that it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

from eventmicro.wire import one_line

# How many lines of one kind are said, each, before they are counted.
AT_FIRST = 5
# How often the number of those that were not said is told, in seconds; after so long without any it is as at first.
EVERY = 10.0
# For how long the traceback of one kind is shown once, in seconds.
TRACED = 3600.0
# How many kinds are remembered.
KINDS = 200

Kind = tuple[Any, ...]


class _Said:
    """What was said of one kind."""

    __slots__ = ("level", "more", "since", "times", "traced", "what")

    def __init__(self) -> None:
        self.times = 0
        self.since = 0.0
        self.more = 0
        self.traced = float("-inf")
        self.level = logging.WARNING
        self.what: tuple[Any, ...] = ()


class Repeating:
    """The lines of one handler that may come again and again. Made when it is first needed, closed with its handler.

    Args:
        log: where to.
        name: the handler's.
        fields: what its lines are about, as attributes of their records.
    """

    __slots__ = ("_log", "_name", "_said", "_timer", "fields")

    def __init__(self, log: logging.Logger, name: str, fields: Mapping[str, Any]) -> None:
        self._log = log
        self._name = name
        self.fields = fields
        self._said: dict[Kind, _Said] = {}
        self._timer: asyncio.TimerHandle | None = None

    def counts(self, kind: Kind, level: int, *what: Any) -> bool:
        """Whether this one is only counted, as enough like it were said; else its line is to be said.

        Args:
            kind: what is alike.
            level: that of its line.
            what: the line that tells the number of them, behind `name: 17 more `, and its arguments.
        """
        said = self._said.get(kind) or self._begin(kind)
        now = monotonic()
        if not said.more and now - said.since > EVERY:
            said.times, said.since = 0, now
        if said.times < AT_FIRST:
            said.times += 1
            return False
        said.more += 1
        said.level, said.what = level, what
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._tell)
        return True

    def traced(self, error: BaseException) -> bool:
        """Whether the traceback of an error is to be shown: once in a while for each kind of it, and place of it."""
        kind = "traceback", *origin(error)
        said = self._said.get(kind) or self._begin(kind)
        now = monotonic()
        if now - said.traced < TRACED:
            return False
        said.traced = now
        return True

    def close(self) -> None:
        """Tell the last numbers."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell(is_last=True)

    def _begin(self, kind: Kind) -> _Said:
        if len(self._said) >= KINDS:
            oldest = self._said.pop(next(iter(self._said)))
            self._say(oldest)
        said = self._said[kind] = _Said()
        return said

    def _tell(self, *, is_last: bool = False) -> None:
        self._timer = None
        goes_on = [said for said in self._said.values() if said.more]
        for said in goes_on:
            self._say(said)
        if goes_on and not is_last:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._tell)

    def _say(self, said: _Said) -> None:
        more, said.more, said.since = said.more, 0, monotonic()
        if more:
            text, *arguments = said.what
            arguments = [readable(each) for each in arguments]
            self._log.log(said.level, "%s: %d more " + text, self._name, more, *arguments, extra=dict(self.fields))


def readable(argument: object) -> object:
    """What a line of the log says of something that may be a peer's: a number as it is, all else in one line."""
    return argument if isinstance(argument, int | float) else one_line(str(argument))


def origin(error: BaseException) -> Kind:
    """The kind of an error, and where it was raised: of two that agree in both one traceback is enough."""
    traceback = error.__traceback__
    if traceback is None:
        return (type(error),)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return type(error), traceback.tb_frame.f_code, traceback.tb_lineno
