"""Calls on their way: one reply inbox, counter tokens, one sweep for all the timeouts.

Nothing here is made per call but a future: no subscription, no timer, no random number, no header.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from eventmicro.broker import Broker, StoresRequests, Subscription
from eventmicro.errors import CallTimeout, EventMicroError
from eventmicro.message import Delivery, Message
from eventmicro.wire import DESCRIPTION, STATUS, STORED, cancel_subject, with_budget

# How late a timeout may be noticed, in seconds; with very many calls waiting it grows by a microsecond a call.
SWEEP = 0.01


class Caller:
    """Sends requests and hands each its reply. Lives from the first call on a connection until `close`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._inbox = broker.inbox() + "."
        self._numbers = count(1)
        self._waiting: dict[str, _Waiting] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._subscription: Subscription | None = None
        self._storage = broker if isinstance(broker, StoresRequests) else None
        self._looking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen for replies.

        Raises:
            Disconnected: the broker is not connected.
        """
        self._subscription = await self._broker.subscribe(self._inbox + ">", self._receive)

    @property
    def ended(self) -> bool:
        """Whether replies can no longer arrive, because the broker was closed meanwhile."""
        return self._subscription is None or self._subscription.ended

    async def request(self, service: str, message: Message, deadline: float) -> Delivery:
        """Send a request and wait for its reply until `deadline`, in `time.monotonic()` seconds.

        Raises:
            CallTimeout: no reply came in time.
            TransportError: the broker did not take the request.
        """
        started = time.monotonic()
        call = with_budget(str(next(self._numbers)), deadline - started)
        message.reply = self._inbox + call
        waiting = self._waiting[call] = _Waiting(
            message.subject, self._loop.create_future(), deadline, asyncio.current_task()
        )
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        try:
            await self._broker.send(message)
            waiting.be_sent()
            delivery = await waiting.reply
        except asyncio.CancelledError:
            await self._give_up(service, message.reply)
            if waiting.stop_being_late():
                raise timed_out(message.subject, time.monotonic() - started, waiting.note) from None
            raise
        finally:
            self._waiting.pop(call, None)
        if delivery is not None:
            return delivery
        await self._give_up(service, message.reply)
        raise timed_out(message.subject, time.monotonic() - started, waiting.note)

    async def close(self) -> None:
        """Listen no more; whoever still waits gets a timeout at once."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiting in list(self._waiting.values()):
            waiting.end(None)
        for looking in self._looking:
            looking.cancel()
        if self._looking:
            await asyncio.wait(self._looking)
        if self._subscription is not None:
            await self._subscription.drain()

    def __len__(self) -> int:
        return len(self._waiting)

    def _receive(self, delivery: Delivery) -> None:
        waiting = self._waiting.get(delivery.subject[len(self._inbox) :])
        if waiting is None:
            return
        headers = delivery.headers
        if headers is not None and headers.get(STATUS) == STORED and self._storage is not None:
            looking = asyncio.create_task(self._look(self._storage, waiting, delivery))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)
        else:
            waiting.end(delivery)

    async def _look(self, storage: StoresRequests, waiting: _Waiting, delivery: Delivery) -> None:
        """Find out whether it is a confirmation of what stores the request, or the service's reply that looks so."""
        headers = dict(delivery.headers or {})
        headers.pop(STATUS)
        store, endpoint = headers.pop(DESCRIPTION, ""), waiting.endpoint
        waiting.note = (
            f"{store} confirmed something, perhaps that it stores {endpoint}, and that cannot be looked up here"
        )
        stores = await storage.stores([endpoint])
        if stores is None:
            return
        if store in stores.get(endpoint, ()):
            waiting.note = stored(store, [endpoint])
        else:
            delivery.headers = headers or None
            waiting.end(delivery)

    def _sweep(self) -> None:
        """End what is over its deadline; go on while anything waits."""
        now = time.monotonic()
        for waiting in list(self._waiting.values()):
            if waiting.deadline <= now:
                waiting.be_late()
        self._sweeper = None
        if self._waiting:
            self._sweeper = self._loop.call_later(max(SWEEP, len(self._waiting) * 1e-6), self._sweep)

    async def _give_up(self, service: str, reply: str) -> None:
        """Tell the service that nobody waits any more, so that it stops working on the call."""
        with suppress(EventMicroError):  # the connection is away, and with it the request or its reply
            await self._broker.send(Message(cancel_subject(service), reply.encode()))


def stored(store: str, subjects: Sequence[str]) -> str:
    """What is wrong where something stores calls, and how to mend it."""
    return (
        f"{store} stores {', '.join(subjects)} as if it were events, and no caller is told where nobody serves it; "
        "take the subject out of it, or name the endpoint otherwise"
    )


def timed_out(endpoint: str, elapsed: float, note: str = "") -> CallTimeout:
    """The timeout of a call, with what a person needs to find out why."""
    error = CallTimeout(f"no reply from {endpoint} within {elapsed:.3f} s{note and '; '}{note}", id=endpoint)
    error.elapsed = elapsed
    return error


class _Waiting:
    """One call under way: first its sender waits for the broker to take the request, then for the reply.

    note: what is known of why no reply comes.
    """

    __slots__ = ("_late", "deadline", "endpoint", "note", "reply", "sender")

    def __init__(
        self,
        endpoint: str,
        reply: asyncio.Future[Delivery | None],
        deadline: float,
        sender: asyncio.Task[Any] | None,
    ) -> None:
        self.endpoint = endpoint
        self.note = ""
        self.reply = reply
        self.deadline = deadline
        self.sender = sender
        self._late = False

    def end(self, delivery: Delivery | None) -> None:
        """The call has its outcome; None where no reply came."""
        if not self.reply.done():
            self.reply.set_result(delivery)

    def be_sent(self) -> None:
        """The broker has taken the request; it may have done so in spite of being cancelled by `be_late`."""
        if self._late and self.sender is not None:
            self.sender.uncancel()
        self.sender = None

    def be_late(self) -> None:
        """The deadline has passed; a broker that has still not taken the request is not waited for either."""
        self.end(None)
        if self.sender is not None and not self._late:
            self._late = True
            self.sender.cancel()

    def stop_being_late(self) -> bool:
        """Whether a cancellation came from `be_late` alone, and not also from elsewhere."""
        return self._late and self.sender is not None and self.sender.uncancel() == 0
