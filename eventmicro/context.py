"""Context: what one message or call carries along besides its body."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import Context as Variables
from contextvars import ContextVar
from enum import StrEnum
from gc import get_referents
from threading import RLock
from typing import Any, Protocol

from eventmicro.errors import UsageError


class Side(StrEnum):
    """Where in a message's way some code runs; middleware may ask for one of them."""

    ENDPOINT = "endpoint"  # around the handler of a call
    SUBSCRIBER = "subscriber"  # around the handler of an event
    CLIENT = "client"  # around making a call
    PUBLISHER = "publisher"  # around publishing an event


class Settles(Protocol):
    """What settles the event of a subscriber's context, or the events of its batch."""

    async def ack(self, event: Any) -> None: ...
    async def nack(self, event: Any, delay: float | None) -> None: ...
    async def reject(self, event: Any, reason: str) -> None: ...


class Context:
    """What a message carries along; a handler takes it by parameter, any code below it by `current_context()`.

    side: where this is: in an endpoint, a subscriber, a client or a publisher.
    service, endpoint: what is called, on the endpoint's and the client's side; of a subscriber, its own names.
    topic: the subject the message was sent to, exact even where the subscription has wildcards.
    pattern: the subject as the code has it, where that has wildcards or named tokens, `logs.*`; else empty.
    metadata: the headers that came with the message; on the client's and the publisher's side those that will be sent.
    deadline: the moment in `time.monotonic()` seconds when nobody waits any more; None where nothing was said.
    ended: whether the handler has: a call in a task that it has left behind has its own time, whatever is the deadline.
    attempt: how many times this message has been delivered, counted by the broker.
    state: what the service's lifespan yielded.
    delivery, settles: what `ack`, `nack` and `reject` settle, and by what; None where there is nothing to settle.
    settled: whether one of these was called, and has not failed.
    reply: the type of the call's reply; Any where there is none, or it is not known.
    is_stream: whether it is a stream: what a middleware gets of `call_next` is then what its messages are read from.
    is_batch: whether it is about several events at once; `delivery` is then a list.
    answers_with: the metadata of the reply, where somebody has asked for `reply_metadata`.
    """

    __slots__ = (
        "answers_with",
        "attempt",
        "deadline",
        "delivery",
        "ended",
        "endpoint",
        "metadata",
        "pattern",
        "reply",
        "service",
        "settled",
        "settles",
        "side",
        "state",
        "topic",
    )
    is_stream = False
    is_batch = False

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
        delivery: Any = None,
        settles: Settles | None = None,
        reply: Any = Any,
        pattern: str = "",
    ) -> None:
        self.side = side
        self.service = service
        self.endpoint = endpoint
        self.topic = topic
        self.metadata: dict[str, str] = {} if metadata is None else metadata
        self.deadline = deadline
        self.attempt = attempt
        self.state = state
        self.delivery = delivery
        self.settles = settles
        self.reply = reply
        self.pattern = pattern
        self.answers_with: dict[str, str] | None = None
        self.settled = self.ended = False

    @property
    def directed(self) -> bool:
        """Whether this is a call that its client directs to a node which it chooses."""
        return False

    @property
    def id(self) -> str:
        """What names the event in its durable queue, the same at each attempt; empty elsewhere."""
        return getattr(self.delivery, "id", "")

    @property
    def reply_metadata(self) -> dict[str, str]:
        """The metadata that the reply of this endpoint gets, or its error: set what its caller is to see.

        Raises:
            UsageError: there is no reply here that could have any: no call, or a stream.
        """
        if self.side is not Side.ENDPOINT or self.is_stream:
            what = "a stream" if self.is_stream else f"the side {self.side}"
            raise UsageError(f"{what} has no reply with metadata: send it as a field of your model")
        if self.answers_with is None:
            self.answers_with = {}
        return self.answers_with

    async def ack(self) -> None:
        """Settle the event: it is dealt with. The first settlement counts, later ones do nothing.

        Raises:
            UsageError: there is nothing to settle here: no event, or its queue is not durable.
        """
        await self._settle(lambda settles: settles.ack(self.delivery))

    async def nack(self, delay: float | None = None) -> None:
        """Settle the event: deliver it again, in `delay` seconds; default: as the subscriber's `retry` says.

        After the last attempt that `retry` allows it is given up. Raises as `ack`, and where the delay is none.
        """
        await self._settle(lambda settles: settles.nack(self.delivery, delay))

    async def reject(self, reason: str = "") -> None:
        """Settle the event: give it up, into the dead letters, with this reason. Raises as `ack`."""
        await self._settle(lambda settles: settles.reject(self.delivery, reason))

    async def _settle(self, how: Callable[[Settles], Awaitable[None]]) -> None:
        if self.settles is None:
            raise UsageError("there is no event of a durable queue here, so there is nothing to settle")
        if self.settled:
            return
        self.settled = True
        try:
            await how(self.settles)
        except BaseException:  # cut off, by a timeout perhaps: how the handler ends settles it
            self.settled = False
            raise

    @property
    def came_with(self) -> dict[str, str] | None:
        """As `metadata`, for those who only pass it on."""
        return self.metadata

    def remaining(self) -> float | None:
        """The seconds left until the deadline, never below 0; None where there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


class Received(Context):
    """The context of a message that came, filled in at the first look at it: most handlers never look.

    Args:
        came: the message.
        fill: fills it in, by `Context.__init__`, and is None from then on; what somebody has set before the first look
            stays as it is.
    """

    __slots__ = ("came", "fill")

    def __init__(self, came: Any, fill: Callable[[Received], None]) -> None:
        self.came = came
        self.settled = False
        self.fill: Callable[[Received], None] | None = fill

    @property
    def came_with(self) -> dict[str, str] | None:
        """None where there is none, so that nothing is filled in for it."""
        return self.metadata if self.fill is None or self.came.headers else None

    def __getattr__(self, name: str) -> Any:
        """What is not set yet, and so not filled in."""
        if name == "fill":
            raise AttributeError(name)
        with _filling:  # threads that the handler has started may look first at the same time
            fill, self.fill = self.fill, None
            if fill is not None:
                settled, set_before = self.settled, self._set_before()
                fill(self)
                self.settled = settled
                for other, value in set_before.items():
                    setattr(self, other, value)
        return object.__getattribute__(self, name)

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        """What a copy of it holds, and what is pickled."""
        return None, {name: getattr(self, name) for name in Context.__slots__} | {"fill": None}

    def _set_before(self) -> dict[str, Any]:
        """What somebody has set though nothing is filled in; to ask each attribute costs more than all to fill."""
        if len(get_referents(self)) == _UNTOUCHED:
            return {}
        return {name: getattr(self, name) for name in Context.__slots__ if hasattr(self, name)}


# To what one refers in which nothing is set but by itself: its class, the message, `settled` and `fill`.
_UNTOUCHED = 4
_filling = RLock()
_current: ContextVar[Context | None] = ContextVar("eventmicro_context", default=None)
enter_context = _current.set
find_context: Callable[[], Context | None] = _current.get
"""The context of the message being handled; None outside a handler."""


def context_in(variables: Variables) -> Context | None:
    """The context of the message that is handled with these variables; None where they are of no handler."""
    return variables.get(_current)


def current_context() -> Context:
    """The context of the message being handled.

    Raises:
        UsageError: no message is being handled here.
    """
    context = _current.get()
    if context is None:
        raise UsageError("current_context() was called outside a handler: there is no message here")
    return context
