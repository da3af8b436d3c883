"""Subscribers that are started while their service runs, and the handle by which they are paused and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from eventmicro.broker import Subscription
from eventmicro.context import find_context
from eventmicro.errors import UsageError
from eventmicro.events.subscriber import Subscriber

Subscribe = Callable[[], Awaitable[Subscription]]


class Pausable:
    """A subscription that can be taken back and taken up again: one for its node, several one after the other for the
    broker.

    Args:
        name: the subscriber's.
        subscribe: takes it up.
    """

    def __init__(self, name: str, subscribe: Subscribe) -> None:
        self._name = name
        self._subscribe = subscribe
        self._current: Subscription | None = None
        self._dropped = 0  # by those before
        self._is_over = False
        self._changing = asyncio.Lock()

    @property
    def is_paused(self) -> bool:
        """Whether it takes nothing, and may be taken up again."""
        return self._current is None and not self._is_over

    @property
    def dropped(self) -> int:
        """See `Subscription`, as the others here."""
        return self._dropped + (0 if self._current is None else self._current.dropped)

    @property
    def ended(self) -> bool:
        return self._is_over or (self._current is not None and self._current.ended)

    async def take(self) -> None:
        """Take what comes. Taken already: nothing happens.

        Raises:
            UsageError: it was drained, or its service has stopped.
        """
        async with self._changing:
            if self._is_over:
                raise UsageError(f"{self._name} was drained, or its service has stopped: start another subscriber")
            if self._current is None:
                self._current = await self._subscribe()

    async def pause(self) -> None:
        """Take no more for now; returns as `drain` does."""
        async with self._changing:
            current, self._current = self._current, None
            if current is not None:
                try:
                    await current.drain()
                finally:
                    self._dropped += current.dropped

    async def drain(self) -> None:
        self._is_over = True
        await self.pause()


class RunningSubscriber:
    """A subscriber that was started while its service ran, by `service.start_subscriber`. It ends with the service, by
    `drain`, or behind its block: `async with await service.start_subscriber(...)`.

    Args:
        subscriber: what handles its events.
        subscription: where they come from.
        patience: how long what is left is waited for, in seconds, before it is cut off.
        forget: takes it out of the node.
    """

    def __init__(
        self, subscriber: Subscriber, subscription: Pausable, patience: float, forget: Callable[[], Awaitable[None]]
    ) -> None:
        self._subscriber = subscriber
        self._subscription = subscription
        self._patience = patience
        self._forget = forget

    @property
    def name(self) -> str:
        """Its name, `orders.bill`."""
        return self._subscriber.name

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._subscription.is_paused

    async def pause(self) -> None:
        """Take no more events until `resume`; handlers that run go on. Paused already: nothing happens.

        A durable queue keeps its events, and other instances may take them, those included that were on their way here.
        Without `durable` what is published meanwhile is missed.
        """
        await self._take_no_more(self._subscription.pause())

    async def resume(self) -> None:
        """Take events again. Not paused: nothing happens.

        Raises:
            UsageError: it was drained, or its service has stopped.
            Disconnected: the broker is closed.
        """
        await self._subscription.take()

    async def drain(self) -> None:
        """End it: take no more events, and wait for the handlers that run, up to the service's `stop_timeout`; then
        they are cut off. A durable queue stays. A handler of its own that calls this is not waited for.

        It is no more in the record, health and statistics of its service.
        """
        if (message := find_context()) is not None:
            self._subscriber.inflight.leave_alone(message)
        try:
            await self._take_no_more(self._subscription.drain())
            async with asyncio.timeout(self._patience):
                await self._subscriber.finish()
        except TimeoutError:
            pass
        finally:
            await self._subscriber.cut_off()
            await self._forget()

    async def _take_no_more(self, ending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await ending
        except TimeoutError:  # no handler has had room for what is left, which goes with the subscription
            pass
        await self._subscriber.give_back()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain()
