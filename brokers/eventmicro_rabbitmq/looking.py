"""One look at what subscriptions need: what several of them need is asked for once, and all on one channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable

from eventmicro_rabbitmq.connection.channel import Channel, answered, close_channel, open_channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.exchanges import declare_exchange
from eventmicro_rabbitmq.places import RabbitExchange
from eventmicro_rabbitmq.topology import Arguments

Ask = Callable[[Channel], Awaitable[object]]


class Look:
    """Lives for as long as it takes; what is not there ends its channel, and the next question is on another one.

    Args:
        timeout: how long the server may take to answer, in seconds.
        makes: whether what is gone is made now; else it is only noted in `gone` that there is something.
    """

    def __init__(self, connection: Connection, timeout: float, *, makes: bool) -> None:
        self.connection = connection
        self.makes = makes
        self.gone = False
        self._timeout = timeout
        self._channel: Channel | None = None
        self._answered: set[Hashable] = set()

    async def there(self, about: str, exchange: RabbitExchange) -> None:
        """Ask whether an exchange is there; errors as of `bound`."""
        await self._ask(about, exchange.name, lambda c: c.exchange_declare(exchange.name, passive=True))

    async def made(self, about: str, exchange: RabbitExchange) -> None:
        """Ask whether it is as it is described; errors as of `bound`."""
        await self._ask(about, repr(exchange), lambda channel: declare_exchange(channel, exchange))

    async def bound(self, about: str, queue: str, exchange: RabbitExchange, key: str, arguments: Arguments) -> None:
        """Bind a queue, though it is bound most likely.

        Raises:
            Disconnected: the server did not answer.
            DriverError: it refuses.
        """
        what = queue, exchange.name, key, repr(arguments)
        await self._ask(about, what, lambda c: c.queue_bind(queue, exchange.name, key, arguments=arguments))

    async def _ask(self, about: str, what: Hashable, ask: Ask) -> None:
        """Ask, unless the same was answered before; nothing is known of what has failed."""
        if what in self._answered:
            return
        async with answered(about, self._timeout):
            channel = self._channel
            if channel is None or channel.why_ended is not None:
                channel = self._channel = await open_channel(self.connection)
            try:
                await ask(channel)
            except BaseException:  # it is being closed: by the server, or by aiormq where this is cancelled
                self._channel = None
                await close_channel(channel)
                raise
        self._answered.add(what)

    async def close(self) -> None:
        """Ask no more."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await close_channel(channel)
