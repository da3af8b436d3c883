"""What calls need in RabbitMQ: the exchange that they are sent to, and the queues of those who answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from eventmicro_rabbitmq.connection.channel import Channel, answered
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.exchanges import refused, stands
from eventmicro_rabbitmq.places import RabbitExchange
from eventmicro_rabbitmq.settings import RabbitSettings
from eventmicro_rabbitmq.topology import binding_key, call_exchange, call_queue, exchanges_of, live_arguments


class CallDeclarer(Declarer):
    """Makes what calls need, too; their queues, which go with who listens, whatever `declare` of the settings says."""

    def __init__(self, settings: RabbitSettings) -> None:
        super().__init__(settings)
        self._calls = RabbitExchange(call_exchange(settings.exchange))

    async def declare_calls(self, connection: Connection) -> dict[str, bool]:
        """The exchange that calls are sent to: whether it is new."""
        is_new = not await stands(self._asking(connection), self._calls)
        await self.call_exchange(connection)
        return {f"exchange {self._calls.name}": is_new}

    async def call_exchange(self, connection: Connection) -> None:
        """The exchange that calls are sent to."""
        await self.exchange(connection, self._calls)

    async def call_queue(self, channel: Channel, subject: str) -> str:
        """The queue of those who share the calls on a subject, bound; it goes with the last of them. Its name."""
        await self.exchange(channel.link)
        await self.call_exchange(channel.link)
        name, about = call_queue(subject), f"calls of {subject}"
        arguments = live_arguments(self._pending_messages, shared=True)
        async with answered(about, self.timeout):
            try:
                await channel.queue_declare(name, durable=True, auto_delete=True, arguments=arguments)
            except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
                raise refused(f"queue {name!r}, for {about}", error) from error
            for exchange in exchanges_of(self.events.name, subject):
                await self._bind_call(channel, name, exchange, subject)
        return name

    async def own_queue(self, channel: Channel, subjects: Callable[[], Iterable[str]]) -> str:
        """The queue of one connection alone, bound for calls on subjects, which may become more meanwhile; its name."""
        await self.call_exchange(channel.link)
        about = "the queue of a connection's own, for calls"
        async with answered(about, self.timeout):
            try:
                made = await channel.queue_declare("", exclusive=True, auto_delete=True)
            except ChannelAccessRefused as error:
                raise refused(about, error) from error
            name, bound = made.queue or "", set[str]()
            while missing := set(subjects()) - bound:
                for subject in sorted(missing):
                    await self.bind_call(channel, name, subject)
                bound |= missing
        return name

    async def bind_call(self, channel: Channel, queue: str, subject: str) -> None:
        """Have calls on a subject come to a queue."""
        await self._bind_call(channel, queue, self._calls.name, subject)

    async def unbind_call(self, channel: Channel, queue: str, subject: str) -> None:
        """Have them come no more."""
        await channel.queue_unbind(queue, self._calls.name, binding_key(subject))

    async def _bind_call(self, channel: Channel, queue: str, exchange: str, subject: str) -> None:
        try:
            await channel.queue_bind(queue, exchange, binding_key(subject))
        except ChannelAccessRefused as error:
            raise refused(f"binding of queue {queue!r} to {subject!r} on {exchange!r}", error) from error
