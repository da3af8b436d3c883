"""What a world has seen, one thing each: an event that was published, a call, a handling, a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from eventmicro.message import Message
from eventmicro.testing.golden import Example

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")

CLIENT = "client"
"""What stands for the world's own client, where else a service is named."""


@dataclass(slots=True, kw_only=True)
class Published(Generic[T]):
    """An event that was published.

    service: who has published it; `client`: the world's own.
    metadata: the headers that went with it.
    key, id: what it belongs to, and what names it, where its topic or its publisher says so.
    outcome: `stored`: the broker has it; `failed`: it could not be published; `dropped`, `delayed`: by a fault.
    """

    value: T
    subject: str
    service: str
    metadata: Mapping[str, str]
    key: str | None
    id: str | None
    body: bytes
    outcome: Literal["stored", "failed", "dropped", "delayed"]


@dataclass(slots=True, kw_only=True)
class Handled(Generic[T]):
    """A message that a handler has got, once: of an event that is retried there is one each time.

    value: what the handler got; of a batch a list.
    handler: its name, such as `orders.bill`.
    outcome: what has come of it: `done`, `failed` with an error, `cancelled`; `running`: that is not known yet.
    """

    value: T
    subject: str
    service: str
    handler: str
    metadata: Mapping[str, str]
    attempt: int
    outcome: Literal["running", "done", "failed", "cancelled"] = "running"
    error: BaseException | None = None


@dataclass(slots=True, kw_only=True)
class Called(Generic[Q, R]):
    """A call that a service, or the world's client, has made: one, however many attempts that took.

    service: who has called.
    reply: what came back; None while it runs, where it failed, and of a stream.
    error: why it failed.
    """

    request: Q
    reply: R | None = None
    error: BaseException | None = None
    endpoint: str
    service: str
    metadata: Mapping[str, str]
    outcome: Literal["running", "done", "failed", "cancelled"] = "running"


@dataclass(slots=True, kw_only=True)
class Dead(Generic[T]):
    """An event that was given up.

    subject: where it was published.
    queue: whose event it was.
    attempts: how often it was delivered.
    """

    subject: str
    queue: str
    reason: str
    attempts: int
    metadata: Mapping[str, str]
    body: bytes
    read: Callable[[], T] = field(repr=False)

    @property
    def value(self) -> T:
        """The event.

        Raises:
            DecodeError: it is not of its topic's type, which may be why it was given up.
        """
        return self.read()


@dataclass(slots=True)
class Sent:
    """A message on the wire, and what became of it."""

    service: str
    message: Message
    outcome: Literal["stored", "failed", "dropped", "delayed"] = "stored"


@dataclass(slots=True)
class Journal:
    """All that was seen, in its order.

    bodies: of events that are too large for the broker, by the name of the object.
    exchanged: requests and what answered them, as they were on the wire.
    """

    sent: list[Sent] = field(default_factory=list)
    letters: list[Sent] = field(default_factory=list)
    handled: list[Handled[Any]] = field(default_factory=list)
    called: list[Called[Any, Any]] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    exchanged: list[Example] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sent) + len(self.letters) + len(self.handled) + len(self.called)
