"""Upkeep: exchanges and bindings that somebody deletes under a subscription are made again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from eventmicro.errors import TransportError, UsageError
from eventmicro_rabbitmq.connection.connection import end_task
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.errors import DriverError, plain
from eventmicro_rabbitmq.layout import Layout
from eventmicro_rabbitmq.looking import Look

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
