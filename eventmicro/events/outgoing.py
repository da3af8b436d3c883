"""An event on its way out: the context that middleware sees."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from eventmicro.context import Context, Side
from eventmicro.errors import NotAllPublished
from eventmicro.message import Message

Write = Callable[[Message, Any, dict[str, str]], None]
Told = Callable[[BaseException | None], None]
"""Is told what became of an event: None: the broker has it."""

PUBLISHER = Side.PUBLISHER


class OutgoingEvent(Context):
    """The context of an event that is being published.

    message: what it becomes.
    write: fills that in.
    timeout: how long the broker is waited for, in seconds; None: as the client says.
    together: the messages of several events that go with it; None where it goes alone.
    """

    __slots__ = ("message", "timeout", "together", "write")

    def __init__(
        self,
        message: Message,
        write: Write,
        metadata: dict[str, str] | None,
        timeout: float | None,
        pattern: str = "",
    ) -> None:
        self.message = message
        self.write = write
        self.timeout = timeout
        self.together: Together | None = None
        Context.__init__(self, PUBLISHER, "", "", message.subject, metadata, pattern=pattern)


class Together(list[Message]):
    """The messages of several events that go together, which is done within `with`: at its end is told what became of
    each, to whoever wants to know it.
    """

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: list[tuple[int, Told]] = []

    def tell(self, message: Message, told: Told) -> None:
        """Tell somebody of this message, if it is the last one: a middleware may have kept it back."""
        if self and self[-1] is message:
            self._asked.append((len(self) - 1, told))

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._asked:
            return
        failed = error.failed if isinstance(error, NotAllPublished) else dict.fromkeys(range(len(self)), error)
        for number, told in self._asked:
            told(failed.get(number))
