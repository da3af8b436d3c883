"""All streams of one client or one node: each frame finds its stream, and who is silent for too long is lost."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from eventmicro.broker import Broker, Receive, Subscription
from eventmicro.errors import EventMicroError
from eventmicro.message import Delivery
from eventmicro.rpc.streams.channel import SIGNS, Channel
from eventmicro.rpc.streams.credit import window_bytes
from eventmicro.rpc.streams.frames import FrameError, read_frame

log = logging.getLogger(__name__)

# How often, within the shortest keep-alive of its streams, all of them are looked at.
LOOKS = 2 * SIGNS
# How long a close waits for what is being sent, in seconds.
MOMENT = 1.0


def any_number() -> int:
    """53 bits at random, which is what all readers of JSON keep of a number."""
    return int.from_bytes(os.urandom(7), "big") >> 3


class Streams:
    """Lives from the first stream of a connection to its `close`.

    Args:
        address: the subject on which frames come.
    """

    def __init__(self, broker: Broker, address: str) -> None:
        self.broker = broker
        self.address = address
        self._channels: dict[int, Channel] = {}
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.TimerHandle | None = None
        self._subscription: Subscription | None = None
        self._beside: set[asyncio.Task[None]] = set()
        self._unreadable = 0

    async def open(self, subject: str = "", receive: Receive | None = None) -> None:
        """Listen for frames.

        Args:
            subject, receive: what to subscribe to, and by what, where more than frames is to come.

        Raises:
            Disconnected: the broker is not connected.
        """
        self._subscription = await self.broker.subscribe(subject or self.address, receive or self)

    @property
    def ended(self) -> bool:
        """Whether nothing can come any more, because the broker was closed meanwhile."""
        return self._subscription is None or self._subscription.ended

    def add(self, channel: Channel) -> int:
        """One more; its number, which nobody can guess: who has one stream reaches no other one here."""
        number = any_number()
        while not number or number in self._channels:
            number = any_number()
        self._channels[number] = channel
        self._look_within(channel.keep_alive / LOOKS)
        return number

    def remove(self, channel: Channel) -> None:
        """It awaits nothing any more."""
        self._channels.pop(channel.number, None)

    def window(self) -> int:
        """How many bytes may be on their way to each."""
        return window_bytes(len(self._channels))

    def find(self, number: int) -> Channel | None:
        """The stream of this number."""
        return self._channels.get(number)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._channels)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside, until the close at the longest."""
        task = self._loop.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    async def close(self, why: Callable[[], EventMicroError] | None = None) -> None:
        """Give up those that there are, or end them by that error, and listen no more."""
        for channel in list(self._channels.values()):
            if why is None:
                channel.cancel()
            else:
                channel.fail(why())
        await self._end_beside()
        if self._looking is not None:
            self._looking.cancel()
        if self._subscription is not None:
            await self._subscription.drain()

    async def _end_beside(self) -> None:
        """Wait a moment for what is being sent, and for what follows it, and cancel the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                while self._beside:
                    await asyncio.wait(set(self._beside))
        late = set(self._beside)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # -- frames ------------------------------------------------------------------------------------------------

    def __call__(self, delivery: Delivery) -> None:
        """Take a frame."""
        self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> None:
        """Take frames that came together."""
        channels = self._channels
        while line:
            try:
                frame = read_frame(line.popleft().body)
            except FrameError as error:
                self._tell_unreadable(error)
                continue
            channel = channels.get(frame.stream)
            if channel is not None:  # else it is over, and what its other side has sent meanwhile still comes
                channel.receive(frame)

    def _tell_unreadable(self, error: FrameError) -> None:
        """Its stream, if it is one's, misses its number at the next."""
        self._unreadable += 1
        if self._unreadable & (self._unreadable - 1) == 0:  # at the first, the second, the fourth …
            log.warning("%s: %d frames could not be read, the last as %s", self.address, self._unreadable, error)

    # -- signs of life -----------------------------------------------------------------------------------------

    def _look_within(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._looking is None or self._looking.when() > due:
            if self._looking is not None:
                self._looking.cancel()
            self._looking = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """Let hear something of those that have sent nothing for a while, and give up those that were not heard of."""
        assert self._looking is not None
        now = self._loop.time()
        blocked = now - self._looking.when()  # nothing was read meanwhile, whatever had come
        self._looking = None
        for channel in list(self._channels.values()):
            if not channel.outgoing.address:
                continue  # it is being opened, within a time of its own
            if now - channel.heard_at - blocked > channel.keep_alive:
                channel.lose()
            elif now - channel.outgoing.sent_at > channel.keep_alive / SIGNS:
                channel.outgoing.ping()
        if self._channels:
            self._look_within(min(channel.keep_alive for channel in self._channels.values()) / LOOKS)
