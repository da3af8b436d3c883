"""Targets: the exchanges that are published to, made when they are needed, and not too soon where they were deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from eventmicro.errors import NotStored, TransportError, UsageError
from eventmicro_rabbitmq.connection.connection import Connection, end_task
from eventmicro_rabbitmq.connection.kept import KeptChannel
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.errors import DriverError, plain
from eventmicro_rabbitmq.places import RabbitExchange
from eventmicro_rabbitmq.publisher import Publisher

log = logging.getLogger(__name__)


class Target:
    """An exchange that is published to: made when it is first needed, and again where somebody has deleted it.

    Not at once then, nor is it published to where a subscriber has made it again: what the queues of the others, that
    are not bound yet, should have got would be confirmed and go nowhere.

    Args:
        exchange: which one; None: that of the settings.
        patience: how long they may take, in seconds.
        on_made: called when it is there for the first time on a connection.
    """

    def __init__(
        self, declarer: Declarer, exchange: RabbitExchange | None, patience: float, on_made: Callable[[], None]
    ) -> None:
        self._declarer = declarer
        self._exchange = exchange or declarer.events
        self._patience = patience
        self._on_made = on_made
        self._made_on: Connection | None = None
        self._gone_since: float | None = None

    async def prepare(self, connection: Connection) -> None:
        """Have it, as far as that is to be; called before each channel that publishes to it.

        Raises:
            NotStored: it was deleted, and its subscribers are just binding their queues to it.
        """
        if connection is self._made_on:
            await self._wait_for_subscribers(connection)
        await self._declarer.exchange(connection, self._exchange)
        self._made_on, self._gone_since = connection, None
        self._on_made()

    async def look(self, connection: Connection, kept: KeptChannel) -> bool:
        """See whether it has gone since it was made; whether it has, and until it is made again.

        Raises:
            TransportError, UsageError, DriverError: RabbitMQ does not say it.
        """
        if self._made_on is not connection or not self._declarer.remakes(self._exchange):
            return False
        if self._gone_since is not None:
            return True
        if await kept.has_exchange(connection, self._exchange.name):
            return False
        self._note_gone()
        log.warning(
            "no exchange %r, somebody has deleted it; nothing is published to it for %g s, until its subscribers have "
            "bound their queues",
            self._exchange.name,
            self._patience,
        )
        return True

    def _note_gone(self) -> None:
        self._gone_since = asyncio.get_running_loop().time()
        self._declarer.forget(self._exchange.name)

    async def _wait_for_subscribers(self, connection: Connection) -> None:
        if self._gone_since is None and not await self._declarer.stands(connection, self._exchange):
            self._note_gone()
        now = asyncio.get_running_loop().time()
        left = 0.0 if self._gone_since is None else self._gone_since + self._patience - now
        if left > 0:
            raise NotStored(
                f"no exchange {self._exchange.name!r}, somebody has deleted it; it is published to again in "
                f"{left:.1f} s, when its subscribers have bound their queues"
            )


class Targets:
    """Looks whether what is published to is still there: who publishes nothing while it is gone would not know it.

    Twice as often as subscriptions are looked after: what they make again was gone for longer. One question each.

    Args:
        link: the connection of the publishers.
        publishers: those that there are, each with its target.
        every: how often, in seconds.
        timeout: how long the server may take to answer, in seconds.
    """

    def __init__(self, link: Link, publishers: Mapping[Publisher, Target], every: float, timeout: float) -> None:
        self._link = link
        self._publishers = publishers
        self._every = every
        self._kept = KeptChannel(timeout)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def begin(self) -> None:
        """Look from now on, until `close`."""
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run(), name="eventmicro rabbitmq targets")

    async def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._task is not None:
            await end_task(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.look()
            except (TransportError, UsageError, *DriverError) as error:  # asked again; who publishes hears of it, too
                log.debug("exchanges that are published to could not be looked at: %s", plain(error))
            except Exception:  # it never should; it is asked again
                log.exception("exchanges that are published to could not be looked at")

    async def look(self) -> None:
        """Look once; what is gone is told each time, as a publisher with something on its way keeps its channel."""
        connection = await self._link.wait()
        for target in dict.fromkeys(self._publishers.values()):
            if await target.look(connection, self._kept):
                for publisher in [each for each, its in self._publishers.items() if its is target]:
                    await publisher.begin_anew()
