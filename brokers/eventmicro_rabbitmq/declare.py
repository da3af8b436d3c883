"""Making, checking or leaving alone what must be there in RabbitMQ: exchanges, queues, bindings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from eventmicro.broker import Durable
from eventmicro.checks import try_each
from eventmicro.errors import UsageError
from eventmicro_rabbitmq.connection.channel import Asking, Channel, answered, borrowed_channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.kept import KeptChannel
from eventmicro_rabbitmq.errors import DriverError, plain, translate
from eventmicro_rabbitmq.exchanges import check_exchange, is_used, make_exchange, refused, stands
from eventmicro_rabbitmq.existing import check_existing, check_live, check_said, look_at
from eventmicro_rabbitmq.layout import Layout, layout_of
from eventmicro_rabbitmq.looking import Look
from eventmicro_rabbitmq.places import Declare, RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.queues import check_queue, declare_queue, exists, missing_queue
from eventmicro_rabbitmq.settings import RabbitSettings
from eventmicro_rabbitmq.topology import (
    Arguments,
    binding_key,
    dead_exchange,
    handling_arguments,
    live_arguments,
    live_queue,
    placed_arguments,
    queue_arguments,
    retry_arguments,
)

log = logging.getLogger(__name__)


class Declarer:
    """What `declare` of the settings, or of a place, says is done here; each step on a channel of its own, which a
    failure ends. What calls need besides is in `calls/`.
    """

    def __init__(self, settings: RabbitSettings) -> None:
        self.events = RabbitExchange(settings.exchange)
        self._dead = RabbitExchange(dead_exchange(settings.exchange), type="direct")
        self._declare = settings.declare
        self.consumer_timeout = settings.consumer_timeout
        self._pending_messages = settings.pending_messages
        self._new_queue_wait = settings.new_queue_wait
        self.timeout = settings.declare_timeout
        self._making = asyncio.Lock()
        self._made_on: Connection | None = None
        self._safe: dict[str, float] = {}
        self._watching = KeptChannel(self.timeout)
        self._described = {self.events.name: self.events}
        self._found: dict[str, Arguments | None] = {}
        self._as_they_are: set[str] = set()  # exchanges that are made otherwise, and will do

    @property
    def makes(self) -> bool:
        """Whether what is missing is made."""
        return self._declare == "true"

    def mode(self, declare: Declare) -> str:
        """What is done about a place: `true`, `check` or `false`."""
        return self._declare if declare is None else str(declare).lower()

    def check_description(self, exchange: RabbitExchange) -> None:
        """Refuse an exchange that another topic or subscriber describes otherwise: one of both would not get its will.

        Raises:
            UsageError: it is.
        """
        known = self._described.get(exchange.name, exchange)
        if known is not exchange and not known.is_made_as(exchange):
            raise UsageError(
                f"exchange {exchange.name!r} is described in two ways: {known!r} and {exchange!r}: write it once, and "
                f"use that for all its topics and subscribers"
            )

    async def exchange(self, connection: Connection, exchange: RabbitExchange | None = None) -> None:
        """An exchange, with its own bindings; that of the settings where none is named.

        Raises:
            UsageError: it cannot be had, or another one who asked for it at the same time describes it otherwise.
        """
        wanted = exchange or self.events
        if not wanted.is_given and self.mode(wanted.declare) != "false":
            await self._once(connection, wanted.name, lambda: self._one_exchange(connection, wanted))
        self.check_description(wanted)
        self._described.setdefault(wanted.name, wanted)  # one that was refused may be described anew

    async def durable_queue(
        self, connection: Connection, subject: str, queue: str, durable: Durable, layout: Layout | None = None
    ) -> None:
        """A durable queue, bound to its subject, and that of its dead letters; when it returns a kill does no harm.

        One after the other: who consumes from a queue that another one is just making loses the connection.
        """
        layout = layout or layout_of(subject, queue, self.events, None)
        for exchange in layout.exchanges:
            await self.exchange(connection, exchange)
        if durable.dead_letter is not None:
            await self.exchange(connection)
        async with self._making:
            await self._main_queue(connection, queue, durable, layout)
            await self._bind_all(connection, queue, layout)
            if durable.dead_letter is not None and self._declare != "false":
                await self._dead_letters(connection, durable.dead_letter, queue)
        safe = max(self._safe.get(name, 0.0) for name in (queue, durable.dead_letter or queue))
        wait = safe - asyncio.get_running_loop().time()
        if wait > 0:
            log.info(
                "queue %s is new, %.1f s until a kill of RabbitMQ does it no harm (new_queue_wait)",
                queue,
                wait,
                extra={"queue": queue},
            )
            await asyncio.sleep(wait)

    async def declare(
        self, connection: Connection, subject: str, queue: str | None, durable: Durable | None, layout: Layout
    ) -> dict[str, bool]:
        """The exchanges, and for a durable queue all that it needs: what is there now, and whether that is new."""
        ask = self._asking(connection)
        exchanges = [each for each in (layout.exchanges or (layout.exchange,)) if not each.is_given]
        ours = [] if durable is None or durable.dead_letter is None else [self.events]
        needs_dead = durable is not None and (self.makes or await stands(ask, self._dead))  # it is not asked for
        dead = [self._dead] if needs_dead else []
        made = {f"exchange {each.name}": not await stands(ask, each) for each in (*exchanges, *ours, *dead)}
        if durable is None or queue is None:
            for exchange in exchanges:
                await self.exchange(connection, exchange)
            return made
        names = [queue] if durable.dead_letter is None else [queue, durable.dead_letter]
        made |= {f"queue {name}": not await exists(ask, name) for name in names}
        if not self.makes:
            await self._check(connection, queue, durable, layout, [*exchanges, *ours])
        await self.durable_queue(connection, subject, queue, durable, layout)
        return made

    async def _check(
        self, connection: Connection, queue: str, durable: Durable, layout: Layout, exchanges: list[RabbitExchange]
    ) -> None:
        """Look at everything, though something is missing: the queue may also be there, and not as it should be."""
        steps: list[Callable[[], Awaitable[None]]] = [partial(self.exchange, connection, each) for each in exchanges]
        steps.append(partial(self._main_queue, connection, queue, durable, layout))
        if durable.dead_letter is not None and self._declare != "false":
            steps.append(partial(self._dead_letters, connection, durable.dead_letter, queue))
        await try_each(steps)

    async def renew(self, look: Look, subject: str, queue: str, layout: Layout, durable: Durable | None = None) -> None:
        """Make what is gone of a subscription's exchanges and bindings; all of it is there in most cases.

        Raises:
            TransportError, UsageError: that cannot be done now.
        """
        about, connection = f"bindings of queue {queue!r}", look.connection
        try:
            await self._assert(look, about, queue, layout)
            if durable is not None and durable.dead_letter is not None and self.makes:
                await self._assert_letters(look, about, durable.dead_letter, queue)
        except ChannelNotFoundEntity as error:
            look.gone = True
            if not look.makes:
                return
            letters = durable is not None and durable.dead_letter is not None
            await self._exchanges_again(connection, (*layout.exchanges, *[self.events][: int(letters)]), error)
            if durable is not None:
                with suppress(ChannelNotFoundEntity):  # the queue is gone
                    await self._bind_all(connection, queue, layout)  # before all else: until then events go nowhere
                await self.durable_queue(connection, subject, queue, durable, layout)
            elif layout.queue is None or layout.queue.durable:
                await self._make_live_again(connection, queue, layout)
        except ChannelPreconditionFailed as error:
            if not is_used(error):
                raise refused(about, error) from error
            self._as_they_are |= {exchange.name for exchange in layout.exchanges}
        except DriverError as error:
            raise translate(error, about) from error

    async def stands(self, connection: Connection, exchange: RabbitExchange) -> bool:
        """Whether an exchange is there; where it is not made from here, the server says so when it is published to."""
        return not self.remakes(exchange) or await stands(self._asking(connection), exchange)

    def remakes(self, exchange: RabbitExchange) -> bool:
        """Whether it is made again from here where it is gone."""
        return not exchange.is_given and self.mode(exchange.declare) == "true"

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

    def look_anew(self, queue: str) -> None:
        """What is known of a queue of others was so: it may have been made otherwise since."""
        self._found.pop(queue, None)

    def goes_to_one(self, queue: str) -> bool:
        """Whether a queue of others hands its events to one consumer at a time, as far as is known."""
        return bool((self._found.get(queue) or {}).get("x-single-active-consumer"))

    def has_priorities(self, queue: str, layout: Layout) -> bool:
        """Whether a queue hands out what is urgent first, as far as is known."""
        said = {} if layout.queue is None else layout.queue.said
        return "x-max-priority" in said.keys() | (self._found.get(queue) or {}).keys()

    def forget(self, name: str) -> None:
        """It is not there any more: make it when it is next needed."""
        self._safe.pop(name, None)

    async def live_queue(self, channel: Channel, subject: str, queue: str | None, layout: Layout | None = None) -> str:
        """The queue of a subscription that is not durable, bound; it goes with its last consumer. Its name."""
        layout = layout or layout_of(subject, queue, self.events, None)
        for exchange in layout.exchanges:
            await self.exchange(channel.link, exchange)
        if layout.queue is not None:
            await self._live_place(channel.link, layout.queue)
            await self._bind_all(channel.link, layout.queue.name, layout)
            return layout.queue.name
        shared = queue is not None
        name = live_queue(layout.exchange.name, queue, subject) if queue is not None else ""
        arguments = live_arguments(self._pending_messages, shared=shared)
        about = f"subscription to {subject}"
        async with answered(about, self.timeout):
            try:
                made = await channel.queue_declare(
                    name, durable=shared, exclusive=not shared, auto_delete=True, arguments=arguments
                )
                for bound in layout.bound:
                    await channel.queue_bind(
                        made.queue or name, bound.exchange.name, bound.key, arguments=bound.arguments
                    )
            except ChannelAccessRefused as error:
                raise refused(about, error) from error
        return made.queue or name

    async def _main_queue(self, connection: Connection, queue: str, durable: Durable, layout: Layout) -> None:
        if layout.queue is not None:
            await self._placed_queue(connection, layout.queue, durable)
        elif self._declare == "false":
            await self._look_at(connection, queue, ordered=durable.ordered)
        else:
            if self.makes:
                await make_exchange(self._asking(connection), self._dead)
            arguments = queue_arguments(self.events.name, queue, ordered=durable.ordered)
            await self._kept_queue(connection, queue, arguments | self._handling(durable))

    def _handling(self, durable: Durable) -> Arguments:
        return handling_arguments(durable.timeout, self.consumer_timeout)

    async def _placed_queue(self, connection: Connection, place: RabbitQueue, durable: Durable) -> None:
        """A queue that its subscriber describes: one that is there is used as it is, if that keeps what is promised."""
        mode, ask = self.mode(place.declare), self._asking(connection)
        if await exists(ask, place.name):
            await self._look_at(connection, place.name, ordered=durable.ordered, said=place.said)
            return
        self._found.pop(place.name, None)
        if mode == "false":
            return
        arguments = placed_arguments(self.events.name, place.name, place.said, ordered=durable.ordered)
        arguments |= {} if place.arguments.keys() & self._handling(durable).keys() else self._handling(durable)
        if mode == "check":
            raise missing_queue(place.name, arguments)
        flags = {"durable": place.durable, "auto_delete": not place.auto_delete, "exclusive": not place.exclusive}
        gone = {name: "" for name, is_right in flags.items() if not is_right}
        check_existing(place.name, arguments | gone, ordered=durable.ordered, major=connection.major)
        if self.makes:
            await make_exchange(ask, self._dead)
        await self._kept_queue(connection, place.name, arguments, make=True)

    async def _live_place(self, connection: Connection, place: RabbitQueue) -> None:
        """The queue of a subscription that is not durable, as its subscriber describes it."""
        mode, ask = self.mode(place.declare), self._asking(connection)
        if await exists(ask, place.name):
            found = None if place.exclusive else await look_at(ask, place.name)
            check_live(place.name, found or {}, place.said)
            return
        if mode == "check":
            raise missing_queue(place.name, place.said)
        check_live(place.name, {}, place.said)
        if mode == "true":
            await declare_queue(ask, place.name, place.said, place)

    async def _dead_letters(self, connection: Connection, name: str, queue: str) -> None:
        """The queue of the dead letters of `queue`."""
        await self._kept_queue(connection, name, queue_arguments(self.events.name, name))
        await self._bind(connection, name, self.events, binding_key(name))
        if self.makes:
            await make_exchange(self._asking(connection), self._dead)
            await self._bind(connection, name, self._dead, queue)

    async def _kept_queue(self, connection: Connection, name: str, arguments: Arguments, *, make: bool = False) -> None:
        if await self._queue(connection, name, arguments, make=make):
            self._safe[name] = asyncio.get_running_loop().time() + self._new_queue_wait

    def _asking(self, connection: Connection) -> Asking:
        return lambda about: borrowed_channel(connection, about, self.timeout)

    async def _one_exchange(self, connection: Connection, exchange: RabbitExchange) -> None:
        ask = self._asking(connection)
        if self.mode(exchange.declare) == "check":
            await check_exchange(ask, exchange)
            return
        await make_exchange(ask, exchange)
        for binding in exchange.bindings:
            source = binding.exchange or self.events
            if not source.is_given and self.mode(source.declare) == "true":
                await make_exchange(ask, source)
            async with ask(f"binding of exchange {exchange.name!r}") as channel:
                key = binding.key if binding.key is not None else "#"
                await channel.exchange_bind(exchange.name, source.name, key, arguments=dict(binding.arguments))

    async def _queue(self, connection: Connection, name: str, arguments: Arguments, *, make: bool = False) -> bool:
        """A queue; whether it is new."""
        ask = self._asking(connection)
        is_new = not await exists(ask, name)
        if not self.makes and not make:
            await check_queue(ask, name, arguments, missing=is_new)
            return False
        await declare_queue(ask, name, arguments)
        return is_new

    async def _look_at(
        self, connection: Connection, queue: str, *, ordered: bool, said: Arguments | None = None
    ) -> None:
        """Refuse a queue of others that cannot keep what is promised, as far as they let us know."""
        ask = self._asking(connection)
        if not await exists(ask, queue):
            self._found.pop(queue, None)
            return
        if queue not in self._found:  # each look is an error or more in RabbitMQ's log
            self._found[queue] = await look_at(ask, queue)
        found = self._found[queue]
        if found is not None:
            check_said(queue, found, said or {})
            check_existing(queue, found, ordered=ordered, major=connection.major)

    async def _bind_all(self, connection: Connection, queue: str, layout: Layout) -> None:
        if self.mode(layout.queue.declare if layout.queue else None) == "true":
            for bound in layout.bound:
                await self._bind(connection, queue, bound.exchange, bound.key, bound.arguments)

    async def _bind(
        self, connection: Connection, queue: str, exchange: RabbitExchange, key: str, arguments: Arguments | None = None
    ) -> None:
        if not self.makes and arguments is None:  # AMQP does not tell what is bound
            return
        about = f"binding of queue {queue!r} to {key!r}"
        async with self._asking(connection)(about) as channel:
            try:
                await channel.queue_bind(queue, exchange.name, key, arguments=arguments or {})
            except ChannelAccessRefused as error:
                raise refused(about, error) from error

    async def _assert(self, look: Look, about: str, queue: str, layout: Layout) -> None:
        """Say once more what there is to be, as far as it is made from here; what is missing ends the channel."""
        for exchange in layout.exchanges:
            if exchange.is_given or self.mode(exchange.declare) == "false":
                continue
            await look.there(about, exchange)
            if self.mode(exchange.declare) == "true" and exchange.name not in self._as_they_are:
                await look.made(about, exchange)
        if self.mode(layout.queue.declare if layout.queue else None) == "true":
            for bound in layout.bound:
                await look.bound(about, queue, bound.exchange, bound.key, bound.arguments)

    async def _assert_letters(self, look: Look, about: str, name: str, queue: str) -> None:
        await look.there(about, self.events)
        await look.bound(about, name, self.events, binding_key(name), {})
        await look.bound(about, name, self._dead, queue, {})

    async def _exchanges_again(
        self, connection: Connection, exchanges: Sequence[RabbitExchange], error: Exception
    ) -> None:
        """Make those of them that are gone, and say so where it is done."""
        for exchange in exchanges:
            self.forget(exchange.name)
        for exchange in exchanges:
            await self.exchange(connection, exchange)
        if any(self.mode(exchange.declare) == "true" and not exchange.is_given for exchange in exchanges):
            log.warning("%s: it is made again", plain(error))

    async def _make_live_again(self, connection: Connection, queue: str, layout: Layout) -> None:
        async with self._asking(connection)(f"binding of queue {queue!r}") as channel:
            for bound in layout.bound:
                await channel.queue_bind(queue, bound.exchange.name, bound.key, arguments=bound.arguments)

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
