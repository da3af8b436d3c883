"""Consumer: takes a queue's events on a channel of its own, and does so again whenever that has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from itertools import count

from eventmicro.errors import TransportError
from eventmicro_rabbitmq.connection.channel import Channel, answered, close_channel, open_channel
from eventmicro_rabbitmq.connection.connection import Connection, end_task
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.errors import DriverError, plain

log = logging.getLogger(__name__)

# Each consumer of a channel needs a name of its own: of one that has been another's before, whose events are not
# settled, RabbitMQ 4 keeps the prefetch, and 3 ends the connection.
TAG = "eventmicro"
# How long the server may take to answer that it sends no more, in seconds.
LEAVE_TIMEOUT = 3.0
# How long to wait before what failed is tried again, in seconds: at first, and at most.
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
# A consumer that is ended within so many seconds is not taken up again at once: it may be ended each time.
SHORT_LIFE = 3.0


class StandsStill(ConnectionError):
    """We have ended the channel."""


class Consumer:
    """A consumer from `open` to `close`, over all the channels that it has in this time.

    Args:
        name: what it takes from, for the log, and `fields`, the same as attributes of its lines.
        prefetch: how many events that are not settled it may hold; it may be set anew before it begins.
        timeout: how long the server may take to let it consume, in seconds.
        prepare: makes what it needs, and says the queue.
        take: called with the events that came together.
        on_ended: called when a channel has ended, and all that came on it is lost here.
        on_begun: called with a channel when it consumes.
        no_ack: whether RabbitMQ takes all that it sends for settled; it then sends as fast as it can.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        prefetch: int,
        timeout: float,
        prepare: Callable[[Channel], Awaitable[str]],
        take: Callable[[list[Event]], None],
        on_ended: Callable[[], None],
        on_begun: Callable[[Channel], None] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        no_ack: bool = False,
    ) -> None:
        self.channel: Channel | None = None
        self._numbers = count()
        self._tags: dict[str, int] = {}  # how many events each of the channel's consumers may hold
        self._link = link
        self._name = name
        self._fields = fields or {}
        self.prefetch = prefetch
        self._timeout = timeout
        self._prepare = prepare
        self._take = take
        self._on_ended = on_ended
        self._on_begun = on_begun
        self._no_ack = no_ack
        self._gone = asyncio.Event()
        self._standing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._old: Channel | None = None

    async def open(self, connection: Connection) -> None:
        """Begin to consume.

        Raises:
            UsageError, Disconnected, TimeoutError, DriverError: it cannot.
        """
        await self._begin(connection)
        self._keeper = asyncio.create_task(self._keep(), name=f"eventmicro rabbitmq {self._name}")

    @property
    def last(self) -> Channel | None:
        """Its channel, also where that has just ended."""
        return self.channel or self._old

    @property
    def stood_still(self) -> bool:
        """Whether its channel was ended from here."""
        return self.last is not None and isinstance(self.last.why_ended, StandsStill)

    async def stands(self) -> None:
        """Return when it consumes."""
        await self._standing.wait()

    def begin_anew(self) -> None:
        """End the channel and take another one, as where the server has ended it."""
        if self.channel is not None:
            self.channel.end(StandsStill("it stands still"))

    async def hold(self, queue: str, prefetch: int) -> None:
        """Hold so many events: by a consumer more, or by fewer, as RabbitMQ changes none that there is.

        What came stays here. The first consumer is kept, so that not fewer than its events are held.
        """
        channel = self.channel
        if channel is None:
            self.prefetch = prefetch
            return
        try:
            async with answered(f"consumer of {self._name}", self._timeout):
                if (more := prefetch - sum(self._tags.values())) > 0:
                    await self._consume(channel, queue, more)
                while len(self._tags) > 1 and sum(self._tags.values()) > prefetch:
                    tag, _ = self._tags.popitem()
                    await channel.basic_cancel(tag)
        except (TransportError, *DriverError) as error:
            channel.end(error)
        self.prefetch = sum(self._tags.values())

    async def leave(self) -> None:
        """Get no more events; those that came can still be settled."""
        await self._stop_keeping()
        channel = self.channel
        if channel is None:
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                while self._tags:
                    await channel.basic_cancel(self._tags.popitem()[0])
        except (TimeoutError, *DriverError) as error:  # after which aiormq closes the channel
            log.warning("%s: left without the server's answer: %s", self._name, plain(error), extra=dict(self._fields))
            channel.end(error)

    async def close(self) -> None:
        """End the channel, when the server has got all settlements."""
        await self._stop_keeping()
        for channel in (self.channel, self._old):
            if channel is not None:
                await close_channel(channel)

    async def _stop_keeping(self) -> None:
        self._standing.set()  # nobody need wait for it any more
        if self._keeper is not None:
            await end_task(self._keeper)

    async def _begin(self, connection: Connection) -> None:
        channel = await open_channel(connection)
        try:
            queue = await self._prepare(channel)
            channel.check()
            self._gone.clear()
            self.channel = channel
            variables = copy_context()  # what is read comes among those of the task that has opened the socket
            channel.on_events = lambda events: variables.copy().run(self._take, events)
            channel.on_ended = self._ended
            self._tags.clear()
            await self._consume(channel, queue, self.prefetch)
            channel.check()
            if self._on_begun is not None:
                self._on_begun(channel)
        except BaseException:
            await close_channel(channel)
            raise
        self._standing.set()

    async def _consume(self, channel: Channel, queue: str, prefetch: int) -> None:
        tag = f"{TAG}.{next(self._numbers)}"
        async with answered(f"consumer of {self._name}", self._timeout):
            await channel.basic_qos(prefetch_count=prefetch)
            await channel.basic_consume(queue, _never_called, consumer_tag=tag, no_ack=self._no_ack)
        self._tags[tag] = prefetch

    def _ended(self, why: BaseException) -> None:
        self.channel, self._old = None, self.channel
        self._standing.clear()
        self._on_ended()
        self._gone.set()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        wait = 0.0
        while True:
            since = clock()
            await self._gone.wait()
            wait = min(max(wait * 2, FIRST_WAIT), LONGEST_WAIT) if clock() - since < SHORT_LIFE else 0.0
            old, self._old = self._old, None
            if old is not None and not old.link.lost.done():
                if not isinstance(old.why_ended, StandsStill):
                    why = plain(old.why_ended or ConnectionError("closed"))
                    log.warning(
                        "%s: RabbitMQ has ended the consumer, taking it up again: %s",
                        self._name,
                        why,
                        extra=dict(self._fields),
                    )
                await close_channel(old)
                await asyncio.sleep(wait)
            await self._begin_again()

    async def _begin_again(self) -> None:
        wait, said = FIRST_WAIT, ""
        while True:
            connection = await self._link.wait()
            try:
                await self._begin(connection)
                return
            except Exception as error:  # it may be mended yet
                if not connection.lost.done() and plain(error) != said:
                    said = plain(error)
                    log.error("%s: cannot consume, trying on: %s", self._name, said, extra=dict(self._fields))
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)


async def _never_called(_: object) -> None:
    """The channel hands events over itself."""
