"""Publishers: those of one broker, one to each exchange that is published to, and what looks after the exchanges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.places import Declare, RabbitExchange
from eventmicro_rabbitmq.publisher import Publisher
from eventmicro_rabbitmq.targets import Target, Targets

log = logging.getLogger(__name__)


class Publishers:
    """All publishers of a broker, each on a channel of its own.

    Args:
        link: the connection that publishes.
        look_every: how often, in seconds, subscriptions look whether their exchanges are there.

    Attributes:
        main: that to the exchange of the settings.
        looking: looks whether the exchanges are there.
    """

    def __init__(self, link: Link, declarer: Declarer, look_every: float) -> None:
        self._link = link
        self._declarer = declarer
        self._patience = 2 * look_every
        self._routed: dict[tuple[str, Declare], tuple[RabbitExchange, Publisher]] = {}  # as topics name exchanges
        self._apart: dict[Publisher, Publisher] = {}  # beside each of them: for events that may end its channel
        self._targets: dict[Publisher, Target] = {}
        self.looking = Targets(link, self._targets, look_every / 2, declarer.timeout)
        self.main = self._new(None)

    def __iter__(self) -> Iterator[Publisher]:
        return iter([self.main, *(publisher for _, publisher in self._routed.values()), *self._apart.values()])

    def to(self, exchange: RabbitExchange) -> Publisher:
        """That to an exchange, whose channel ends where the exchange is gone.

        Raises:
            UsageError: the exchange is described otherwise elsewhere.
        """
        known, publisher = self._routed.get((exchange.name, exchange.declare), (None, None))
        if known is not exchange:
            self._declarer.check_description(exchange)
        if publisher is None:
            publisher = self._new(exchange)
            self._routed[exchange.name, exchange.declare] = exchange, publisher
        return publisher

    def apart(self, publisher: Publisher) -> Publisher:
        """Where the channel that RabbitMQ ends for a user_id, if that is none of ours, is nobody else's."""
        if publisher not in self._apart:
            apart = self._apart[publisher] = publisher.twin()
            self._targets[apart] = self._targets[publisher]
        return self._apart[publisher]

    async def idle(self) -> None:
        """Return when the server has, or has refused, all that was published."""
        for each in self:
            await each.idle()

    async def settle(self, seconds: float, url: str) -> None:
        """The same, for so many seconds at the most."""
        try:
            async with asyncio.timeout(seconds):
                await self.idle()
        except TimeoutError:
            log.warning("%s: closed before %d messages were confirmed", url, sum(map(len, self)))

    def close(self) -> None:
        """End them; what is not confirmed fails."""
        for each in self:
            each.close()
        self._targets.clear()

    def _new(self, exchange: RabbitExchange | None) -> Publisher:
        target = Target(self._declarer, exchange, self._patience, self.looking.begin)
        publisher = Publisher(self._link, target.prepare)
        self._targets[publisher] = target
        return publisher
