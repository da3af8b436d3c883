"""The outcome of a call, for the one task that awaits it: that goes on within the read that has brought it.

With a future of asyncio's it would go on in the next turn of the event loop, and what it sends then would leave by a
write of its own, not with all else that the read brings about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

_PENDING: Any = object()
_CANCELLED: Any = object()


class _NoLoop:
    """That of a future for which nothing is ever to be scheduled."""

    def get_debug(self) -> bool:
        return False


# What a task is told has ended when it goes on at once: of a future it takes that as it is, where it would call the
# `result` of an Outcome.
_ENDED: asyncio.Future[None] = asyncio.Future(loop=_NoLoop())  # type: ignore[arg-type]
_ENDED.set_result(None)


class Outcome:
    """What becomes of a call. Awaited by one task, once; for asyncio it is like a future.

    Attributes:
        call: the call, by its reply subject.
        endpoint: what is called.
        deadline: until when it is awaited, in `time.monotonic()` seconds.
    """

    __slots__ = ("_asyncio_future_blocking", "_go_on", "_loop", "_value", "_variables", "call", "deadline", "endpoint")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: str, endpoint: str, deadline: float) -> None:
        self.call = call
        self.endpoint = endpoint
        self.deadline = deadline
        self._value = _PENDING
        self._go_on: Callable[[Any], object] | None = None
        self._loop = loop
        self._asyncio_future_blocking = False

    def set(self, value: Any, at_once: bool) -> None:
        """This is it, unless there is one already.

        Args:
            at_once: whether who awaits it goes on now, as no task is running; else in the next turn of the loop.
        """
        if self._value is not _PENDING:
            return
        self._value = value
        if self._go_on is None:
            return
        if at_once:
            try:
                self._variables.run(self._go_on, _ENDED)
                return
            except RuntimeError:  # somebody is within the task's context variables: it has not gone on
                pass
        self._loop.call_soon(self._go_on, self, context=self._variables)

    def __await__(self) -> Generator[Outcome, None, Any]:
        if self._value is _PENDING:
            self._asyncio_future_blocking = True
            yield self  # where it was cancelled meanwhile, the task that goes on raises that here
        return self._value

    # -- what a task asks of it --------------------------------------------------------------------------------

    def add_done_callback(self, go_on: Callable[[Any], object], *, context: Context) -> None:
        """See `asyncio.Future`, as the others here."""
        if self._value is _PENDING:
            self._go_on, self._variables = go_on, context
        else:
            self._loop.call_soon(go_on, self, context=context)

    def result(self) -> Any:
        if self._value is _CANCELLED:
            raise asyncio.CancelledError
        return self._value

    def cancel(self, msg: object = None) -> bool:
        is_pending = self._value is _PENDING
        self.set(_CANCELLED, at_once=False)
        return is_pending
