"""Faults: what goes wrong in a world because its test says so, for as long as it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from eventmicro.checks import check_count, check_seconds
from eventmicro.errors import UsageError
from eventmicro.testing.names import Meant
from eventmicro.topic import Topic

Where = Callable[[Any], bool]
"""Which of the messages: a function of the event, or of the request."""


class NeverApplied(AssertionError):
    """A fault is over, and nothing has met it: the test does not test what it says."""


class Fault:
    """One of them, until the end of its block or of its world; by `end` it is over sooner.

    times: how often it is met, then it is over; None: each time.
    applied: how often it was.
    """

    def __init__(
        self,
        faults: Faults,
        kind: Literal["fail", "delay", "drop", "duplicate"],
        meant: Meant,
        times: int | None,
        where: Where | None,
        error: BaseException | type[BaseException] | None = None,
        seconds: float = 0.0,
    ) -> None:
        if times is not None:
            check_count("times", times)
        self.kind = kind
        self.meant = meant
        self.times = times
        self.where = where
        self.error = error
        self.seconds = seconds
        self.applied = 0
        self._faults = faults
        faults.all.append(self)

    def __repr__(self) -> str:
        return f"{self.kind}({self.meant.name!r})"

    def end(self) -> None:
        """It is over; a second call does nothing."""
        if self in self._faults.all:
            self._faults.all.remove(self)

    def check_applied(self) -> None:
        """See that something has met it.

        Raises:
            NeverApplied: nothing has.
        """
        if not self.applied:
            what = "message that was sent" if self.where is None else "message for which where= is true"
            raise NeverApplied(f"{self!r} was never applied: it met no {what}")

    def meets(self, read: Callable[[], Any]) -> bool:
        """Whether a message that is meant meets it now; then it is counted."""
        if self.times is not None and self.applied >= self.times:
            return False
        if self.where is not None and not self.where(read()):
            return False
        self.applied += 1
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        if error is None:
            self.check_applied()


class Faults:
    """Those of one world, the first first."""

    def __init__(self) -> None:
        self.all: list[Fault] = []

    def fail(self, meant: Meant, error: Any, times: int | None, where: Where | None) -> Fault:
        """Handlers that raise in place of handling, and events that cannot be published."""
        is_kind = isinstance(error, type) and issubclass(error, Exception)
        if not is_kind and not isinstance(error, Exception):
            raise UsageError(f"error={error!r}: write what is to be raised, such as Unavailable('no stock today')")
        return Fault(self, "fail", meant, times, where, error=error)

    def delay(self, meant: Meant, seconds: float, times: int | None, where: Where | None) -> Fault:
        """Messages that are on their way for longer."""
        check_seconds("seconds", seconds)
        return Fault(self, "delay", _travelling("delay", meant), times, where, seconds=seconds)

    def drop(self, meant: Meant, times: int | None, where: Where | None) -> Fault:
        """Messages that are lost on their way."""
        return Fault(self, "drop", _travelling("drop", meant), times, where)

    def duplicate(self, meant: Meant, times: int | None, where: Where | None) -> Fault:
        """Messages that are sent twice."""
        return Fault(self, "duplicate", _travelling("duplicate", meant), times, where)

    def of_handler(self, name: str, read: Callable[[], Any]) -> Fault | None:
        """What a message meets that a handler is about to handle."""
        meant = (each for each in self.all if each.kind == "fail" and name in each.meant.handlers)
        return next((each for each in meant if each.meets(read)), None)

    def of_message(self, subject: str, read: Callable[[Topic[Any] | None], Any], *, is_call: bool) -> Iterator[Fault]:
        """What a message meets on its way. Calls fail at their handler, and not on it.

        Args:
            read: the message, as an event of a topic if there is one.
        """
        for each in list(self.all):
            if each.kind == "fail" and is_call:
                continue
            if each.meant.travels_on(subject) and each.meets(partial(read, each.meant.topic)):
                yield each


def _travelling(kind: str, meant: Meant) -> Meant:
    """What is meant, where that is something that travels.

    Raises:
        UsageError: it is a subscriber's name.
    """
    if meant.subjects is None:
        raise UsageError(f"{kind}({meant.name!r}): that is a subscriber; name the topic whose events are meant")
    return meant
