"""Context: what one message or call carries along besides its body."""

from __future__ import annotations

import time
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

from eventmicro.errors import UsageError


class Side(StrEnum):
    """Where in a message's way some code runs; middleware may ask for one of them."""

    ENDPOINT = "endpoint"  # around the handler of a call
    SUBSCRIBER = "subscriber"  # around the handler of an event
    CLIENT = "client"  # around making a call
    PUBLISHER = "publisher"  # around publishing an event


class Context:
    """What a message carries along; a handler takes it by parameter, any code below it by `current_context()`.

    side: where this is: in an endpoint, a subscriber, a client or a publisher.
    service, endpoint: what is called, on the endpoint's and the client's side; of a subscriber, its own names.
    topic: the subject the message was sent to, exact even where the subscription has wildcards.
    metadata: the headers that came with the message; on the client's and the publisher's side those that will be sent.
    deadline: the moment in `time.monotonic()` seconds when nobody waits any more; None where nothing was said.
    attempt: how many times this message has been delivered, counted by the broker.
    state: what the service's lifespan yielded.
    """

    __slots__ = ("attempt", "deadline", "endpoint", "metadata", "service", "side", "state", "topic")

    def __init__(
        self,
        side: Side,
        service: str = "",
        endpoint: str = "",
        topic: str = "",
        metadata: dict[str, str] | None = None,
        deadline: float | None = None,
        attempt: int = 1,
        state: Any = None,
    ) -> None:
        self.side = side
        self.service = service
        self.endpoint = endpoint
        self.topic = topic
        self.metadata: dict[str, str] = {} if metadata is None else metadata
        self.deadline = deadline
        self.attempt = attempt
        self.state = state

    def remaining(self) -> float | None:
        """The seconds left until the deadline, never below 0; None where there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


_current: ContextVar[Context | None] = ContextVar("eventmicro_context", default=None)
enter_context = _current.set


def find_context() -> Context | None:
    """The context of the message being handled; None outside a handler."""
    return _current.get()


def current_context() -> Context:
    """The context of the message being handled.

    Raises:
        UsageError: no message is being handled here.
    """
    context = _current.get()
    if context is None:
        raise UsageError("current_context() was called outside a handler: there is no message here")
    return context
