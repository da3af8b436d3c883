"""Upkeep: exchanges and bindings that somebody deletes under a subscription are made again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from eventmicro.errors import NotStored, TransportError, UsageError
from eventmicro_rabbitmq.connection.connection import Connection, end_task
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.errors import DriverError, plain
from eventmicro_rabbitmq.layout import Layout
from eventmicro_rabbitmq.looking import Look
from eventmicro_rabbitmq.places import RabbitExchange

log = logging.getLogger(__name__)


class Renewable(Protocol):
    """What needs exchanges and bindings."""

    subject: str
    queue: Any

    @property
    def layout(self) -> Layout | None: ...

    async def renew(self, look: Look) -> None:
        """Make what is gone.

        Raises:
            TransportError, UsageError: that cannot be done now.
        """
        ...


class Upkeep:
    """Looks every so often at what each subscription needs; AMQP tells nobody that it is gone.

    What is gone is made half of that time later: who publishes meanwhile is refused by RabbitMQ, and so knows that
    queues are to be bound again. Made at once it could be there, with no queue, before a publisher has seen it gone.

    Args:
        link: the connection of the subscriptions.
        subscriptions: those that there are.
        every: how often, in seconds.
        timeout: how long the server may take to answer, in seconds.
    """

    def __init__(
        self, link: Link, subscriptions: Callable[[], Iterable[Renewable]], every: float, timeout: float
    ) -> None:
        self._link = link
        self._subscriptions = subscriptions
        self._every = every
        self._timeout = timeout
        self._said: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on, until `close`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="eventmicro rabbitmq upkeep")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            await end_task(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if await self.look(makes=False):
                await asyncio.sleep(self._every / 2)
                await self.look(makes=True)

    async def look(self, *, makes: bool = True) -> bool:
        """Look once, and make what is gone or leave it; whether something was."""
        look = Look(await self._link.wait(), self._timeout, makes=makes)
        unlike = {f"{each.queue or id(each)} {each.layout}": each for each in self._subscriptions()}
        try:
            for name, subscription in unlike.items():
                await self._look_after(name, subscription, look)
        finally:
            await look.close()
        return look.gone

    async def _look_after(self, name: str, subscription: Renewable, look: Look) -> None:
        try:
            await subscription.renew(look)
            if look.makes or not look.gone:  # else it may be what is gone, and is left alone for now
                self._said.pop(name, None)
        except (TransportError, UsageError, *DriverError) as error:
            if not look.connection.lost.done() and self._said.get(name) != plain(error):
                self._said[name] = plain(error)
                log.error(
                    "subscription to %s: its events may not come: %s",
                    subscription.subject,
                    plain(error),
                    extra={"subject": subscription.subject},
                )
        except Exception:  # it never should; the others are to be looked after
            log.exception(
                "subscription to %s could not be looked after",
                subscription.subject,
                extra={"subject": subscription.subject},
            )


class Target:
    """An exchange that is published to: made when it is first needed, and again where somebody has deleted it.

    Not at once then, nor is it published to where a subscriber has made it again: what the queues of the others, that
    are not bound yet, should have got would be confirmed and go nowhere.

    Args:
        exchange: which one; None: that of the settings.
        patience: how long they may take, in seconds.
    """

    def __init__(self, declarer: Declarer, exchange: RabbitExchange | None, patience: float) -> None:
        self._declarer = declarer
        self._exchange = exchange or declarer.events
        self._patience = patience
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

    async def _wait_for_subscribers(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        if self._gone_since is None and not await self._declarer.stands(connection, self._exchange):
            self._gone_since = now
            self._declarer.forget(self._exchange.name)
        left = 0.0 if self._gone_since is None else self._gone_since + self._patience - now
        if left > 0:
            raise NotStored(
                f"no exchange {self._exchange.name!r}, somebody has deleted it; it is published to again in "
                f"{left:.1f} s, when its subscribers have bound their queues"
            )
