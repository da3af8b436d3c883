"""Calls on their way: one reply inbox, counter tokens, one sweep for all the timeouts.

Nothing here is made per call but its outcome: no subscription, no timer, no random number, no header.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from eventmicro.broker import Broker, StoresRequests, Subscription, sends_at_once
from eventmicro.errors import CallTimeout, EventMicroError
from eventmicro.lifetime import check_home
from eventmicro.message import Delivery, Message
from eventmicro.rpc.outcome import Outcome
from eventmicro.wire import DESCRIPTION, STATUS, STORED, budget, cancel_subject, with_budget

# How late a timeout may be noticed, in seconds; with very many calls waiting it grows by a microsecond a call.
SWEEP = 0.01
# By how much less or more time than the last one a call may have, in seconds, to say the same of it.
ALIKE = 0.0005
# How long who gives a call up waits for its service to be told that, where the broker takes nothing, in seconds.
SOON = 0.1
# How long the end waits for services to be told that nobody waits for their replies, in seconds.
MOMENT = 1.0
# The outcome of a call to which no reply came in time.
NO_REPLY: Any = object()


class Caller:
    """Sends requests and hands each its reply. Lives from the first call on a connection until `close`.

    subscription: what brings the replies; where it has ended none can arrive, because the broker was closed meanwhile.
    """

    subscription: Subscription

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._inbox = broker.inbox() + "."
        self._numbers = count(1)
        self._seconds, self._budget = -1.0, ""
        self._waiting: dict[str, Outcome] = {}  # by the reply subject
        self._notes: dict[str, str] = {}  # what is known of why no reply comes
        self._sweeper: asyncio.TimerHandle | None = None
        self._try_send = None if (able := sends_at_once(broker)) is None else able.try_send
        self._storage = broker if isinstance(broker, StoresRequests) else None
        self._looking: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen for replies.

        Raises:
            Disconnected: the broker is not connected.
        """
        self.subscription = await self._broker.subscribe(self._inbox + ">", self)

    def begin(
        self,
        endpoint: str,
        body: bytes,
        headers: dict[str, str] | None,
        seconds: float,
        deadline: float,
    ) -> Outcome | None:
        """Send a request where that has nothing to wait for: its outcome to be; None: `request` does it.

        The outcome is the reply, or NO_REPLY. Whoever waits no more for it, and whoever gets NO_REPLY, says `give_up`.

        Args:
            seconds, deadline: how long the call waits, and until when, in `time.monotonic()` seconds.

        Raises:
            MessageTooLarge: over the broker's limit.
        """
        if self._try_send is None:
            return None
        if not -ALIKE < seconds - self._seconds < ALIKE:
            self._seconds, self._budget = seconds, budget(seconds)
        call = f"{self._inbox}{next(self._numbers)}{self._budget}"
        return self._wait(call, endpoint, deadline) if self._try_send(endpoint, body, headers, call) else None

    async def request(self, service: str, message: Message, deadline: float) -> Delivery:
        """Send a request and wait for its reply until `deadline`, in `time.monotonic()` seconds.

        Raises:
            CallTimeout: no reply came in time.
            TransportError: the broker did not take the request.
        """
        check_home(self._loop, "client")
        started = time.monotonic()
        call = message.reply = with_budget(f"{self._inbox}{next(self._numbers)}", deadline - started)
        reply = self._wait(call, message.subject, deadline)
        try:
            async with asyncio.timeout(deadline - started):
                await self._broker.send(message)
            outcome = await reply
        except TimeoutError:  # the broker has still not taken it
            outcome = NO_REPLY
        except asyncio.CancelledError:
            await self.give_up(service, call)
            raise
        finally:
            self._waiting.pop(call, None)
        if outcome is NO_REPLY:
            raise await self.timed_out(service, message.subject, call, started)
        assert isinstance(outcome, Delivery)
        return outcome

    async def timed_out(self, service: str, endpoint: str, call: str, started: float) -> CallTimeout:
        """Give a call up to which no reply came in time, and return its error."""
        note = self._notes.get(call, "") or ("" if self._broker.online else f"{self._broker.url} is away")
        await self.give_up(service, call)
        return timed_out(endpoint, time.monotonic() - started, note).as_received()

    async def give_up(self, service: str, call: str) -> None:
        """Tell the service that nobody waits any more, so that it stops working on the call. Who gives it up waits a
        moment at the most where the broker takes nothing.
        """
        self.forget(call)
        subject, body = cancel_subject(service), call.encode()
        with suppress(EventMicroError):  # the connection is away, and with it the request or its reply
            if self._try_send is not None and self._try_send(subject, body):
                return
        telling = self._loop.create_task(self._tell(Message(subject, body)))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        await asyncio.wait([telling], timeout=SOON)

    async def _tell(self, message: Message) -> None:
        with suppress(EventMicroError):
            await self._broker.send(message)

    def forget(self, call: str) -> None:
        """Nobody waits for its outcome any more."""
        self._waiting.pop(call, None)
        self._notes.pop(call, None)

    async def close(self) -> None:
        """Listen no more; whoever still waits gets a timeout at once."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for reply in list(self._waiting.values()):
            reply.set(NO_REPLY, at_once=False)
        await asyncio.sleep(0)  # who has waited gives the call up now, which may have to be awaited
        if self._telling:
            await asyncio.wait(self._telling, timeout=MOMENT)
        beside = self._looking | self._telling
        for each in beside:
            each.cancel()
        if beside:
            await asyncio.wait(beside)
        await self.subscription.drain()

    def __len__(self) -> int:
        return len(self._waiting)

    # -- replies -----------------------------------------------------------------------------------------------

    def __call__(self, delivery: Delivery) -> None:
        """Take a reply."""
        self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> None:
        """Take replies that came together."""
        waiting, at_once = self._waiting, asyncio.current_task(self._loop) is None
        while line:  # who goes on with its reply may end what waits here
            delivery = line.popleft()
            reply = waiting.pop(delivery.subject, None)
            if reply is None:  # it comes too late, or twice
                continue
            if delivery.headers is not None and self._may_be_stored(reply, delivery):
                continue
            if self._notes:
                self._notes.pop(reply.call, None)
            reply.set(delivery, at_once)

    def next_deadline(self) -> float | None:
        """When the first call ends that waits, if it gets no reply; None: none waits."""
        return min((reply.deadline for reply in self._waiting.values()), default=None)

    def _wait(self, call: str, endpoint: str, deadline: float) -> Outcome:
        reply = self._waiting[call] = Outcome(self._loop, call, endpoint, deadline)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self.sweep)
        return reply

    def sweep(self) -> None:
        """End what is over its deadline; go on while anything waits."""
        now = time.monotonic()
        for reply in list(self._waiting.values()):
            if reply.deadline <= now:
                reply.set(NO_REPLY, at_once=False)
        self._sweeper = None
        if self._waiting:
            self._sweeper = self._loop.call_later(max(SWEEP, len(self._waiting) * 1e-6), self.sweep)

    # -- what stores requests ----------------------------------------------------------------------------------

    def _may_be_stored(self, expected: Outcome, delivery: Delivery) -> bool:
        """Whether it may be a confirmation that something stores the request, which is then found out."""
        if self._storage is None or delivery.headers is None or delivery.headers.get(STATUS) != STORED:
            return False
        self._waiting[expected.call] = expected  # its reply may be on its way yet
        looking = asyncio.create_task(self._look(self._storage, expected, delivery))
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)
        return True

    async def _look(self, storage: StoresRequests, expected: Outcome, delivery: Delivery) -> None:
        """Find out whether it is a confirmation of what stores the request, or the service's reply that looks so."""
        headers = dict(delivery.headers or {})
        headers.pop(STATUS)
        store, call, endpoint = headers.pop(DESCRIPTION, ""), expected.call, expected.endpoint
        self._notes[call] = (
            f"{store} confirmed something, perhaps that it stores {endpoint}, and that cannot be looked up here"
        )
        stores = await storage.stores([endpoint])
        if call not in self._waiting:  # it has its outcome meanwhile
            self._notes.pop(call, None)
        elif stores is not None and store in stores.get(endpoint, ()):
            self._notes[call] = stored_call(store, endpoint)
        elif stores is not None:
            self._notes.pop(call, None)
            delivery.headers = headers or None
            self(delivery)


MEND = "take the subject out of it, or name the endpoint otherwise"


def stored(store: str, subjects: Sequence[str]) -> str:
    """What is wrong where something stores calls, and how to mend it."""
    return f"{_stores(store, subjects)}; {MEND}"


def stored_call(store: str, endpoint: str) -> str:
    """The same for a caller, who may have called what is no endpoint at all."""
    return f"{_stores(store, [endpoint])}; where that is a topic, publish to it; else {MEND}"


def _stores(store: str, subjects: Sequence[str]) -> str:
    return f"{store} stores {', '.join(subjects)} as if it were events, and no caller is told where nobody serves it"


def timed_out(endpoint: str, elapsed: float, note: str = "") -> CallTimeout:
    """The timeout of a call, with what a person needs to find out why."""
    error = CallTimeout(f"no reply from {endpoint} within {elapsed:.3f} s{note and '; '}{note}", id=endpoint)
    error.elapsed = elapsed
    return error
