"""Making, checking or leaving alone what must be there in RabbitMQ: exchange, queues, bindings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from eventmicro.broker import Durable
from eventmicro.errors import UsageError
from eventmicro_rabbitmq.connection.channel import Asking, Channel, answered, borrowed_channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.kept import KeptChannel
from eventmicro_rabbitmq.errors import DriverError, plain, translate
from eventmicro_rabbitmq.existing import INEQUIVALENT, UNMAKEABLE, check_existing, look_at
from eventmicro_rabbitmq.settings import RabbitSettings
from eventmicro_rabbitmq.topology import (
    Arguments,
    binding_key,
    call_exchange,
    call_queue,
    dead_exchange,
    exchanges_of,
    live_arguments,
    live_queue,
    queue_arguments,
    retry_arguments,
)

log = logging.getLogger(__name__)


# How something of a kind is removed; rabbitmqctl has no command for exchanges.
REMOVE = {
    "queue": " when nothing is left in it: rabbitmqctl delete_queue {}, with -p VHOST where that is not /",
    "exchange": ": rabbitmqadmin delete exchange name={}, or on the page of exchanges of RabbitMQ's management",
}


class Declarer:
    """What `declare` of the settings says is done here; each step on a channel of its own, which a failure ends."""

    def __init__(self, settings: RabbitSettings) -> None:
        self._exchange = settings.exchange
        self._declare = settings.declare
        self._pending_messages = settings.pending_messages
        self._new_queue_wait = settings.new_queue_wait
        self.timeout = settings.declare_timeout
        self._making = asyncio.Lock()
        self._made_on: Connection | None = None
        self._safe: dict[str, float] = {}
        self._watching = KeptChannel(self.timeout)
        self._found: dict[str, Arguments | None] = {}

    @property
    def makes(self) -> bool:
        """Whether what is missing is made."""
        return self._declare == "true"

    async def exchange(self, connection: Connection) -> None:
        """The exchange that events are published to."""
        await self._once(connection, self._exchange, lambda: self._one_exchange(connection, self._exchange, "topic"))

    async def call_exchange(self, connection: Connection) -> None:
        """The exchange that calls are sent to."""
        name = call_exchange(self._exchange)
        await self._once(connection, name, lambda: self._one_exchange(connection, name, "topic"))

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
                raise _refused(f"queue {name!r}, for {about}", error) from error
            for exchange in exchanges_of(self._exchange, subject):
                await self._bind_call(channel, name, exchange, subject)
        return name

    async def own_queue(self, channel: Channel, subjects: Callable[[], Iterable[str]]) -> str:
        """The queue of one connection alone, bound for calls on subjects, which may become more meanwhile; its name."""
        await self.call_exchange(channel.link)
        async with answered("the queue of a connection's own, for calls", self.timeout):
            made = await channel.queue_declare("", exclusive=True, auto_delete=True)
            name, bound = made.queue or "", set[str]()
            while missing := set(subjects()) - bound:
                for subject in sorted(missing):
                    await self.bind_call(channel, name, subject)
                bound |= missing
        return name

    async def bind_call(self, channel: Channel, queue: str, subject: str) -> None:
        """Have calls on a subject come to a queue."""
        await self._bind_call(channel, queue, call_exchange(self._exchange), subject)

    async def unbind_call(self, channel: Channel, queue: str, subject: str) -> None:
        """Have them come no more."""
        await channel.queue_unbind(queue, call_exchange(self._exchange), binding_key(subject))

    async def _bind_call(self, channel: Channel, queue: str, exchange: str, subject: str) -> None:
        try:
            await channel.queue_bind(queue, exchange, binding_key(subject))
        except ChannelAccessRefused as error:
            raise _refused(f"binding of queue {queue!r} to {subject!r} on {exchange!r}", error) from error

    async def durable_queue(self, connection: Connection, subject: str, queue: str, durable: Durable) -> None:
        """A durable queue, bound to its subject, and that of its dead letters; when it returns a kill does no harm.

        One after the other: who consumes from a queue that another one is just making loses the connection.
        """
        await self.exchange(connection)
        if self._declare == "false":
            await self._look_at(connection, queue, ordered=durable.ordered)
            return
        arguments = queue_arguments(self._exchange, queue, ordered=durable.ordered)
        async with self._making:
            await self._one_exchange(connection, dead_exchange(self._exchange), "direct")
            await self._kept_queue(connection, queue, arguments)
            await self._bind(connection, queue, self._exchange, binding_key(subject))
            if durable.dead_letter is not None:
                await self._dead_letters(connection, durable.dead_letter, queue)
        safe = max(self._safe.get(name, 0.0) for name in (queue, durable.dead_letter or queue))
        wait = safe - asyncio.get_running_loop().time()
        if wait > 0:
            log.info("queue %s is new, %.1f s until a kill of RabbitMQ does it no harm (new_queue_wait)", queue, wait)
            await asyncio.sleep(wait)

    async def declare(
        self, connection: Connection, subject: str, queue: str | None, durable: Durable | None
    ) -> dict[str, bool]:
        """The exchange, and for a durable queue all that it needs: what is there now, and whether that is new."""
        if durable is None or queue is None:
            is_new = not await self._has_exchange(connection, self._exchange)
            await self.exchange(connection)
            return {f"exchange {self._exchange}": is_new}
        names = [queue] if durable.dead_letter is None else [queue, durable.dead_letter]
        ask = self._asking(connection)
        made = {f"exchange {self._exchange}": not await self._has_exchange(connection, self._exchange)}
        made |= {f"queue {name}": not await _exists(ask, name) for name in names}
        await self.durable_queue(connection, subject, queue, durable)
        return made

    async def _has_exchange(self, connection: Connection, name: str) -> bool:
        async with self._asking(connection)(f"exchange {name!r}") as channel:
            try:
                await channel.exchange_declare(name, passive=True)
            except ChannelNotFoundEntity:
                return False
            return True

    async def has_events(self, connection: Connection, queue: str) -> bool:
        """Whether a queue has events that are with nobody.

        Raises:
            TransportError, UsageError: RabbitMQ does not say it.
        """
        try:
            return bool(await self._watching.count(connection, queue))
        except DriverError as error:
            raise translate(error, f"queue {queue!r}") from error

    async def retry_queue(self, connection: Connection, name: str, queue: str, milliseconds: int) -> float:
        """A queue in which events wait for their next attempt; in how many seconds a kill will do it no harm.

        It may be new though it is there, because another instance has just made it.
        """
        arguments = retry_arguments(queue, milliseconds)
        safe = await self._once(connection, name, lambda: self._queue(connection, name, arguments))
        return safe - asyncio.get_running_loop().time()

    def forget(self, name: str) -> None:
        """It is not there any more: make it when it is next needed."""
        self._safe.pop(name, None)

    async def live_queue(self, channel: Channel, subject: str, queue: str | None) -> str:
        """The queue of a subscription that is not durable, bound; it goes with its last consumer. Its name."""
        await self.exchange(channel.link)
        shared = queue is not None
        name = live_queue(self._exchange, queue, subject) if queue is not None else ""
        arguments = live_arguments(self._pending_messages, shared=shared)
        async with answered(f"subscription to {subject}", self.timeout):
            made = await channel.queue_declare(
                name, durable=shared, exclusive=not shared, auto_delete=True, arguments=arguments
            )
            await channel.queue_bind(made.queue or name, self._exchange, binding_key(subject))
        return made.queue or name

    async def _dead_letters(self, connection: Connection, name: str, queue: str) -> None:
        """The queue of the dead letters of `queue`."""
        await self._kept_queue(connection, name, queue_arguments(self._exchange, name))
        await self._bind(connection, name, self._exchange, binding_key(name))
        await self._bind(connection, name, dead_exchange(self._exchange), queue)

    async def _kept_queue(self, connection: Connection, name: str, arguments: Arguments) -> None:
        if await self._queue(connection, name, arguments):
            self._safe[name] = asyncio.get_running_loop().time() + self._new_queue_wait

    def _asking(self, connection: Connection) -> Asking:
        return lambda about: borrowed_channel(connection, about, self.timeout)

    async def _one_exchange(self, connection: Connection, name: str, kind: str) -> None:
        if self._declare == "false":
            return
        about = f"exchange {name!r}"
        async with self._asking(connection)(about) as channel:
            try:
                if self._declare == "check":
                    await channel.exchange_declare(name, passive=True)
                else:
                    await channel.exchange_declare(name, exchange_type=kind, durable=True)
            except ChannelNotFoundEntity:
                raise UsageError(
                    f"{about} is missing and declare=check: make it, of type {kind} and durable, or set declare=true"
                ) from None
            except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
                raise _refused(about, error) from error

    async def _queue(self, connection: Connection, name: str, arguments: Arguments) -> bool:
        """A queue; whether it is new."""
        ask = self._asking(connection)
        is_new = not await _exists(ask, name)
        if not self.makes:
            await _check(ask, name, arguments, missing=is_new)
            return False
        about = f"queue {name!r}"
        async with ask(about) as channel:
            try:
                await channel.queue_declare(name, durable=True, arguments=dict(arguments))
            except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
                raise _refused(about, error) from error
        return is_new

    async def _look_at(self, connection: Connection, queue: str, *, ordered: bool) -> None:
        """Refuse a queue of others that cannot keep what is promised, as far as they let us know."""
        ask = self._asking(connection)
        if not await _exists(ask, queue):
            self._found.pop(queue, None)
            return
        if queue not in self._found:  # each look is an error or more in RabbitMQ's log
            self._found[queue] = await look_at(ask, queue)
        found = self._found[queue]
        if found is not None:
            check_existing(queue, found, ordered=ordered, major=connection.major)

    async def _bind(self, connection: Connection, queue: str, exchange: str, key: str) -> None:
        if not self.makes:  # AMQP does not tell what is bound
            return
        about = f"binding of queue {queue!r} to {key!r}"
        async with self._asking(connection)(about) as channel:
            try:
                await channel.queue_bind(queue, exchange, key)
            except ChannelAccessRefused as error:
                raise _refused(about, error) from error

    async def _once(self, connection: Connection, name: str, make: Callable[[], Awaitable[object]]) -> float:
        """Do it once a connection; from when on what it made is safe, in the event loop's time."""
        async with self._making:
            if connection is not self._made_on:
                self._made_on = connection
                self._safe.clear()
            if name not in self._safe:
                await make()
                self._safe[name] = asyncio.get_running_loop().time() + self._new_queue_wait
            return self._safe[name]


async def _exists(ask: Asking, queue: str) -> bool:
    """Whether it is there, which everybody may ask."""
    async with ask(f"queue {queue!r}") as channel:
        try:
            await channel.queue_declare(queue, passive=True)
        except ChannelNotFoundEntity:
            return False
        except ChannelLockedResource as error:
            raise UsageError(f"queue {queue!r}: another connection has it for itself: {plain(error)}") from error
        return True


async def _check(ask: Asking, name: str, arguments: Arguments, *, missing: bool) -> None:
    """Refuse a queue that is missing or made otherwise, and make none, also where it is gone meanwhile."""
    about = f"queue {name!r}"
    if not missing:
        async with ask(about) as channel:
            try:
                await channel.queue_declare(name, durable=True, arguments=arguments | UNMAKEABLE)
            except ChannelAccessRefused as error:  # it is there, and more is not told
                log.info("%s is not compared: %s", about, plain(error))
            except ChannelPreconditionFailed as error:
                difference = INEQUIVALENT.search(plain(error))
                if difference is not None and difference[1] not in UNMAKEABLE:
                    raise _refused(about, error) from error
                missing = difference is None
    if missing:
        raise UsageError(
            f"{about} is missing and declare=check: make it, durable, with {arguments}, or set declare=true"
        )


def _refused(about: str, error: Exception) -> UsageError:
    """In whose power it is to mend it, and how."""
    text = plain(error)
    difference = INEQUIVALENT.search(text)
    if difference is not None:
        argument, kind, name, asked, found = difference.groups()
        how = REMOVE.get(kind, "").format(name)
        return UsageError(
            f"{kind} {name!r} exists and is made otherwise: {argument} is {found}, asked for is {asked}; "
            f"use another name, or remove it{how}"
        )
    if isinstance(error, ChannelAccessRefused):
        return UsageError(
            f"{about} may not be made from here: {text}; grant it, or make it elsewhere and set declare=false"
        )
    return UsageError(f"{about}: {text}")
