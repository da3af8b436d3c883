"""Calls on their way: one reply inbox, counter tokens, one sweep for all the timeouts.

Nothing here is made per call but a future: no subscription, no timer, no random number, no header.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count

from eventmicro.broker import Broker, Subscription
from eventmicro.errors import CallTimeout, EventMicroError
from eventmicro.message import Delivery, Message
from eventmicro.wire import cancel_subject, with_budget

# How late a timeout may be noticed, in seconds; with very many calls waiting it grows by a microsecond a call.
SWEEP = 0.01


class Caller:
    """Sends requests and hands each its reply. Lives from the first call on a connection until `close`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._inbox = broker.inbox() + "."
        self._numbers = count(1)
        self._waiting: dict[str, tuple[asyncio.Future[Delivery | None], float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Listen for replies.

        Raises:
            Disconnected: the broker is not connected.
        """
        self._subscription = await self._broker.subscribe(self._inbox + ">", self._receive)

    async def request(self, service: str, message: Message, deadline: float) -> Delivery:
        """Send a request and wait for its reply until `deadline`, in `time.monotonic()` seconds.

        Raises:
            CallTimeout: no reply came in time.
            TransportError: the broker did not take the request.
        """
        started = time.monotonic()
        call = with_budget(str(next(self._numbers)), deadline - started)
        message.reply = self._inbox + call
        reply: asyncio.Future[Delivery | None] = self._loop.create_future()
        self._waiting[call] = reply, deadline
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        try:
            await self._broker.publish(message)
            delivery = await reply
        except asyncio.CancelledError:
            await self._give_up(service, message.reply)
            raise
        finally:
            self._waiting.pop(call, None)
        if delivery is not None:
            return delivery
        await self._give_up(service, message.reply)
        raise timed_out(message.subject, time.monotonic() - started)

    async def close(self) -> None:
        """Listen no more; whoever still waits gets a timeout at once."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for reply, _ in list(self._waiting.values()):
            _end(reply, None)
        if self._subscription is not None:
            await self._subscription.drain()

    def __len__(self) -> int:
        return len(self._waiting)

    def _receive(self, delivery: Delivery) -> None:
        waiting = self._waiting.get(delivery.subject[len(self._inbox) :])
        if waiting is not None:
            _end(waiting[0], delivery)

    def _sweep(self) -> None:
        """End what is over its deadline; go on while anything waits."""
        now = time.monotonic()
        for reply, deadline in list(self._waiting.values()):
            if deadline <= now:
                _end(reply, None)
        self._sweeper = None
        if self._waiting:
            self._sweeper = self._loop.call_later(max(SWEEP, len(self._waiting) * 1e-6), self._sweep)

    async def _give_up(self, service: str, reply: str) -> None:
        """Tell the service that nobody waits any more, so that it stops working on the call."""
        with suppress(EventMicroError):  # the connection is away, and with it the request or its reply
            await self._broker.publish(Message(cancel_subject(service), reply.encode()))


def timed_out(endpoint: str, elapsed: float) -> CallTimeout:
    """The timeout of a call, with what a person needs to find out why."""
    error = CallTimeout(f"no reply from {endpoint} within {elapsed:.3f} s", id=endpoint)
    error.elapsed = elapsed
    return error


def _end(reply: asyncio.Future[Delivery | None], delivery: Delivery | None) -> None:
    if not reply.done():
        reply.set_result(delivery)
